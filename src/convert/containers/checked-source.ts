/**
 * A file whose parts have checksums, checked while the parts are read.
 *
 * A part that is read from its start to its end, in whatever pieces, is checked on the way, for the price of the
 * checksum (4 GB/s). Parts that tensors look at in other ways are read once as a whole before.
 */
import { crc32 } from 'node:zlib';
import type { ByteSource } from '../../bytes.js';
import { FormatError, printable } from '../../errors.js';
import { shortName } from '../checkpoint.js';

export interface CheckedPart {
  /** for messages */
  readonly name: string;
  readonly start: number;
  readonly end: number;
  readonly crc32: number;
  /** every tensor in it is all of it; else it is checked as a whole before the first look at a part */
  readonly whole: boolean;
}

const CHUNK_BYTES = 1024 * 1024;

interface State extends CheckedPart {
  /** bytes from the start that `crc` is of */
  done: number;
  crc: number;
  passed: boolean;
  first?: Promise<void>;
}

/**
 * @param parts that do not overlap
 * @throws FormatError, from the read that reaches the end of a part whose bytes are not those that were written
 */
export function checkedSource(source: ByteSource, parts: readonly CheckedPart[]): ByteSource {
  const states: State[] = parts
    .filter(({ start, end }) => end > start)
    .map((part) => ({ ...part, done: 0, crc: 0, passed: false }))
    .sort((a, b) => a.start - b.start);

  const between = (start: number, end: number): State[] => {
    const found: State[] = [];
    for (let i = firstEndingAfter(states, start); i < states.length && states[i].start < end; i++) {
      if (!states[i].passed) found.push(states[i]);
    }
    return found;
  };
  const checkWhole = async (part: State): Promise<void> => {
    let crc = 0;
    for (let at = part.start; at < part.end; at += CHUNK_BYTES) {
      crc = crc32(await source.read(at, Math.min(at + CHUNK_BYTES, part.end)), crc);
    }
    compare(source, part, crc);
  };
  const prepare = async (start: number, end: number): Promise<void> => {
    if (start === end) return;
    for (const part of between(start, end)) if (!part.whole) await (part.first ??= checkWhole(part));
  };
  const follow = (bytes: Uint8Array, start: number): void => {
    for (const part of between(start, start + bytes.length)) {
      const from = Math.max(part.start, start);
      const to = Math.min(part.end, start + bytes.length);
      if (from === part.start) part.done = part.crc = 0;
      if (from !== part.start + part.done) continue;
      part.crc = crc32(bytes.subarray(from - start, to - start), part.crc);
      part.done = to - part.start;
      if (to === part.end) compare(source, part, part.crc);
    }
  };
  return {
    name: source.name,
    size: source.size,
    ...(source.file && { file: source.file }),
    async read(start, end) {
      await prepare(start, end);
      const bytes = await source.read(start, end);
      follow(bytes, start);
      return bytes;
    },
    async readInto(target, start) {
      await prepare(start, start + target.length);
      await source.readInto(target, start);
      follow(target, start);
    },
    close: () => source.close(),
  };
}

function compare(source: ByteSource, part: State, crc: number): void {
  if (crc !== part.crc32) throw damaged(source, part.name, crc, part.crc32);
  part.passed = true;
}

export function damaged(source: ByteSource, record: string, found: number, needed: number): FormatError {
  const hex = (crc: number): string => crc.toString(16).padStart(8, '0');
  return new FormatError(
    `${shortName(source)}: record ${printable(record)} is damaged: its checksum is ${hex(found)}, the directory says ${hex(needed)}`,
    { next: 'Download or copy it again.' },
  );
}

/** Index of the first part that ends behind `at`. */
function firstEndingAfter(parts: readonly State[], at: number): number {
  let low = 0;
  let high = parts.length;
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (parts[middle].end <= at) low = middle + 1;
    else high = middle;
  }
  return low;
}
