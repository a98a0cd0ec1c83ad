/**
 * The content of one record of a zip archive: a byte range when it is stored, a stream when it is deflated.
 */
import { crc32 } from 'node:zlib';
import type { ByteRange, ByteSource } from '../../bytes.js';
import { FormatError, printable } from '../../errors.js';
import { grouped, shortName } from '../checkpoint.js';
import { damaged } from './checked-source.js';
import type { ZipDirectory, ZipEntry } from './zip-directory.js';

const LOCAL_BYTES = 30;
/** Deflate gives at most 1,032 bytes for one: what a piece of this size becomes stays small. */
const DEFLATED_PIECE = 16 * 1024;
const MOST_RATIO = 1032;

/**
 * Where a record's bytes lie, after the local header was held against the directory.
 *
 * @throws FormatError when the two disagree, or the record is encrypted or compressed in a way that is not read
 */
export async function locateRecord(
  source: ByteSource,
  directory: ZipDirectory,
  entry: ZipEntry,
): Promise<ByteRange> {
  const record = `${shortName(source)}: record ${printable(entry.name)}`;
  if (entry.flags % 2 === 1) throw new FormatError(`${record} is encrypted`);
  if (entry.method !== 0 && entry.method !== 8) {
    throw new FormatError(
      `${record} is compressed by method ${entry.method}; only stored and deflated are read`,
    );
  }
  if (entry.method === 0 && entry.compressed !== entry.size) {
    throw new FormatError(
      `${record} is stored, but has ${grouped(entry.compressed)} bytes for ${grouped(entry.size)}`,
    );
  }
  if (entry.size > entry.compressed * MOST_RATIO) {
    throw new FormatError(
      `${record} promises ${grouped(entry.size)} bytes out of ${grouped(entry.compressed)}; deflate cannot do that`,
    );
  }
  const name = Buffer.from(entry.name);
  const header = await source.read(
    entry.offset,
    Math.min(entry.offset + LOCAL_BYTES + name.length, directory.start),
  );
  const view = new DataView(header.buffer, header.byteOffset, header.length);
  if (header.length < LOCAL_BYTES + name.length || view.getUint32(0, true) !== 0x04034b50) {
    throw new FormatError(`${record}: there is no local header at byte ${grouped(entry.offset)}`, {
      next: 'Download or copy it again.',
    });
  }
  // Bit 3: crc and sizes follow the data, and may be 0 here. All ones: they are in the extra field.
  const later = view.getUint16(6, true) % 16 >= 8;
  const agrees = (at: number, value: number): boolean => {
    const local = view.getUint32(at, true);
    return local === value || (later && local === 0) || (at !== 14 && local === 0xffffffff);
  };
  if (
    view.getUint16(8, true) !== entry.method ||
    view.getUint16(26, true) !== name.length ||
    Buffer.compare(header.subarray(LOCAL_BYTES), name) !== 0 ||
    !agrees(14, entry.crc32) ||
    !agrees(18, entry.compressed) ||
    !agrees(22, entry.size)
  ) {
    throw new FormatError(`${record}: its local header and the zip directory contradict each other`);
  }
  const start = entry.offset + LOCAL_BYTES + name.length + view.getUint16(28, true);
  if (start + entry.compressed > directory.start) {
    throw new FormatError(
      `${record} leaves the file's records, which end at byte ${grouped(directory.start)}`,
    );
  }
  return { source, start, end: start + entry.compressed };
}

/**
 * The whole content of a small record, its checksum compared.
 *
 * @param most bytes of content that are taken into memory
 */
export async function readRecord(
  source: ByteSource,
  directory: ZipDirectory,
  entry: ZipEntry,
  most: number,
): Promise<Uint8Array> {
  if (entry.size > most) {
    throw new FormatError(
      `${shortName(source)}: record ${printable(entry.name)} has ${grouped(entry.size)} bytes; at most ${grouped(most)} are read`,
    );
  }
  const range = await locateRecord(source, directory, entry);
  if (entry.method === 0) {
    const bytes = await source.read(range.start, range.end);
    const crc = crc32(bytes);
    if (crc !== entry.crc32) throw damaged(source, entry.name, crc, entry.crc32);
    return bytes;
  }
  const bytes = new Uint8Array(entry.size);
  let at = 0;
  for await (const piece of inflateRecord(range, entry)) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

/**
 * A deflated record's content, piece by piece; never more than the directory promises, and its checksum compared.
 *
 * @throws FormatError when it gives more, less or other bytes, or is no deflate stream
 */
export async function* inflateRecord(range: ByteRange, entry: ZipEntry): AsyncGenerator<Uint8Array> {
  const { Inflate } = await import('fflate');
  const record = `${shortName(range.source)}: record ${printable(entry.name)}`;
  let ready: Uint8Array[] = [];
  let ended = false;
  const inflate = new Inflate((piece, final) => {
    ready.push(piece);
    ended ||= final;
  });
  let crc = 0;
  let given = 0;
  for (let at = range.start; at < range.end && !ended; at += DEFLATED_PIECE) {
    const to = Math.min(at + DEFLATED_PIECE, range.end);
    const piece = await range.source.read(at, to);
    try {
      inflate.push(piece, to === range.end);
    } catch (cause) {
      throw new FormatError(
        `${record} is no valid deflate stream (in its bytes ${grouped(at - range.start)} to ${grouped(to - range.start)})`,
        {
          next: 'Download or copy it again.',
          cause,
        },
      );
    }
    for (const part of ready) {
      given += part.length;
      if (given > entry.size) {
        throw new FormatError(
          `${record} inflates to more than the ${grouped(entry.size)} bytes that the zip directory promises`,
        );
      }
      crc = crc32(part, crc);
      if (part.length > 0) yield part;
    }
    ready = [];
  }
  if (given !== entry.size) {
    throw new FormatError(
      `${record} inflates to ${grouped(given)} bytes; the zip directory promises ${grouped(entry.size)}`,
    );
  }
  if (crc !== entry.crc32) throw damaged(range.source, entry.name, crc, entry.crc32);
}
