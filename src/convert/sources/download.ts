/**
 * One file from a hub or another server into a cache: resumed where it was cut, hashed while it is written, named only when it is right.
 *
 * Bytes go to `<blob>.incomplete`, each at its own offset, and a fresh start is a new file, never a truncated one. So
 * even two writers that do not see each other's lock (Python's, another host's) write the same bytes to the same
 * places, and none of them gives the file its name before its own hash was right.
 */
import { mkdir, rm, stat, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { formatBytes } from '../../bytes.js';
import { EnvironmentError, FormatError, NetworkError, printable } from '../../errors.js';
import { isComplete, Part } from './download-part.js';
import { sameVersion, versionOf, type FileVersion } from './file-version.js';
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
import { changedError, difference } from './range.js';

export interface DownloadJob {
  readonly url: string;
  /** what a person calls it */
  readonly label: string;
  readonly bytes: number;
  /**
   * What the bytes must hash to: sha256 (64 digits), or git's blob id (40 digits): sha1 of `blob <size>\0` and the bytes.
   * Without it the sha256 is recorded only.
   */
  readonly blobId?: string;
  /** digits that the sha256 begins with, as the file's own name says */
  readonly sha256Prefix?: string | undefined;
  /** who stated `bytes` and `blobId`: `the hub` */
  readonly stater: string;
  /** which version of the file `bytes` was said of */
  readonly version?: FileVersion;
  /** sentence about other ways, when this one fails; the hub's by default */
  readonly ways?: string;
  /** environment variable that says where the cache is; the hub's by default */
  readonly cacheVariable?: string;
  /** what an earlier run left may be of another version: never go on with it */
  readonly afresh?: boolean;
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
 *
 * @returns its hash (sha256 or git's blob id), if it had to be downloaded
 * @throws NetworkError when the bytes are not the stated ones; FormatError when they are not what their name says;
 *   EnvironmentError when they can't be written; RequestFailure when they can't be had; InterruptedError
 */
export async function download(
  job: DownloadJob,
  context: HttpContext,
  hooks: DownloadHooks = {},
): Promise<string | undefined> {
  try {
    await mkdir(dirname(job.blobPath), { recursive: true });
    const onWait = (): void => hooks.onNote?.(`${job.label}: another process is downloading it; waiting`);
    return await withLock(job.lockPath, { sleep: context.sleep, onWait }, async () => {
      if (await isComplete(job)) return undefined;
      if (job.afresh) await rm(`${job.blobPath}.incomplete`, { force: true });
      await checkRoom(job);
      return await fetchBlob(job, context, hooks);
    });
  } catch (error) {
    throw cacheError(error, job.blobPath, job.cacheVariable);
  }
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
    { next: `Free room, or set ${job.cacheVariable ?? 'HF_HUB_CACHE'} to a folder on a larger disk.` },
  );
}

async function fetchBlob(job: DownloadJob, context: HttpContext, hooks: DownloadHooks): Promise<string> {
  let part = await Part.open(job);
  try {
    for (;;) {
      const resumedAt = await part.hashWhatIsThere(context);
      if (resumedAt > 0)
        hooks.onNote?.(`${job.label}: resumed at ${formatBytes(resumedAt)} of ${formatBytes(job.bytes)}`);
      await fill(part, job, context, hooks);
      const found = await part.finish();
      if (found !== undefined) {
        await part.giveName(job.blobPath);
        return found;
      }
      if (resumedAt === 0) throw damaged(job, part.hash, context);
      hooks.onNote?.(`${job.label}: what an earlier run left was damaged; starting afresh`);
      part = await Part.open(job);
    }
  } finally {
    await part.close();
  }
}

/** @param hash of what came */
function damaged(job: DownloadJob, hash: string, context: HttpContext): Error {
  const again = 'It was removed; try again, and if it comes again so, the copy on that server is bad.';
  const next = `${again} ${job.ways ?? waysOn(context.settings)}`;
  if (job.blobId === undefined && job.sha256Prefix !== undefined) {
    return new FormatError(
      `${job.label} arrived with sha256 ${hash}; its name says that it begins with ${job.sha256Prefix}`,
      { next },
    );
  }
  const kind = job.blobId?.length === 40 ? 'git blob id' : 'sha256';
  return new NetworkError(
    `${job.label} arrived damaged: ${kind} ${hash}; ${job.stater} states ${job.blobId}`,
    {
      next,
    },
  );
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
      `${answer.url.origin} sends ${stated} bytes for ${job.label}; ${job.stater} states ${job.bytes}`,
      {
        next: `A proxy or a sign-in page may stand between. ${job.ways ?? waysOn(context.settings)}`,
      },
    );
  try {
    const version = versionOf(response.headers);
    if (job.version && !sameVersion(job.version, version)) {
      const facts = { total: job.bytes, version: job.version };
      throw changedError(job.label, difference(facts, { total: job.bytes, version }));
    }
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
