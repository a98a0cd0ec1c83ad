/**
 * A zip of stored records whose contents stream by: no record is in memory, every record starts at a multiple of 64
 * bytes. Checksums are known only behind the data, so they stand in a data descriptor there and in the directory, as
 * PyTorch itself writes them.
 *
 * @see PKWARE APPNOTE 4.3 (records, 4.3.9 data descriptor, 4.3.14 zip64); torch `caffe2/serialize/inline_container.cc`
 *   (`PyTorchStreamWriter`: 64-byte alignment through an extra field `FB`)
 */
import { crc32 } from 'node:zlib';
import { byteLength, type Tensor } from '../../tensor.js';
import { pieceLength, type Deferred, type Piece } from '../../sink.js';

export interface ZipRecord {
  /** ASCII */
  readonly name: string;
  readonly content: Uint8Array | Deferred | { readonly tensor: Tensor };
}

const ALIGNMENT = 64;
/** 16-bit and 32-bit fields that hold this mean: look into the zip64 record. */
const MAX_16 = 0xffff;
const MAX_32 = 0xffffffff;
/** bit 3: checksum and sizes follow the data; bit 11: the name is UTF-8 */
const FLAGS = 0x0808;
/** Version needed: 4.5 where 64-bit fields are used. */
const ZIP64 = 45;
/** 1980-01-01, the earliest a zip can say: the same records give the same bytes at any time. */
const DATE = 0x0021;
const PADDING_ID = 0x4246;
const ZIP64_ID = 0x0001;

interface Entry {
  readonly name: Uint8Array;
  readonly size: number;
  readonly offset: number;
  readonly large: boolean;
  crc: number;
}

/** The records, in this order, as pieces to write. They may be written once. */
export function zipPieces(records: readonly ZipRecord[]): Piece[] {
  const pieces: Piece[] = [];
  const entries: Entry[] = [];
  let at = 0;
  const add = (piece: Piece): void => {
    pieces.push(piece);
    at += pieceLength(piece);
  };
  for (const { name, content } of records) {
    const size = lengthOf(content);
    const entry: Entry = {
      name: new TextEncoder().encode(name),
      size,
      offset: at,
      large: size >= MAX_32,
      crc: 0,
    };
    entries.push(entry);
    add(localHeader(entry));
    add(checked(content, entry));
    add({ length: entry.large ? 24 : 16, bytes: () => Promise.resolve(descriptor(entry)) });
  }
  const offset = at;
  const length = entries.reduce((sum, entry) => sum + directoryEntry(entry).length, 0);
  add({ length, bytes: () => Promise.resolve(Buffer.concat(entries.map(directoryEntry))) });
  add(endOfDirectory(entries.length, offset, length));
  return pieces;
}

function lengthOf(content: ZipRecord['content']): number {
  return 'tensor' in content ? byteLength(content.tensor) : content.length;
}

/** The content, its checksum taken while it passes by. */
function checked(content: ZipRecord['content'], entry: Entry): Piece {
  if (content instanceof Uint8Array) {
    entry.crc = crc32(content);
    return content;
  }
  if ('tensor' in content) {
    return {
      tensor: content.tensor,
      observe: (bytes) => {
        entry.crc = crc32(bytes, entry.crc);
      },
    };
  }
  return {
    length: content.length,
    bytes: async () => {
      const bytes = await content.bytes();
      entry.crc = crc32(bytes);
      return bytes;
    },
  };
}

/** Fields one after another, little-endian. */
function fields(...list: readonly (readonly [bytes: 2 | 4 | 8, value: number])[]): Uint8Array {
  const out = new DataView(new ArrayBuffer(list.reduce((sum, [bytes]) => sum + bytes, 0)));
  let at = 0;
  for (const [bytes, value] of list) {
    if (bytes === 2) out.setUint16(at, value, true);
    else if (bytes === 4) out.setUint32(at, value, true);
    else out.setBigUint64(at, BigInt(value), true);
    at += bytes;
  }
  return new Uint8Array(out.buffer);
}

function localHeader(entry: Entry): Uint8Array {
  const zip64 = entry.large
    ? fields([2, ZIP64_ID], [2, 16], [8, entry.size], [8, entry.size])
    : new Uint8Array(0);
  const before = entry.offset + 30 + entry.name.length + zip64.length + 4;
  const padding = (ALIGNMENT - (before % ALIGNMENT)) % ALIGNMENT;
  const head = fields(
    [4, 0x04034b50],
    [2, entry.large ? ZIP64 : 0],
    [2, FLAGS],
    [2, 0],
    [2, 0],
    [2, DATE],
    [4, 0],
    [4, entry.large ? MAX_32 : 0],
    [4, entry.large ? MAX_32 : 0],
    [2, entry.name.length],
    [2, zip64.length + 4 + padding],
  );
  const filler = new Uint8Array(padding).fill(0x5a);
  return Buffer.concat([head, entry.name, zip64, fields([2, PADDING_ID], [2, padding]), filler]);
}

function descriptor({ crc, size, large }: Entry): Uint8Array {
  const width = large ? 8 : 4;
  return fields([4, 0x08074b50], [4, crc], [width, size], [width, size]);
}

function directoryEntry({ name, size, offset, large, crc }: Entry): Uint8Array {
  const far = offset >= MAX_32;
  const zip64 =
    large || far
      ? fields(
          [2, ZIP64_ID],
          [2, (large ? 16 : 0) + (far ? 8 : 0)],
          ...(large
            ? ([
                [8, size],
                [8, size],
              ] as const)
            : []),
          ...(far ? ([[8, offset]] as const) : []),
        )
      : new Uint8Array(0);
  const head = fields(
    [4, 0x02014b50],
    [2, 0],
    [2, large || far ? ZIP64 : 0],
    [2, FLAGS],
    [2, 0],
    [2, 0],
    [2, DATE],
    [4, crc],
    [4, large ? MAX_32 : size],
    [4, large ? MAX_32 : size],
    [2, name.length],
    [2, zip64.length],
    [2, 0],
    [2, 0],
    [2, 0],
    [4, 0],
    [4, far ? MAX_32 : offset],
  );
  return Buffer.concat([head, name, zip64]);
}

/** Always with the 64-bit records, as PyTorch writes them. */
function endOfDirectory(count: number, offset: number, length: number): Uint8Array {
  const end64 = fields(
    [4, 0x06064b50],
    [8, 44],
    [2, ZIP64],
    [2, ZIP64],
    [4, 0],
    [4, 0],
    [8, count],
    [8, count],
    [8, length],
    [8, offset],
  );
  const locator = fields([4, 0x07064b50], [4, 0], [8, offset + length], [4, 1]);
  const end = fields(
    [4, 0x06054b50],
    [2, 0],
    [2, 0],
    [2, Math.min(count, MAX_16)],
    [2, Math.min(count, MAX_16)],
    [4, Math.min(length, MAX_32)],
    [4, Math.min(offset, MAX_32)],
    [2, 0],
  );
  return Buffer.concat([end64, locator, end]);
}
