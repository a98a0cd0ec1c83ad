/** The catalog of published checkpoints: {@link CATALOG_DATA} and {@link MMPRETRAIN_DATA}, plus what follows from them. */
import { complexity, type BeitConfig } from '../beit.js';
import { UsageError, printable } from '../errors.js';
import { officialPreprocessing, type Preprocessing } from '../preprocessing.js';
import {
  ARCHITECTURES,
  CATALOG_DATA,
  DEFAULT_CATALOG_NAME,
  RELEASES,
  type ArchitectureName,
  type BeitVersion,
  type CatalogEntry,
  type Task,
} from './catalog-data.js';
import { MMPRETRAIN_DATA, OPENMMLAB, type MmpretrainEntry } from './mmpretrain-data.js';

/** One place a checkpoint can be had from. */
export type CatalogSource =
  | { readonly kind: 'hf'; readonly repo: string; readonly file: string }
  | { readonly kind: 'url'; readonly url: string };

/** Whose checkpoint, and the prefix of its name in `--src`. */
export type Publisher = 'official' | 'mmpretrain';

export interface CatalogRow {
  readonly publisher: Publisher;
  readonly task: Task;
  readonly name: string;
  /** other names that are taken: timm's and Hugging Face's for the same weights, OpenMMLab's file names */
  readonly aliases: readonly string[];
  readonly version: BeitVersion;
  readonly architecture: ArchitectureName;
  /** side of the square input in pixels */
  readonly imageSize: number;
  /** 0 for pre-training */
  readonly classes: number;
  /** of classifiers */
  readonly config?: BeitConfig;
  /** of classifiers, head included */
  readonly parameters?: number;
  /** of classifiers, in the published convention, see `complexity` */
  readonly flops?: number;
  /** ImageNet-1k validation, percent, as published; `undefined` where nothing was published */
  readonly top1: number | undefined;
  readonly top5: number | undefined;
  /** in order of preference */
  readonly sources: readonly CatalogSource[];
  /** upstream's evaluation transform */
  readonly preprocessing: Preprocessing;
}

const PATCH_SIZE = 16;

/** Every published v1/v2 classifier has LayerScale, q/v biases, one table per block and mean pooling. */
function configOf(entry: Pick<CatalogEntry, 'architecture' | 'imageSize' | 'classes'>): BeitConfig {
  const { hiddenSize, depth, heads } = ARCHITECTURES[entry.architecture];
  const side = Math.floor(entry.imageSize / PATCH_SIZE);
  return {
    imageSize: [entry.imageSize, entry.imageSize],
    patchSize: PATCH_SIZE,
    window: [side, side],
    channels: 3,
    hiddenSize,
    depth,
    heads,
    mlpSize: 4 * hiddenSize,
    kind: 'classification',
    classes: entry.classes,
    vocabulary: 0,
    classToken: true,
    maskToken: false,
    layerScale: true,
    qvBias: true,
    qkvBias: false,
    absolutePosition: false,
    relativePosition: true,
    sharedRelativePosition: false,
    pooling: 'mean',
    tokenNorm: false,
    pooledNorm: true,
    layerNormEps: 1e-6,
  };
}

function rowOf(entry: CatalogEntry): CatalogRow {
  const config = configOf(entry);
  const sources: CatalogSource[] = [];
  if (entry.timm) sources.push({ kind: 'hf', repo: `timm/${entry.timm}`, file: 'model.safetensors' });
  sources.push({ kind: 'url', url: `${RELEASES[entry.version]}/${entry.name}.pth` });
  return {
    publisher: 'official',
    task: 'classification',
    name: entry.name,
    aliases: [entry.timm, entry.transformers].filter((alias) => alias !== undefined),
    version: entry.version,
    architecture: entry.architecture,
    imageSize: entry.imageSize,
    classes: entry.classes,
    config,
    ...complexity(config),
    top1: entry.top1,
    top5: entry.top5,
    sources,
    preprocessing: officialPreprocessing(
      entry.version,
      [entry.imageSize, entry.imageSize],
      `official evaluation transform of ${entry.name}`,
    ),
  };
}

