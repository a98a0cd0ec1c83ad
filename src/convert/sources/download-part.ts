/** What a download has on the disk before it has a name. */
import { createHash, type Hash } from 'node:crypto';
import { open, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { EnvironmentError, printable } from '../../errors.js';
import { throwIfStopped, type HttpContext } from './hub-http.js';

/** What {@link Part} needs to know of a download. */
export interface PartJob {
  readonly bytes: number;
  readonly blobId?: string;
  readonly sha256Prefix?: string | undefined;
  readonly blobPath: string;
}

/** A file of another length under the blob's name is not the blob. */
export async function isComplete(job: PartJob): Promise<boolean> {
  const found = await stat(job.blobPath).catch(() => undefined);
  if (found && found.size !== job.bytes) await rm(job.blobPath, { force: true });
  return found?.size === job.bytes;
}

/** The `.incomplete` file and the hash of what is in it. */
export class Part {
  readonly path: string;
  readonly #job: PartJob;
  #file: FileHandle;
  #closed = false;
  #hash: Hash;
  offset = 0;
  /** of all bytes, after {@link finish} */
  hash = '';

  private constructor(job: PartJob, path: string, file: FileHandle) {
    this.#job = job;
    this.path = path;
    this.#file = file;
    this.#hash = newHash(job);
  }

  static async open(job: PartJob): Promise<Part> {
    const path = `${job.blobPath}.incomplete`;
    const there = await stat(path).catch(() => undefined);
    if (there && (!there.isFile() || there.size > job.bytes)) await rm(path, { force: true });
    return new Part(job, path, await openEither(path));
  }

  /** @returns the offset to go on from */
  async hashWhatIsThere(context: HttpContext): Promise<number> {
    const { size } = await this.#file.stat();
    const buffer = new Uint8Array(Math.min(1 << 20, Math.max(1, size)));
    while (this.offset < size) {
      throwIfStopped(context.signal);
      const { bytesRead } = await this.#file.read(buffer, 0, buffer.length, this.offset);
      if (bytesRead === 0) break;
      this.#hash.update(buffer.subarray(0, bytesRead));
      this.offset += bytesRead;
    }
    return this.offset;
  }

  async write(chunk: Uint8Array): Promise<void> {
    for (let done = 0; done < chunk.length;) {
      const { bytesWritten } = await this.#file.write(chunk, done, chunk.length - done, this.offset + done);
      done += bytesWritten;
    }
    this.#hash.update(chunk);
    this.offset += chunk.length;
  }

  async startAfresh(): Promise<void> {
    await this.#file.close();
    await rm(this.path, { force: true });
    this.#file = await open(this.path, 'wx+');
    this.#hash = newHash(this.#job);
    this.offset = 0;
  }

  /** @returns the hash of what was received; `undefined` when it is not the right one: then the file is gone */
  async finish(): Promise<string | undefined> {
    const { bytes, blobId, sha256Prefix = '' } = this.#job;
    const found = this.#hash.digest('hex');
    const { size } = await this.#file.stat();
    this.hash = size === bytes ? found : `of ${size} bytes`;
    if (size === bytes && (blobId === undefined ? found.startsWith(sha256Prefix) : found === blobId)) {
      await this.#file.datasync();
      return found;
    }
    await this.close();
    await rm(this.path, { force: true });
    return undefined;
  }

  /** The file becomes the blob; checked to be the very file that was written, should another process have replaced it. */
  async giveName(blobPath: string): Promise<void> {
    const mine = await this.#file.stat({ bigint: true });
    const there = await stat(this.path, { bigint: true }).catch(() => undefined);
    await this.close();
    if (there?.ino === mine.ino && there.dev === mine.dev) await rename(this.path, blobPath);
    else if (!(await isComplete(this.#job))) {
      throw new EnvironmentError(`${printable(this.path, 300)} was replaced while it was written`, {
        next: 'Another program downloads the same file; wait for it and try again.',
      });
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#file.close();
  }
}

function newHash(job: PartJob): Hash {
  return job.blobId?.length === 40 ? createHash('sha1').update(`blob ${job.bytes}\0`) : createHash('sha256');
}

async function openEither(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r+');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return open(path, 'wx+');
  }
}
