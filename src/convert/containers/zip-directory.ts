/**
 * The central directory of a zip archive, read by byte ranges and believed in nothing: every record lies inside the
 * file, none overlaps another, no name comes twice, and there is exactly one place where the directory can be.
 *
 * An own reader, because the guarantees are the point: general ones give entry by entry what the directory says.
 *
 * @see PKWARE APPNOTE.TXT 4.3 (records), 4.5.3 (zip64); PyTorch `caffe2/serialize/inline_container.cc` writes these
 */
import type { ByteSource } from '../../bytes.js';
import { FormatError, printable } from '../../errors.js';
import { grouped, shortName } from '../checkpoint.js';

export interface ZipEntry {
  readonly name: string;
  readonly flags: number;
  /** 0 stored, 8 deflated */
  readonly method: number;
  readonly crc32: number;
  /** bytes in the file */
  readonly compressed: number;
  /** bytes of the content */
  readonly size: number;
  /** of the local header */
  readonly offset: number;
}

export interface ZipDirectory {
  readonly entries: ReadonlyMap<string, ZipEntry>;
  /** byte at which the directory starts: where the records end */
  readonly start: number;
}

const EOCD_BYTES = 22;
const LOCATOR_BYTES = 20;
const EOCD64_BYTES = 56;
const MAX_COMMENT = 0xffff;
const HEADER_BYTES = 46;
/** The longest names there are would make this many entries fill it. */
const MAX_DIRECTORY_BYTES = 64 * 1024 * 1024;
const MAX_ENTRIES = 100_000;
const AGAIN = { next: 'Download or copy it again.' };

/** @throws FormatError that says which rule of the format is broken */
export async function readZipDirectory(source: ByteSource): Promise<ZipDirectory> {
  const file = shortName(source);
  const end = await findEnd(source, file);
  const { count, size, start } = end;
  if (count > MAX_ENTRIES) {
    throw new FormatError(`${file} has ${grouped(count)} records; at most ${grouped(MAX_ENTRIES)} are read`);
  }
  if (size > MAX_DIRECTORY_BYTES) {
    throw new FormatError(
      `${file} has a directory of ${grouped(size)} bytes; at most ${grouped(MAX_DIRECTORY_BYTES)} are read`,
    );
  }
  if (start + size !== end.at) {
    throw new FormatError(
      `${file}: the zip directory should be bytes ${grouped(start)} to ${grouped(start + size)}; it ends at ${grouped(end.at)}`,
      AGAIN,
    );
  }
  const bytes = await source.read(start, start + size);
  const entries = readEntries(bytes, count, start, file);
  checkPlaces([...entries.values()], start, file);
  return { entries, start };
}

interface End {
  readonly count: number;
  readonly size: number;
  readonly start: number;
  /** where the records about the end begin: the directory ends there */
  readonly at: number;
}

async function findEnd(source: ByteSource, file: string): Promise<End> {
  const tailStart = Math.max(0, source.size - EOCD_BYTES - MAX_COMMENT - LOCATOR_BYTES);
  const tail = await source.read(tailStart, source.size);
  const view = new DataView(tail.buffer, tail.byteOffset, tail.length);
  const found: number[] = [];
  for (let at = tail.length - EOCD_BYTES; at >= 0; at--) {
    // The comment that follows ends where the file ends; anything else is data that looks like an end.
    if (tail[at] !== 0x50 || view.getUint32(at, true) !== 0x06054b50) continue;
    if (at + EOCD_BYTES + view.getUint16(at + 20, true) === tail.length) found.push(at);
  }
  if (found.length === 0) {
    throw new FormatError(
      `${file}: a zip archive ends with its directory, here there is none: it is cut off, or something follows it`,
      AGAIN,
    );
  }
  if (found.length > 1) {
    throw new FormatError(
      `${file} has ${found.length} places where its zip directory could end: readers would disagree about its content`,
    );
  }
  const at = found[0];
  const plain = {
    disk: view.getUint16(at + 4, true),
    startDisk: view.getUint16(at + 6, true),
    countHere: view.getUint16(at + 8, true),
    count: view.getUint16(at + 10, true),
    size: view.getUint32(at + 12, true),
    start: view.getUint32(at + 16, true),
  };
  const position = tailStart + at;
  const locator = at - LOCATOR_BYTES;
  const has64 = locator >= 0 && view.getUint32(locator, true) === 0x07064b50;
  if (!has64) {
    if (plain.count === 0xffff || plain.size === 0xffffffff || plain.start === 0xffffffff) {
      throw new FormatError(
        `${file}: the zip directory's end refers to a zip64 record that is not there`,
        AGAIN,
      );
    }
    refuseDisks(plain.disk, plain.startDisk, plain.countHere, plain.count, file);
    return { count: plain.count, size: plain.size, start: plain.start, at: position };
  }
  const at64 = readU64(view, locator + 8);
  // Its own place is right before the locator: with the version made of two parts there is nothing between them.
  if (at64 > position - LOCATOR_BYTES - EOCD64_BYTES) {
    throw new FormatError(
      `${file}: the zip64 record is said to be at byte ${grouped(at64)}, behind its own locator`,
      AGAIN,
    );
  }
  const record = await source.read(at64, at64 + EOCD64_BYTES);
  const view64 = new DataView(record.buffer, record.byteOffset, record.length);
  const length = readU64(view64, 4) + 12;
  if (view64.getUint32(0, true) !== 0x06064b50 || at64 + length !== position - LOCATOR_BYTES) {
    throw new FormatError(`${file}: there is no zip64 record at byte ${grouped(at64)}`, AGAIN);
  }
  const wide = {
    countHere: readU64(view64, 24),
    count: readU64(view64, 32),
    size: readU64(view64, 40),
    start: readU64(view64, 48),
  };
  refuseDisks(view64.getUint32(16, true), view64.getUint32(20, true), wide.countHere, wide.count, file);
  const same = (narrow: number, value: number, most: number): boolean => narrow === most || narrow === value;
  if (
    !same(plain.count, wide.count, 0xffff) ||
    !same(plain.size, wide.size, 0xffffffff) ||
    !same(plain.start, wide.start, 0xffffffff)
  ) {
    throw new FormatError(`${file}: the two ends of the zip directory, zip and zip64, contradict each other`);
  }
  return { count: wide.count, size: wide.size, start: wide.start, at: at64 };
}

