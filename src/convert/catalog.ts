/** The catalog of official checkpoints: {@link CATALOG_DATA} plus what follows from it. */
import { complexity, type BeitConfig } from '../beit.js';
import { InputError, UsageError, printable } from '../errors.js';
import { officialPreprocessing, type Preprocessing } from '../image.js';
import {
  ARCHITECTURES,
  CATALOG_DATA,
  DEFAULT_CATALOG_NAME,
  RELEASES,
  type ArchitectureName,
  type BeitVersion,
  type CatalogEntry,
} from './catalog-data.js';

/** One place a checkpoint can be had from. */
export type CatalogSource =
  | { readonly kind: 'hf'; readonly repo: string; readonly file: string }
  | { readonly kind: 'url'; readonly url: string };

export interface CatalogRow {
  readonly name: string;
  /** other names `official:<name>` takes: timm's and Hugging Face's for the same weights */
  readonly aliases: readonly string[];
  readonly version: BeitVersion;
  readonly architecture: ArchitectureName;
  /** side of the square input in pixels */
  readonly imageSize: number;
  readonly classes: number;
  readonly config: BeitConfig;
  /** head included */
  readonly parameters: number;
  /** in the published convention, see `complexity` */
  readonly flops: number;
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
function configOf(entry: CatalogEntry): BeitConfig {
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

let rows: readonly CatalogRow[] | undefined;

/** All rows, v1 before v2. */
export function catalog(): readonly CatalogRow[] {
  return (rows ??= CATALOG_DATA.map(rowOf));
}

/**
 * The row of this name or alias; without a name, the default model (BEiT-base, ImageNet-22k → 1k, 224).
 * @throws UsageError that names the nearest rows
 */
export function catalogRow(name: string = DEFAULT_CATALOG_NAME): CatalogRow {
  const found = catalog().find((row) => row.name === name || row.aliases.includes(name));
  if (found) return found;
  throw new UsageError(`no official checkpoint is called "${printable(name)}"`, {
    next: `Nearest: ${nearestNames(name).join(', ')}. All of them: convert-beit list.`,
  });
}

/**
 * Where the tool can read a row's weights from.
 * @throws InputError when it is published in a format that cannot be read here only
 */
export function readableSource(row: CatalogRow): Extract<CatalogSource, { kind: 'hf' }> {
  for (const source of row.sources) if (source.kind === 'hf') return source;
  const urls = row.sources.map((source) => (source.kind === 'url' ? source.url : '')).join(', ');
  throw new InputError(`${row.name} is published as a PyTorch file only (${urls}); safetensors is needed`, {
    next: 'A .pth file cannot be read yet: download it, convert it to safetensors elsewhere, and give that file: --src <path>.',
  });
}

/** Up to `most` row names, the most alike first. */
export function nearestNames(name: string, most = 3): string[] {
  const wanted = name.trim().toLowerCase().slice(0, 100);
  const scored = catalog().map((row) => ({
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
