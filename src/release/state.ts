/**
 * What was finished by an earlier run: one small record a finished item, written last. An item is skipped when what
 * goes into it (options, inputs by sha256, this tool's version) is the same and every file it made is still there with
 * the same content.
 */
import { createHash } from 'node:crypto';
import { readFile, readdir, rename, stat, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { sha256Of } from '../digest.js';
import { VERSION } from '../version.js';
import { openLocalFile } from './files.js';
import type { ReleaseItem } from './manifest.js';
import type { FinishedItem, ReleasedFile } from './record.js';
import { STATE } from './workplace.js';

interface Finished extends FinishedItem {
  readonly key: string;
  readonly tool: string;
}

/** The digest of everything that decides an item's bytes. `parts` must be plain data in a fixed order. */
export function keyOf(parts: unknown): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex');
}

/** Where files lie on this machine does not decide what is made of them; their content does, and is hashed. */
export function withoutPaths(item: ReleaseItem): unknown {
  const { source, config, labels, ...rest } = item;
  const short = (path: string | undefined): string | undefined => path && basename(path);
  return { ...rest, source: short(source), config: short(config), labels: short(labels) };
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
  keyAs: (finished: FinishedItem) => string,
  signal?: AbortSignal,
): Promise<FinishedItem | undefined> {
  const found = await readRecord(out, name);
  if (!found || found.key !== keyAs(found)) return undefined;
  for (const { path, bytes, sha256 } of found.released.files) {
    const file = await openLocalFile(join(out, name, ...path.split('/'))).catch(() => undefined);
    if (!file) return undefined;
    try {
      if (file.size !== bytes || (await sha256Of(file, signal)) !== sha256) return undefined;
    } finally {
      await file.close();
    }
  }
  return found;
}

/**
 * An item that this run is not about (`--only`, `--shard`), made by an earlier one as the manifest says now. Its sources
 * are not looked at, and of its files only the sizes.
 */
export async function finishedElsewhere(out: string, item: ReleaseItem): Promise<FinishedItem | undefined> {
  const found = await readRecord(out, item.name);
  if (found?.tool !== VERSION || keyOf(withoutPaths(found.released.item)) !== keyOf(withoutPaths(item)))
    return undefined;
  const there = await Promise.all(
    found.released.files.map(({ path, bytes }: ReleasedFile) =>
      stat(join(out, item.name, ...path.split('/'))).then(
        ({ size }) => size === bytes,
        () => false,
      ),
    ),
  );
  return there.every(Boolean) ? found : undefined;
}

/** Names of all items that any run has finished here. */
export async function recordedNames(out: string): Promise<string[]> {
  const names = await readdir(join(out, STATE));
  return names.flatMap((name) => /^(.+)\.json$/.exec(name)?.[1] ?? []).sort();
}

/** A record of an earlier run of any version: whatever it is not, it is no record. */
async function readRecord(out: string, name: string): Promise<Finished | undefined> {
  const text = await readFile(recordPath(out, name), 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
  try {
    const value = JSON.parse(text) as Partial<Finished> | null;
    const isRecord =
      typeof value?.key === 'string' && value.inputs !== undefined && Array.isArray(value.released?.files);
    return isRecord ? (value as Finished) : undefined;
  } catch {
    return undefined;
  }
}

/** @param work where it is written first: it is whole in its place, or it is not there */
export async function recordFinished(
  out: string,
  work: string,
  key: string,
  { released, inputs }: FinishedItem,
): Promise<void> {
  const { name } = released.item;
  const staged = join(work, `${name}.json`);
  const record: Finished = { key, tool: VERSION, inputs, released };
  await writeFile(staged, `${JSON.stringify(record, undefined, 1)}\n`);
  await rename(staged, recordPath(out, name));
}

const recordPath = (out: string, name: string): string => join(out, STATE, `${name}.json`);
