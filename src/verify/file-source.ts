/**
 * The written file as a {@link ByteSource}: plain positioned reads, so that what is compared is what is on the disk.
 */
import { constants } from 'node:fs';
import { lstat, open, stat } from 'node:fs/promises';
import { basename } from 'node:path';
import type { ByteSource } from '../bytes.js';
import { EnvironmentError, FormatError, InputError, printable } from '../errors.js';

export interface OpenOptions {
  /** symbolic links are followed (a model somebody names) or refused (a data file that a model names) */
  readonly links: 'follow' | 'refuse';
}

/**
 * @throws InputError if it is absent or not a regular file; EnvironmentError if the system refuses
 */
export async function openRegularFile(path: string, { links }: OpenOptions): Promise<ByteSource> {
  const name = printable(basename(path));
  const guard = async <T>(call: Promise<T>): Promise<T> => {
    try {
      return await call;
    } catch (cause) {
      const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown error';
      if (code === 'ENOENT' || code === 'ENOTDIR')
        throw new InputError(`there is no file ${printable(path)}`, { cause });
      if (code === 'ELOOP') throw new InputError(`${name} is a symbolic link, not a file`, { cause });
      throw new EnvironmentError(`cannot read ${printable(path)}: ${code}`, { cause });
    }
  };
  // Asked before opening: opening a FIFO waits for a writer.
  const found = await guard(links === 'follow' ? stat(path) : lstat(path));
  if (found.isSymbolicLink()) throw new InputError(`${name} is a symbolic link, not a file`);
  if (!found.isFile())
    throw new InputError(`${name} is ${found.isDirectory() ? 'a folder' : 'no regular file'}`);
  // O_NOFOLLOW and O_NONBLOCK do not exist on every system.
  const noFollow = links === 'refuse' ? (constants.O_NOFOLLOW ?? 0) : 0;
  const handle = await guard(open(path, constants.O_RDONLY | noFollow | (constants.O_NONBLOCK ?? 0)));
  const opened = await handle.stat();
  if (!opened.isFile()) {
    await handle.close();
    throw new InputError(`${name} is no regular file`);
  }
  const size = opened.size;

  const readInto = async (target: Uint8Array, start: number): Promise<void> => {
    if (!(start >= 0 && start + target.length <= size)) {
      throw new FormatError(
        `bytes [${start}, ${start + target.length}) lie outside of ${name} (${size} bytes)`,
      );
    }
    for (let done = 0; done < target.length;) {
      const { bytesRead } = await guard(handle.read(target, done, target.length - done, start + done));
      if (bytesRead === 0) throw new FormatError(`${name} became shorter while it was read`);
      done += bytesRead;
    }
  };
  return {
    name: path,
    size,
    readInto,
    async read(start, end) {
      const target = new Uint8Array(Math.max(0, end - start));
      await readInto(target, start);
      return target;
    },
    close: () => handle.close(),
  };
}
