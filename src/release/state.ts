/**
 * What was finished by an earlier run: one small record a finished item, written last. An item is skipped when what
 * goes into it (options, inputs by sha256, this tool's version) is the same and every file it made is still there with
 * the same content.
 */
import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openLocalFile } from './files.js';
import { sha256Of } from '../digest.js';
import type { ReleasedItem } from './record.js';

const FOLDER = '.release';

interface Finished {
  readonly key: string;
  readonly released: ReleasedItem;
}

/** The digest of everything that decides an item's bytes. `parts` must be plain data in a fixed order. */
export function keyOf(parts: unknown): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex');
}

/**
 * The record of an item that is finished and untouched.
 *
 * @param out   the release's folder
 * @param keyAs {@link keyOf} of what goes into the item now; what cannot be found out now is as it was
 */
export async function finishedItem(
  out: string,
  name: string,
  keyAs: (finished: ReleasedItem) => string,
  signal?: AbortSignal,
): Promise<ReleasedItem | undefined> {
  const found = await readRecord(out, name);
  if (!found || found.key !== keyAs(found.released)) return undefined;
  for (const { path, bytes, sha256 } of found.released.files) {
    const file = await openLocalFile(join(out, name, ...path.split('/'))).catch(() => undefined);
    if (!file) return undefined;
    try {
      if (file.size !== bytes || (await sha256Of(file, signal)) !== sha256) return undefined;
    } finally {
      await file.close();
    }
  }
  return found.released;
}

/** A record of an earlier run of any version: whatever it is not, it is no record. */
async function readRecord(out: string, name: string): Promise<Finished | undefined> {
  const text = await readFile(recordPath(out, name), 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
  try {
    const value = JSON.parse(text) as Partial<Finished> | null;
    const files = value?.released?.files;
    return typeof value?.key === 'string' && Array.isArray(files) ? (value as Finished) : undefined;
  } catch {
    return undefined;
  }
}

/** Written beside its place and renamed: it is whole, or it is not there. */
export async function recordFinished(
  out: string,
  name: string,
  key: string,
  released: ReleasedItem,
): Promise<void> {
  const path = recordPath(out, name);
  await mkdir(join(out, FOLDER), { recursive: true });
  await writeFile(`${path}.new`, `${JSON.stringify({ key, released }, undefined, 1)}\n`);
  await rename(`${path}.new`, path);
}

const recordPath = (out: string, name: string): string => join(out, FOLDER, `${name}.json`);