function refuseDisks(disk: number, startDisk: number, here: number, count: number, file: string): void {
  if (disk !== 0 || startDisk !== 0 || here !== count) {
    throw new FormatError(`${file} is one part of a zip archive in several files`, {
      next: 'Put the parts together first (zip -s 0).',
    });
  }
}

function readEntries(bytes: Uint8Array, count: number, start: number, file: string): Map<string, ZipEntry> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const entries = new Map<string, ZipEntry>();
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (bytes.length - at < HEADER_BYTES || view.getUint32(at, true) !== 0x02014b50) {
      throw new FormatError(
        `${file}: the zip directory has ${grouped(count)} entries; there is none at byte ${grouped(start + at)} (entry ${grouped(i)})`,
        AGAIN,
      );
    }
    const nameLength = view.getUint16(at + 28, true);
    const extraLength = view.getUint16(at + 30, true);
    const next = at + HEADER_BYTES + nameLength + extraLength + view.getUint16(at + 32, true);
    if (next > bytes.length) {
      throw new FormatError(`${file}: entry ${grouped(i)} of the zip directory leaves the directory`, AGAIN);
    }
    const nameAt = at + HEADER_BYTES;
    const name = decodeName(bytes.subarray(nameAt, nameAt + nameLength), file, i);
    const record = `${file}: record ${printable(name)}`;
    if (entries.has(name)) throw new FormatError(`${record} is in the zip directory twice`);
    if (view.getUint16(at + 34, true) !== 0) throw new FormatError(`${record} lies in another file`);
    const extra = new DataView(bytes.buffer, bytes.byteOffset + nameAt + nameLength, extraLength);
    const [size, compressed, offset] = widen(
      [view.getUint32(at + 24, true), view.getUint32(at + 20, true), view.getUint32(at + 42, true)],
      extra,
      record,
    );
    entries.set(name, {
      name,
      flags: view.getUint16(at + 8, true),
      method: view.getUint16(at + 10, true),
      crc32: view.getUint32(at + 16, true),
      compressed,
      size,
      offset,
    });
    at = next;
  }
  if (at !== bytes.length) {
    throw new FormatError(
      `${file}: ${grouped(bytes.length - at)} bytes follow the last entry of the zip directory`,
    );
  }
  return entries;
}

/** Fields that are all ones have their value in the zip64 extra field, in this order. */
function widen(fields: readonly number[], extra: DataView, record: string): number[] {
  const wide = fields.filter((value) => value === 0xffffffff).length;
  if (wide === 0) return [...fields];
  for (let at = 0; at + 4 <= extra.byteLength;) {
    const length = extra.getUint16(at + 2, true);
    if (extra.getUint16(at, true) === 1 && at + 4 + length <= extra.byteLength && length >= 8 * wide) {
      let from = at + 4;
      return fields.map((value) => {
        if (value !== 0xffffffff) return value;
        from += 8;
        return readU64(extra, from - 8);
      });
    }
    at += 4 + length;
  }
  throw new FormatError(`${record} refers to zip64 sizes that are not there`, AGAIN);
}

function checkPlaces(entries: readonly ZipEntry[], end: number, file: string): void {
  const sorted = [...entries].sort((a, b) => a.offset - b.offset);
  for (const [i, entry] of sorted.entries()) {
    const record = `${file}: record ${printable(entry.name)}`;
    // Its local header takes 30 bytes and a name; how much more is in that header itself.
    const least = entry.offset + 30 + entry.compressed;
    const next = sorted[i + 1]?.offset ?? end;
    if (least > end) {
      throw new FormatError(
        `${record} (${grouped(entry.compressed)} bytes from byte ${grouped(entry.offset)} on) leaves the file's records, which end at ${grouped(end)}`,
        AGAIN,
      );
    }
    if (least > next) {
      throw new FormatError(`${record} overlaps record ${printable(sorted[i + 1].name)}`);
    }
  }
}

function decodeName(bytes: Uint8Array, file: string, index: number): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new FormatError(`${file}: the name of record ${grouped(index)} is not valid UTF-8`, { cause });
  }
}

/** As a double: beyond 2^53 it rounds, where every comparison with a real size fails the same. */
function readU64(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * 2 ** 32 + view.getUint32(at, true);
}
