/** What goes into an item, named by content: a finished item is made again when any of it changed. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { openCheckpoint } from '../convert/open.js';
import { parseSource, resolveSource, type ResolvedSource, type Source } from '../convert/source.js';
import { sha256Of } from '../digest.js';
import { InputError, printable } from '../errors.js';
import { NO_LABELS, labelSetNamed } from '../label-sets.js';
import type { CommonOptions, LabelsSummary } from '../results.js';
import { labelsSummary } from '../summaries.js';
import type { ReleaseItem } from './manifest.js';

interface InputDigest {
  readonly name: string;
  readonly sha256: string;
}

export interface ItemInputs {
  /** of the source; a hub's names commit and file */
  readonly id: string;
  readonly commit?: string;
  /** weights; none where the commit stands for them */
  readonly files: readonly InputDigest[];
  /** small files that lie beside the weights */
  readonly beside?: readonly InputDigest[];
  readonly config?: InputDigest;
  /** a file; or a set by its names and where they are from, or that they could not be had */
  readonly labels?: InputDigest | LabelsSummary | { readonly missing: string };
}

/** Read beside the weights where they are there. */
const SIBLINGS = ['config.json', 'preprocessor_config.json'];

/**
 * Nothing is downloaded where somebody vouches for the content: a commit of a hub stands for all files of it.
 *
 * @throws what resolving and opening a source throws; InputError for a config or labels file that is not there;
 *   NetworkError for a set of class names that is asked for and cannot be had
 */
export async function itemInputs(item: ReleaseItem, common: CommonOptions): Promise<ItemInputs> {
  const source = parseSource(item.source);
  const given = {
    ...(item.config !== undefined && { config: await fileDigest(item.config) }),
    ...(await labelsOf(item, source, common)),
  };
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
  return { id, ...(await localFiles(local, common.signal)), ...given };
}

/**
 * Names that may come from a hub decide the bytes as well: a model is made again when they could not be had and now can.
 */
async function labelsOf(
  { labels, task }: ReleaseItem,
  source: Source,
  { signal, env }: CommonOptions,
): Promise<Pick<ItemInputs, 'labels'>> {
  if (labels === NO_LABELS) return {};
  if (labels !== undefined && !labelSetNamed(labels)) return { labels: await fileDigest(labels) };
  const { fetchLabels, publishedSet, requireLabels } = await import('../convert/published-labels.js');
  const asked = labels === undefined ? undefined : labelSetNamed(labels);
  if (asked) return { labels: labelsSummary(await requireLabels(asked, { signal, env })) };
  const set = task === 'features' || task === 'masked-image' ? undefined : publishedSet(source);
  if (!set) return {};
  return await fetchLabels(set, { signal, env }).then(
    (names) => ({ labels: labelsSummary(names) }),
    () => {
      signal?.throwIfAborted();
      return { labels: { missing: set.name } };
    },
  );
}

/** Names that a finished model has need not be had again: without them it would become a worse one. */
export function withKnownLabels(inputs: ItemInputs, labels: LabelsSummary | undefined): ItemInputs {
  return labels && inputs.labels && 'missing' in inputs.labels ? { ...inputs, labels } : inputs;
}

async function localFiles(
  resolved: ResolvedSource,
  signal?: AbortSignal,
): Promise<Pick<ItemInputs, 'files' | 'beside'>> {
  const checkpoint = await openCheckpoint(resolved.path, {}, resolved.open);
  try {
    const files: InputDigest[] = [];
    for (const { name, source } of checkpoint.files) {
      files.push({ name, sha256: await sha256Of(source, signal) });
    }
    const first = checkpoint.files[0]?.source.file?.path;
    const beside: InputDigest[] = [];
    for (const name of first === undefined ? [] : SIBLINGS) {
      const bytes = await readFile(join(dirname(first!), name)).catch(() => undefined);
      if (bytes) beside.push({ name, sha256: digest(bytes) });
    }
    return { files, ...(beside.length > 0 && { beside }) };
  } finally {
    await checkpoint.close();
  }
}

async function fileDigest(path: string): Promise<InputDigest> {
  const bytes = await readFile(path).catch((cause: NodeJS.ErrnoException) => {
    throw new InputError(`${printable(path, 300)} cannot be read (${cause.code ?? 'error'})`, {
      next: 'Correct its path in the manifest; relative paths start at the manifest’s folder.',
      cause,
    });
  });
  return { name: basename(path), sha256: digest(bytes) };
}

const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
