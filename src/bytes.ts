/**
 * Where bytes come from. A file, an HTTP range, a Blob in a browser: all are a {@link ByteSource}.
 *
 * Offsets are doubles (safe up to 2^53), never subject to bitwise arithmetic.
 */

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
  const read = (start: number, end: number): Promise<Uint8Array> => {
    if (!(start >= 0 && start <= end && end <= bytes.length)) {
      return Promise.reject(new RangeError(`bytes [${start}, ${end}) of ${bytes.length}`));
    }
    return Promise.resolve(bytes.slice(start, end));
  };
  return {
    name,
    size: bytes.length,
    read,
    async readInto(target, start) {
      target.set(await read(start, start + target.length));
    },
    close: () => Promise.resolve(),
  };
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
