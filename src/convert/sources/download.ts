/**
 * One file from a hub into the cache: resumed where it was cut, hashed while it is written, named only when it is right.
 *
 * Bytes go to `<blob>.incomplete`, each at its own offset, and a fresh start is a new file, never a truncated one. So
 * even two writers that do not see each other's lock (Python's, another host's) write the same bytes to the same
 * places, and none of them gives the file its name before its own hash was right.
 */
import { createHash, type Hash } from 'node:crypto';
import { mkdir, open, rename, rm, stat, statfs, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { formatBytes } from '../../bytes.js';
import { EnvironmentError, NetworkError, printable } from '../../errors.js';
import { withLock } from './file-lock.js';
import { cacheError, waysOn } from './hub-errors.js';
import {
  mayRetry,
  request,
  RequestFailure,
  throwIfStopped,
  type Answer,
  type HttpContext,
} from './hub-http.js';

export interface DownloadJob {
  readonly url: string;
  /** what a person calls it */
  readonly label: string;
  /** sha256 of the bytes (64 digits), or git's blob id (40 digits): sha1 of `blob <size>\0` and the bytes */
  readonly blobId: string;
  readonly bytes: number;
  readonly blobPath: string;
  readonly lockPath: string;
}

export interface DownloadEvent {
  readonly file: string;
  readonly bytes: number;
  readonly total: number;
}

export interface DownloadHooks {
  readonly progress?: ((event: DownloadEvent) => void) | undefined;
  readonly onNote?: ((text: string) => void) | undefined;
}

/** Failures without a new byte between them, and failures at all, after which a download is given up. */
const FAILURES_IN_A_ROW = 5;
const FAILURES_AT_ALL = 50;

/**
 * Make sure that the blob is in the cache.
 * @throws NetworkError when the bytes are not the stated ones; EnvironmentError when they can't be written;
 *   RequestFailure when they can't be had; InterruptedError
 */
export async function download(
  job: DownloadJob,
  context: HttpContext,
  hooks: DownloadHooks = {},
): Promise<void> {
  try {
    await mkdir(dirname(job.blobPath), { recursive: true });
    const onWait = (): void => hooks.onNote?.(`${job.label}: another process is downloading it; waiting`);
    await withLock(job.lockPath, { sleep: context.sleep, onWait }, async () => {
      if (await isComplete(job)) return;
      await checkRoom(job);
      await fetchBlob(job, context, hooks);
    });
  } catch (error) {
    throw cacheError(error, job.blobPath);
  }
}

/** A file of another length under the blob's name is not the blob. */
async function isComplete(job: DownloadJob): Promise<boolean> {
  const found = await stat(job.blobPath).catch(() => undefined);
  if (found && found.size !== job.bytes) await rm(job.blobPath, { force: true });
  return found?.size === job.bytes;
}

async function checkRoom(job: DownloadJob): Promise<void> {
  const there = await stat(`${job.blobPath}.incomplete`).then(
    (found) => found.size,
    () => 0,
  );
  const free = await statfs(dirname(job.blobPath)).then(
    (disk) => disk.bavail * disk.bsize,
    () => Infinity,
  );
  if (job.bytes - there <= free) return;
  throw new EnvironmentError(
    `${job.label} is ${formatBytes(job.bytes)}; the disk of ${printable(dirname(job.blobPath), 300)} has ${formatBytes(free)} left`,
    { next: 'Free room, or set HF_HUB_CACHE to a folder on a larger disk.' },
  );
}

async function fetchBlob(job: DownloadJob, context: HttpContext, hooks: DownloadHooks): Promise<void> {
  let part = await Part.open(job);
  try {
    for (;;) {
      const resumedAt = await part.hashWhatIsThere(context);
      if (resumedAt > 0)
        hooks.onNote?.(`${job.label}: resumed at ${formatBytes(resumedAt)} of ${formatBytes(job.bytes)}`);
      await fill(part, job, context, hooks);
      const found = await part.finish();
      if (found === job.blobId) break;
      if (resumedAt === 0) {
        throw new NetworkError(
          `${job.label} arrived damaged: ${job.blobId.length === 64 ? 'sha256' : 'git blob id'} ${found}; the hub states ${job.blobId}`,
          {
            next: `It was removed; try again, and if it comes again so, the copy on that server is bad. ${waysOn(context.settings)}`,
          },
        );
      }
      hooks.onNote?.(`${job.label}: what an earlier run left was damaged; starting afresh`);
      part = await Part.open(job);
    }
    await part.giveName(job.blobPath);
  } finally {
    await part.close();
  }
}

/** Request after request until all bytes are there. */
async function fill(part: Part, job: DownloadJob, context: HttpContext, hooks: DownloadHooks): Promise<void> {
  const report = (): void => hooks.progress?.({ file: job.label, bytes: part.offset, total: job.bytes });
  report();
  let inARow = 0;
  for (let failures = 0; part.offset < job.bytes;) {
    const before = part.offset;
    try {
      await receive(part, job, context, report);
    } catch (error) {
      failures += 1;
      inARow = part.offset > before ? 1 : inARow + 1;
      if (inARow >= FAILURES_IN_A_ROW || failures >= FAILURES_AT_ALL) throw error;
      if (!(await mayRetry(context, error, inARow, part.offset > 0))) throw error;
    }
  }
}

async function receive(
  part: Part,
  job: DownloadJob,
  context: HttpContext,
  report: () => void,
): Promise<void> {
  const headers: Record<string, string> = { 'accept-encoding': 'identity' };
  if (part.offset > 0) headers.range = `bytes=${part.offset}-`;
  let answer: Answer;
  try {
    answer = await request(context, job.url, { headers });
  } catch (error) {
    if (!(error instanceof RequestFailure) || error.status !== 416) throw error;
    await part.startAfresh();
    throw new RequestFailure(new URL(job.url), 'the range was refused', { transient: true, cause: error });
  }
  const { response } = answer;
  const wrongSize = (stated: number | string): NetworkError =>
    new NetworkError(
      `${answer.url.origin} sends ${stated} bytes for ${job.label}; the hub states ${job.bytes}`,
      {
        next: `A proxy or a sign-in page may stand between. ${waysOn(context.settings)}`,
      },
    );
  try {
    const length = response.headers.get('content-length');
    if (response.status === 206) {
      const range = /^bytes (\d{1,16})-\d{1,16}\/(\d{1,16}|\*)$/.exec(
        response.headers.get('content-range') ?? '',
      );
      if (range && range[2] !== '*' && Number(range[2]) !== job.bytes) throw wrongSize(range[2]);
      if (!range || Number(range[1]) !== part.offset) {
        await part.startAfresh();
        throw new RequestFailure(answer.url, 'another range than the one asked for', { transient: true });
      }
    } else {
      if (!response.headers.has('content-encoding') && length !== null && Number(length) !== job.bytes) {
        throw wrongSize(length);
      }
      if (part.offset > 0) await part.startAfresh();
    }
    for await (const chunk of answer.chunks()) {
      if (part.offset + chunk.length > job.bytes) throw wrongSize(`more than ${job.bytes}`);
      await part.write(chunk);
      report();
      throwIfStopped(context.signal);
    }
  } finally {
    answer.cancel();
  }
  if (part.offset === job.bytes) return;
  if (response.status !== 206 && response.headers.get('transfer-encoding') === 'chunked') {
    // It came to its proper end: another document, as the sign-in page of a proxy.
    const sent = part.offset;
    await part.startAfresh();
    throw wrongSize(sent);
  }
  throw new RequestFailure(answer.url, 'the answer ended early', { transient: true, code: 'ECONNRESET' });
}

/** The `.incomplete` file and the hash of what is in it. */
class Part {
  readonly path: string;
  readonly #job: DownloadJob;
  #file: FileHandle;
  #closed = false;
  #hash: Hash;
  offset = 0;

  private constructor(job: DownloadJob, path: string, file: FileHandle) {
    this.#job = job;
    this.path = path;
    this.#file = file;
    this.#hash = newHash(job);
  }

  static async open(job: DownloadJob): Promise<Part> {
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

  /** @returns the id of what was received; when it is not the blob's, the file is gone */
  async finish(): Promise<string> {
    const found = this.#hash.digest('hex');
    const { size } = await this.#file.stat();
    if (found === this.#job.blobId && size === this.#job.bytes) {
      await this.#file.datasync();
    } else {
      await this.close();
      await rm(this.path, { force: true });
    }
    return size === this.#job.bytes ? found : `of ${size} bytes`;
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

function newHash(job: DownloadJob): Hash {
  return job.blobId.length === 64 ? createHash('sha256') : createHash('sha1').update(`blob ${job.bytes}\0`);
}

async function openEither(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r+');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return open(path, 'wx+');
  }
}