/** The evaluation transform is the official one; pre-training saw ImageNet's constants, whichever version. */
function mmpretrainRowOf(entry: MmpretrainEntry): CatalogRow {
  const { name, task, version, architecture, imageSize, classes } = entry;
  const config = task === 'classification' ? configOf(entry) : undefined;
  const constants = task === 'classification' ? version : 2;
  return {
    publisher: 'mmpretrain',
    task,
    name,
    aliases: [entry.path.slice(entry.path.lastIndexOf('/') + 1, -'.pth'.length)],
    version,
    architecture,
    imageSize,
    classes,
    ...(config && { config, ...complexity(config) }),
    top1: entry.top1,
    top5: entry.top5,
    sources: [{ kind: 'url', url: `${OPENMMLAB}/${entry.path}` }],
    preprocessing: officialPreprocessing(
      constants,
      [imageSize, imageSize],
      `mmpretrain's ${task === 'classification' ? 'test pipeline' : 'constants'} of ${name}`,
    ),
  };
}

const rows = new Map<Publisher, readonly CatalogRow[]>();

/** All rows of a publisher, v1 before v2. */
export function catalog(publisher: Publisher = 'official'): readonly CatalogRow[] {
  const known = rows.get(publisher);
  if (known) return known;
  const made = publisher === 'official' ? CATALOG_DATA.map(rowOf) : MMPRETRAIN_DATA.map(mmpretrainRowOf);
  rows.set(publisher, made);
  return made;
}

/**
 * Is this a file of the authors' releases or of OpenMMLab, whether or not the catalog has a row for it (pre-training and
 * segmentation models have none)?
 */
export function isPublishedAddress(url: string): boolean {
  const { href } = new URL(url);
  const folders = [...Object.values(RELEASES), OPENMMLAB];
  return folders.some((folder) => href.startsWith(`${folder}/`)) && !/[?#]/.test(href);
}

/**
 * The row of this name or alias; without a name, the default model (BEiT-base, ImageNet-22k → 1k, 224).
 * @throws UsageError that names the nearest rows
 */
export function catalogRow(
  name: string = DEFAULT_CATALOG_NAME,
  publisher: Publisher = 'official',
): CatalogRow {
  const found = catalog(publisher).find((row) => row.name === name || row.aliases.includes(name));
  if (found) return found;
  const whose = publisher === 'official' ? 'official checkpoint' : 'checkpoint of mmpretrain';
  throw new UsageError(`no ${whose} is called "${printable(name)}"`, {
    next: `Nearest: ${nearestNames(name, 3, publisher).join(', ')}. All of them: convert-beit list.`,
  });
}

/** Up to `most` row names, the most alike first. */
export function nearestNames(name: string, most = 3, publisher: Publisher = 'official'): string[] {
  const wanted = name.trim().toLowerCase().slice(0, 100);
  const scored = catalog(publisher).map((row) => ({
    name: row.name,
    score: Math.min(...[row.name, ...row.aliases].map((known) => dissimilarity(wanted, known))),
  }));
  scored.sort((a, b) => a.score - b.score);
  return scored.slice(0, most).map((one) => one.name);
}

/**
 * Edit distance where leaving characters of `known` out is cheap: people type the part that they remember
 * (`large_512`), and seldom invent one.
 */
function dissimilarity(wanted: string, known: string): number {
  let previous = Array.from({ length: known.length + 1 }, (_, column) => column * 0.2);
  for (let row = 1; row <= wanted.length; row++) {
    const current = [row];
    for (let column = 1; column <= known.length; column++) {
      const same = wanted[row - 1] === known[column - 1];
      current.push(
        Math.min(previous[column - 1] + (same ? 0 : 1), previous[column] + 1, current[column - 1] + 0.2),
      );
    }
    previous = current;
  }
  return previous[known.length];
}
