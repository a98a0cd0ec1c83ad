/**
 * Class names of published models: who has which, and how they come from the hub.
 */
import { readFile } from 'node:fs/promises';
import { InputError, NetworkError } from '../errors.js';
import { fitLabels, isPlaceholder, parseLabels } from '../labels.js';
import { LABEL_WORDS, labelSetFor, type LabelSet, type NamedLabels } from '../label-sets.js';
import { RELEASES } from './catalog-data.js';
import { catalog, catalogRow, type CatalogRow } from './catalog.js';
import type { Source } from './source.js';
import type { NetworkOptions } from './sources/context.js';
import { resolveHub } from './sources/hub.js';
import { throwIfStopped } from './sources/hub-http.js';

const FILE = 'config.json';
/** Milliseconds: names are nice to have, nobody should wait long for them. */
const SILENCE = 8_000;
const PATIENCE = 30_000;

/** The row of the catalog that a source names: by its name, its repository on the hub, or its publisher's address. */
function rowAt(source: Source): CatalogRow | undefined {
  switch (source.kind) {
    case 'file':
      return undefined;
    case 'hf':
      return catalog().find((row) =>
        row.sources.some((place) => place.kind === 'hf' && place.repo === source.repo),
      );
    case 'url':
      return [...catalog(), ...catalog('mmpretrain')].find((row) =>
        row.sources.some((place) => place.kind === 'url' && place.url === source.url),
      );
    default:
      return catalogRow(source.name, source.kind);
  }
}

/**
 * Are these weights published ones, so that the number of classes tells which classes they are? A file on this machine
 * never is, nor is anybody's repository.
 */
export function isPublished(source: Source): boolean {
  if (rowAt(source)) return true;
  return (
    source.kind === 'url' && Object.values(RELEASES).some((folder) => source.url.startsWith(`${folder}/`))
  );
}

/** The set that a published source has, where its name alone tells. */
export function publishedSet(source: Source): LabelSet | undefined {
  const row = rowAt(source);
  if (row) return labelSetFor({ kind: 'classification', classes: row.classes });
  // Segmentation models are not in the catalog; upstream's files say their data: `…_ft22ktoade20k.pth`.
  const segments = source.kind === 'url' && /ade20k[^/]*$/.test(source.url) && isPublished(source);
  return segments ? labelSetFor({ kind: 'segmentation', classes: 150 }) : undefined;
}

/**
 * The names of a set: from the cache, if it has them, else from the hub. One attempt, and a limit to the waiting.
 *
 * @throws NetworkError, EnvironmentError, InputError when they cannot be had; InterruptedError
 */
export async function fetchLabels(set: LabelSet, options: NetworkOptions = {}): Promise<NamedLabels> {
  const limit = AbortSignal.timeout(PATIENCE);
  const signal = options.signal ? AbortSignal.any([options.signal, limit]) : limit;
  try {
    const { repo } = set;
    const { commit, main } = await resolveHub(
      { repo, file: FILE },
      {
        env: options.env,
        fetch: options.fetch,
        sleep: options.sleep,
        signal,
        silence: options.silence ?? SILENCE,
        brief: true,
      },
    );
    const labels = fitLabels(
      parseLabels(await readFile(main.path, 'utf8'), `hf:${repo}/${FILE}`),
      set.classes,
    );
    if (labels.length !== set.classes || labels.every(isPlaceholder)) {
      throw new InputError(
        `hf:${repo}/${FILE} has ${labels.length.toLocaleString('en-US')} names, not the ${set.classes.toLocaleString('en-US')} of ${set.title}`,
      );
    }
    return { labels, origin: `${set.name}, hf:${repo}@${commit}/${FILE}` };
  } catch (error) {
    throwIfStopped(options.signal);
    if (!limit.aborted) throw error;
    throw new NetworkError(`hf:${set.repo}/${FILE} did not come within ${PATIENCE / 1000} s`, {
      cause: error,
    });
  }
}

/**
 * The names of a set that was asked for by its name.
 *
 * @throws like {@link fetchLabels}, with the way on
 */
export async function requireLabels(set: LabelSet, options: NetworkOptions = {}): Promise<NamedLabels> {
  try {
    return await fetchLabels(set, options);
  } catch (error) {
    if (!(error instanceof NetworkError)) throw error;
    throw new NetworkError(`the class names of ${set.title} cannot be had: ${error.message}`, {
      next: `Give a file of them: --labels names.txt. Sets that are known: ${LABEL_WORDS}.`,
      cause: error,
    });
  }
}
