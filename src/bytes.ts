/**
 * Where bytes come from. A file, an HTTP range, a Blob in a browser: all are a {@link ByteSource}.
 *
 * Offsets are doubles (safe up to 2^53), never subject to bitwise arithmetic.
 */
import { FormatError, printable } from './errors.js';

export interface ByteSource {
  /** What a person calls it (a path, a URL); not trusted, print it through `printable`. */
  readonly name: string;
  /** Total length in bytes, known before anything is read. */
  readonly size: number;
  /**
   * Bytes `[start, end)`, in memory that belongs to the caller.
   * @throws FormatError if the range leaves the source or the source has become shorter
   */
  read(start: number, end: number): Promise<Uint8Array>;
  /** Fill `target` with the bytes from `start` on. Same errors as {@link read}. */
  readInto(target: Uint8Array, start: number): Promise<void>;
  /**
   * Bytes `[start, end)` will be read now, from the first to the last: a source that is far away may fetch ahead, up to
   * `end` and not beyond.
   */
  expect?(start: number, end: number): void;
  /** Local files only. */
  readonly file?: LocalFile;
  close(): Promise<void>;
}

/** The local file behind a source, for those who can do better with a path than with ranges. */
export interface LocalFile {
  readonly path: string;
  /** of the file that is open (`fileIdentity` in `digest.ts`), asked now */
  identity(): Promise<string>;
}

/** A half-open range of a source: the tensor's bytes, exactly as they are stored. */
export interface ByteRange {
  readonly source: ByteSource;
  readonly start: number;
  readonly end: number;
}

/** A source over bytes that are in memory already. */
export function memorySource(name: string, bytes: Uint8Array): ByteSource {
  return {
    name,
    size: bytes.length,
    async read(start, end) {
      checkRange(this, start, end);
      // A Buffer's own `slice` would share the memory.
      return await Promise.resolve(new Uint8Array(bytes.subarray(start, end)));
    },
    async readInto(target, start) {
      checkRange(this, start, start + target.length);
      target.set(await Promise.resolve(bytes.subarray(start, start + target.length)));
    },
    close: () => Promise.resolve(),
  };
}

/** @throws FormatError if `[start, end)` is no range of the source */
export function checkRange(source: Pick<ByteSource, 'name' | 'size'>, start: number, end: number): void {
  if (start >= 0 && start <= end && end <= source.size) return;
  throw new FormatError(
    `bytes [${start}, ${end}) lie outside of ${shortName(source)} (${grouped(source.size)} bytes)`,
  );
}

/** The last part of a path or URL, as it is. */
export function baseName(path: string): string {
  const parts = path.split(/[\\/]/).filter((part) => part !== '');
  return parts.at(-1) ?? path;
}

/** The last part of a path or URL, fit for a message. */
export function shortName(source: Pick<ByteSource, 'name'> | string): string {
  return printable(baseName(typeof source === 'string' ? source : source.name));
}

/** `1,234,567`, as messages show counts. */
export function grouped(count: number | bigint): string {
  return count.toLocaleString('en-US');
}

/** `346.4 MB`: decimal units, as file managers and hubs show them. */
export function formatBytes(bytes: number): string {
  const units = ['bytes', 'kB', 'MB', 'GB', 'TB'];
  let unit = 0;
  let value = bytes;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return unit === 0 ? `${bytes} bytes` : `${value.toFixed(value < 10 ? 2 : 1)} ${units[unit]}`;
}
