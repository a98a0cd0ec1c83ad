/** Zip archives from a description: right by itself, wrong where it is told to be. */
import { crc32, deflateRawSync } from 'node:zlib';

/** Numbers of one record's headers; what is absent is right. */
interface Fields {
  readonly name?: string;
  readonly flags?: number;
  readonly method?: number;
  readonly crc?: number;
  readonly compressed?: number;
  readonly size?: number;
  readonly offset?: number;
  readonly disk?: number;
  /** length of the extra field */
  readonly extra?: number;
  readonly nameHex?: string;
}

export interface ZipRecord {
  readonly name: string;
  readonly content: Uint8Array;
  /** 8: deflated */
  readonly method?: number;
  /** what the directory says instead */
  readonly central?: Fields;
  /** what the local header says instead */
  readonly local?: Fields;
  /** sizes and offset of the directory in a zip64 field */
  readonly zip64?: boolean;
  /** crc and sizes 0 in the local header, behind the data instead */
  readonly later?: boolean;
  /** bytes of the local extra field, as PyTorch aligns with */
  readonly padding?: number;
}

export interface ZipEnd {
  readonly count?: number;
  readonly size?: number;
  readonly start?: number;
  readonly disk?: number;
  /** with a zip64 end and locator, as PyTorch always writes */
  readonly zip64?: boolean;
  readonly locator?: number;
  readonly count64?: number;
  readonly comment?: string;
  /** bytes (as text) between the directory and its end */
  readonly gap?: string;
}

const u16 = (value: number): Buffer => Buffer.from([value % 256, Math.floor(value / 256) % 256]);
const u32 = (value: number): Buffer => Buffer.concat([u16(value % 65536), u16(Math.floor(value / 65536))]);
const u64 = (value: number): Buffer => {
  const out = Buffer.alloc(8);
  out.writeBigUInt64LE(BigInt(value));
  return out;
};

export function zipBytes(records: readonly ZipRecord[], end: ZipEnd = {}): Buffer {
  const parts: Buffer[] = [];
  const central: Buffer[] = [];
  let at = 0;
  for (const record of records) {
    const { name, content, method = 0, padding = 0, zip64 = false, later = false } = record;
    const data = method === 8 ? deflateRawSync(content) : Buffer.from(content);
    const fields = {
      name,
      flags: later ? 8 : 0x800,
      method,
      crc: crc32(content),
      compressed: data.length,
      size: content.length,
      offset: at,
      disk: 0,
      extra: padding,
    };
    const inLocal = { ...fields, ...(later && { crc: 0, compressed: 0, size: 0 }), ...record.local };
    const local = Buffer.concat([
      Buffer.from('PK\u0003\u0004'),
      ...[u16(20), u16(inLocal.flags), u16(inLocal.method), u32(0)],
      ...[u32(inLocal.crc), u32(inLocal.compressed), u32(inLocal.size)],
      ...[
        u16(Buffer.byteLength(inLocal.name)),
        u16(inLocal.extra),
        Buffer.from(inLocal.name),
        Buffer.alloc(padding),
      ],
    ]);
    const behind = later
      ? Buffer.concat([Buffer.from('PK\u0007\u0008'), u32(fields.crc), u32(data.length), u32(content.length)])
      : Buffer.alloc(0);
    parts.push(local, data, behind);
    const said = { ...fields, ...record.central };
    const wide = zip64 ? [u64(said.size), u64(said.compressed), u64(said.offset)] : [];
    const extra = zip64 ? Buffer.concat([u16(1), u16(24), ...wide]) : Buffer.alloc(0);
    const narrow = (value: number): Buffer => u32(zip64 ? 0xffffffff : value);
    const nameBytes = said.nameHex === undefined ? Buffer.from(said.name) : Buffer.from(said.nameHex, 'hex');
    central.push(
      Buffer.concat([
        Buffer.from('PK\u0001\u0002'),
        ...[u16(20), u16(20), u16(said.flags), u16(said.method), u32(0), u32(said.crc)],
        ...[narrow(said.compressed), narrow(said.size), u16(nameBytes.length), u16(extra.length)],
        ...[u16(0), u16(said.disk), u16(0), u32(0), narrow(said.offset), nameBytes, extra],
      ]),
    );
    at += local.length + data.length + behind.length;
  }
  const directory = Buffer.concat(central);
  const count = end.count ?? records.length;
  const size = end.size ?? directory.length;
  const start = end.start ?? at;
  const gap = Buffer.from(end.gap ?? '');
  const end64At = at + directory.length + gap.length;
  const end64 = end.zip64
    ? [
        ...[Buffer.from('PK\u0006\u0006'), u64(44), u16(45), u16(45), u32(0), u32(0)],
        ...[u64(end.count64 ?? count), u64(end.count64 ?? count), u64(size), u64(start)],
        ...[Buffer.from('PK\u0006\u0007'), u32(0), u64(end.locator ?? end64At), u32(1)],
      ]
    : [];
  const comment = Buffer.from(end.comment ?? '', 'latin1');
  return Buffer.concat([
    ...parts,
    directory,
    gap,
    ...end64,
    ...[Buffer.from('PK\u0005\u0006'), u16(end.disk ?? 0), u16(0), u16(count), u16(count)],
    ...[u32(size), u32(start), u16(comment.length), comment],
  ]);
}
