/** Where a release is made: its folder, and a hidden place in it for what is not finished. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { UsageError, printable } from '../errors.js';
import { fileError } from '../sink.js';

/** Hidden in the release's folder: records of finished items, and what is not finished. */
export const STATE = '.release';

/** After this long nobody works in a place any more, wherever that was. */
const ABANDONED_MS = 24 * 60 * 60 * 1000;
/** How often another release may put the same folder in its place between our two renames. */
const RACES = 100;

/** @throws UsageError for a file; EnvironmentError */
export async function makeFolder(out: string): Promise<void> {
  const found = await stat(out).catch(() => undefined);
  if (found && !found.isDirectory()) {
    throw new UsageError(`--out ${printable(out, 300)} is a file; a release is a folder`, {
      next: 'Choose another --out.',
    });
  }
  // One by one: Node's own recursive mkdir never ends where a file system refuses with ENOENT (/proc does).
  const missing: string[] = [];
  for (let path = resolve(out); !(await exists(path)); path = dirname(path)) missing.unshift(path);
  for (const path of missing) await makeOne(path, out);
}

/** Not there, or not to be seen: mkdir says which. */
const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    (error: NodeJS.ErrnoException) => error.code !== 'ENOENT' && error.code !== 'ENOTDIR',
  );

async function makeOne(path: string, shown: string): Promise<void> {
  await mkdir(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw fileError(error, shown);
  });
}

/**
 * A new place for what is not finished; what processes that are gone have left is removed.
 *
 * @throws EnvironmentError
 */
export async function openWork(out: string): Promise<string> {
  const state = join(out, STATE);
  await makeOne(state, out);
  for (const name of await readdir(state)) {
    if (await isAbandoned(join(state, name), name))
      await rm(join(state, name), { recursive: true, force: true });
  }
  const name = `work-${HOST}-${process.pid}-${randomBytes(4).toString('hex')}`;
  OURS.add(name);
  await makeOne(join(state, name), out);
  return join(state, name);
}

/** Names that this process has given. */
const OURS = new Set<string>();

/** Process numbers mean something on one machine only; a shared folder may be written by several. */
const HOST = createHash('sha256').update(hostname()).digest('hex').slice(0, 8);

async function isAbandoned(path: string, name: string): Promise<boolean> {
  if (!name.startsWith('work-')) return false;
  const [, host, pid] = /^work-([0-9a-f]{8})-(\d+)-/.exec(name) ?? [];
  if (OURS.has(name)) return false;
  // Our own number in a name that is not ours: in a container the next process often has the last one's.
  if (host === HOST && (Number(pid) === process.pid || !isRunning(Number(pid)))) return true;
  const found = await stat(path).catch(() => undefined);
  return found !== undefined && Date.now() - found.mtimeMs > ABANDONED_MS;
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/**
 * A folder takes another's place; a moment in between has neither, which the next run repairs. Another release that
 * does the same at the same time is no obstacle: one of the two folders ends up there, whole.
 */
export async function replaceFolder(from: string, to: string, aside: string): Promise<void> {
  for (let race = 0; ; race++) {
    await rm(aside, { recursive: true, force: true });
    await rename(to, aside).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw fileError(error, to);
    });
    try {
      await rename(from, to);
      break;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if ((code === 'ENOTEMPTY' || code === 'EEXIST') && race < RACES) {
        // Whoever waits a time of their own does not meet again.
        await setTimeout(10 * Math.random());
        continue;
      }
      await rename(aside, to).catch(() => undefined);
      throw fileError(error, to);
    }
  }
  await rm(aside, { recursive: true, force: true });
}
