/**
 * A lock between processes: a file that only one can create. Node has no `flock`, which Python's `huggingface_hub`
 * uses, so the two do not see each other's locks; see `download.ts` for why that harms nothing.
 */
import { mkdir, open, readFile, rename, rm, stat, utimes } from 'node:fs/promises';
import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { dirname } from 'node:path';

/** Milliseconds. An owner touches its lock more often than that; a lock older than `ABANDONED` has none. */
const HEARTBEAT = 10_000;
const ABANDONED = 120_000;
const POLL = 200;

export interface LockOptions {
  /** rejects when the run is stopped */
  readonly sleep: (milliseconds: number) => Promise<void>;
  /** told once when another process holds the lock */
  readonly onWait?: () => void;
}

/** Run `task` while no other process runs one under the same lock. */
export async function withLock<T>(path: string, options: LockOptions, task: () => Promise<T>): Promise<T> {
  const owner = JSON.stringify({ host: hostname(), pid: process.pid, id: randomBytes(8).toString('hex') });
  await mkdir(dirname(path), { recursive: true });
  for (let waited = false; !(await create(path, owner));) {
    if (await removeAbandoned(path)) continue;
    if (!waited) options.onWait?.();
    waited = true;
    await options.sleep(POLL);
  }
  const beat = setInterval(() => {
    const now = new Date();
    utimes(path, now, now).catch(() => undefined);
  }, HEARTBEAT);
  beat.unref();
  try {
    return await task();
  } finally {
    clearInterval(beat);
    if ((await contentOf(path)) === owner) await rm(path, { force: true });
  }
}

async function create(path: string, owner: string): Promise<boolean> {
  let file;
  try {
    file = await open(path, 'wx');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
  try {
    await file.writeFile(owner);
  } finally {
    await file.close();
  }
  return true;
}

/** Remove a lock whose owner is gone; `true` when it is worth trying again at once. */
async function removeAbandoned(path: string): Promise<boolean> {
  const owner = await contentOf(path);
  if (owner === undefined) return true;
  const age = await stat(path)
    .then((found) => Date.now() - found.mtimeMs)
    .catch(() => 0);
  if (age < ABANDONED && !isDead(owner)) return false;
  // Someone else may just have done the same and locked anew: look at what was moved away, and put it back.
  const aside = `${path}.${randomBytes(4).toString('hex')}`;
  try {
    await rename(path, aside);
  } catch {
    return true;
  }
  if ((await contentOf(aside)) !== owner) await rename(aside, path).catch(() => undefined);
  await rm(aside, { force: true });
  return true;
}

async function contentOf(path: string): Promise<string | undefined> {
  return readFile(path, 'utf8').catch(() => undefined);
}

function isDead(owner: string): boolean {
  let parsed: unknown;
  try {
    parsed = JSON.parse(owner);
  } catch {
    return false;
  }
  const { host, pid } = (parsed ?? {}) as { host?: unknown; pid?: unknown };
  if (host !== hostname() || typeof pid !== 'number' || !Number.isSafeInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
}
