/** What goes into an item, named by content: a finished item is made again when any of it changed. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { openCheckpoint } from '../convert/open.js';
import { parseSource, resolveSource, type ResolvedSource } from '../convert/source.js';
import { sha256Of } from '../digest.js';
import { InputError, printable } from '../errors.js';
import type { CommonOptions } from '../results.js';
import type { ReleaseItem } from './manifest.js';

interface InputDigest {
  readonly name: string;
  readonly sha256: string;
}

export interface ItemInputs {
  /** of the source; a hub's names commit and file */
  readonly id: string;
  readonly commit?: string;
  readonly files: readonly InputDigest[];
  readonly config?: string;
  readonly labels?: string;
}

/** Read beside the weights where they are there. */
const SIBLINGS = ['config.json', 'preprocessor_config.json'];

/**
 * Nothing is downloaded where somebody vouches for the content: a commit of a hub stands for all files of it.
 *
 * @throws what resolving and opening a source throws; InputError for a config or labels file that is not there
 */
export async function itemInputs(item: ReleaseItem, common: CommonOptions): Promise<ItemInputs> {
  const given = {
    ...(item.config !== undefined && { config: await fileDigest(item.config) }),
    ...(item.labels !== undefined && { labels: await fileDigest(item.labels) }),
  };
  const source = parseSource(item.source);
  const options = {
    signal: common.signal,
    env: common.env,
    onNote: common.onNote,
    progress: ({ file, bytes, total }: { file: string; bytes: number; total?: number }) =>
      common.onProgress?.({ phase: 'download', label: file, done: bytes, total, unit: 'bytes' }),
  };
  const remote =
    source.kind === 'file' ? undefined : await resolveSource(source, { ...options, stream: true });
  const resolved = remote ?? (await resolveSource(source, options));
  const { id, commit, sha256 } = resolved;
  if (remote && (commit !== undefined || sha256 !== undefined)) {
    const files = sha256 === undefined ? [] : [{ name: basename(resolved.path), sha256 }];
    return { id, ...(commit !== undefined && { commit }), files, ...given };
  }
  // Nobody says what the content of an address is: it is brought here, as the conversion does.
  const local = remote?.open ? await resolveSource(source, options) : resolved;
  return { id, files: await localFiles(local, common.signal), ...given };
}

async function localFiles(resolved: ResolvedSource, signal?: AbortSignal): Promise<InputDigest[]> {
  const checkpoint = await openCheckpoint(resolved.path, {}, resolved.open);
  try {
    const files: InputDigest[] = [];
    for (const { name, source } of checkpoint.files) {
      files.push({ name, sha256: await sha256Of(source, signal) });
    }
    const first = checkpoint.files[0]?.source.file?.path;
    if (first === undefined) return files;
    for (const name of SIBLINGS) {
      const bytes = await readFile(join(dirname(first), name)).catch(() => undefined);
      if (bytes) files.push({ name, sha256: digest(bytes) });
    }
    return files;
  } finally {
    await checkpoint.close();
  }
}

async function fileDigest(path: string): Promise<string> {
  const bytes = await readFile(path).catch((cause: NodeJS.ErrnoException) => {
    throw new InputError(`${printable(path, 300)} cannot be read (${cause.code ?? 'error'})`, {
      next: 'Correct its path in the manifest; relative paths start at the manifest’s folder.',
      cause,
    });
  });
  return digest(bytes);
}

const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
