/**
 * A local file as a {@link ByteSource}: a checkpoint that is read, or a written file that is checked.
 */
import { constants } from 'node:fs';
import { lstat, open, stat, type FileHandle } from 'node:fs/promises';
import type { Stats } from 'node:fs';
import { checkRange, grouped, shortName, type ByteSource, type LocalFile } from './bytes.js';
import { fileIdentity } from './digest.js';
import { ConvertBeitError, EnvironmentError, FormatError, InputError, printable } from './errors.js';

/** A checkpoint has hundreds of small tensors: one read of this size serves neighbours that are asked for in order. */
const WINDOW_BYTES = 1024 * 1024;
/** The window after a jump; it doubles while reading goes on where it ended, as the kernel's own read-ahead does. */
const FIRST_WINDOW_BYTES = 64 * 1024;
/** From here on a read of its own costs less than copying out of the window. */
const DIRECT_BYTES = 256 * 1024;

export interface OpenFileOptions {
  /** symbolic links are followed (a file somebody names, the default) or refused (a data file that a model names) */
  readonly links?: 'follow' | 'refuse';
  /** what messages call the file; its path by default */
  readonly label?: string;
}

/**
 * Open a regular file for reading by ranges.
 *
 * @throws InputError if there is no such file, or it is a folder, a device, a pipe or a socket
 * @throws EnvironmentError if the system refuses (permission, I/O error)
 */
export async function openFile(path: string, options: OpenFileOptions = {}): Promise<ByteSource> {
  const { links = 'follow', label = path } = options;
  // Asked before opening: opening a FIFO for reading waits for a writer, opening a device may do anything.
  refuseIrregular(label, await attempt(path, 'open', () => (links === 'follow' ? stat : lstat)(path)));
  // O_NOFOLLOW and O_NONBLOCK do not exist on every system.
  const noFollow = links === 'refuse' ? (constants.O_NOFOLLOW ?? 0) : 0;
  const handle = await attempt(path, 'open', () =>
    open(path, constants.O_RDONLY | noFollow | (constants.O_NONBLOCK ?? 0)),
  );
  try {
    const found = await attempt(path, 'open', () => handle.stat());
    refuseIrregular(label, found); // it may have been replaced in between
    return new FileSource(path, found.size, handle);
  } catch (error) {
    await handle.close();
    throw error;
  }
}

class FileSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly file: LocalFile;
  readonly #handle: FileHandle;
  #window: { start: number; end: number; bytes: Promise<Uint8Array> } | undefined;
  #closed: Promise<void> | undefined;

  constructor(name: string, size: number, handle: FileHandle) {
    this.name = name;
    this.size = size;
    this.#handle = handle;
    this.file = {
      path: name,
      identity: async () => fileIdentity(await attempt(name, 'read', () => handle.stat())),
    };
  }

  async read(start: number, end: number): Promise<Uint8Array> {
    checkRange(this, start, end);
    const length = end - start;
    // The slow allocator neither zeroes nor shares: the bytes belong to the caller and start aligned.
    const target = length < DIRECT_BYTES ? new Uint8Array(length) : Buffer.allocUnsafeSlow(length);
    await this.#fill(target, start);
    return target;
  }

  async readInto(target: Uint8Array, start: number): Promise<void> {
    checkRange(this, start, start + target.length);
    await this.#fill(target, start);
  }

  close(): Promise<void> {
    this.#window = undefined;
    this.#closed ??= this.#handle.close();
    return this.#closed;
  }

  async #fill(target: Uint8Array, start: number): Promise<void> {
    if (target.length === 0) return;
    if (target.length >= DIRECT_BYTES) return this.#readExactly(target, start);
    const end = start + target.length;
    let window = this.#window;
    if (!window || start < window.start || end > window.end) {
      const goesOn = window && start >= window.start && start <= window.end;
      const wanted = goesOn ? Math.min(2 * (window!.end - window!.start), WINDOW_BYTES) : FIRST_WINDOW_BYTES;
      const bytes = new Uint8Array(Math.min(Math.max(wanted, target.length), this.size - start));
      window = { start, end: start + bytes.length, bytes: this.#readExactly(bytes, start).then(() => bytes) };
      this.#window = window;
    }
    try {
      const bytes = await window.bytes;
      target.set(bytes.subarray(start - window.start, end - window.start));
    } catch (error) {
      if (this.#window === window) this.#window = undefined;
      throw error;
    }
  }

  /** One system call may return fewer bytes than asked for; none at all means that the file ends here. */
  async #readExactly(target: Uint8Array, start: number): Promise<void> {
    let done = 0;
    while (done < target.length) {
      const { bytesRead } = await attempt(this.name, 'read', () =>
        this.#handle.read(target, done, target.length - done, start + done),
      );
      if (bytesRead === 0) {
        throw new FormatError(
          `${shortName(this)} became shorter while it was read: ${grouped(start + done)} bytes, it had ${grouped(this.size)}`,
          { next: 'Wait until nothing writes to the file, then start again.' },
        );
      }
      done += bytesRead;
    }
  }
}

function refuseIrregular(label: string, found: Stats): void {
  if (found.isFile()) return;
  const name = printable(label);
  if (found.isDirectory()) {
    throw new InputError(`${name} is a folder, not a file`, { next: 'Give the checkpoint file in it.' });
  }
  if (found.isSymbolicLink()) throw new InputError(`${name} is a symbolic link, not a file`);
  const kind = found.isFIFO()
    ? 'a named pipe (FIFO)'
    : found.isSocket()
      ? 'a socket'
      : found.isCharacterDevice() || found.isBlockDevice()
        ? 'a device'
        : 'not a regular file';
  throw new InputError(
    `${name} is ${kind}; a checkpoint is read by ranges, which only a regular file allows`,
    {
      next: 'Save it to a file first.',
    },
  );
}

const REASONS: ReadonlyMap<string, string> = new Map([
  ['EACCES', 'permission denied'],
  ['EPERM', 'permission denied'],
  ['ELOOP', 'its symbolic links go in a circle'],
  ['EMFILE', 'too many files are open'],
  ['ENFILE', 'too many files are open'],
  ['EIO', 'the disk reports an error'],
  ['ENAMETOOLONG', 'the name is too long'],
]);

/** Run a system call and turn its error into one of ours. */
export async function attempt<T>(
  path: string,
  verb: 'open' | 'read',
  call: () => Promise<T>,
  next = 'Check the path.',
): Promise<T> {
  try {
    return await call();
  } catch (cause) {
    if (cause instanceof ConvertBeitError) throw cause;
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : '';
    if (code === 'ENOENT' || code === 'ENOTDIR') {
      throw new InputError(`there is no file ${printable(path)}`, {
        next,
        cause,
      });
    }
    const reason =
      REASONS.get(code) ?? (code || printable(cause instanceof Error ? cause.message : String(cause)));
    throw new EnvironmentError(`cannot ${verb} ${printable(path)}: ${reason}`, { cause });
  }
}
