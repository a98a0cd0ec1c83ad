/**
 * What is published about a model, gathered from the catalog row it comes from and from the manifest (which wins).
 */
import { DEFAULT_CATALOG_NAME } from '../convert/catalog-data.js';
import { catalog, type CatalogRow, type Publisher } from '../convert/catalog.js';
import type { ReleaseItem } from './manifest.js';

export interface Facts {
  readonly title: string;
  readonly version: 1 | 2 | undefined;
  /** pre-training and fine-tuning data, in that order */
  readonly trainingData: readonly string[];
  /** what it was pre-trained on, in words */
  readonly pretrain: string | undefined;
  /** ImageNet-1k validation, percent, as published */
  readonly top1: number | undefined;
  readonly top5: number | undefined;
  /** the data set whose classes the head knows */
  readonly labelled: string | undefined;
  readonly baseModel: string | undefined;
}

const DATASETS: Readonly<Record<string, string>> = {
  '1k': 'ImageNet-1k',
  '21k': 'ImageNet-21k',
  '22k': 'ImageNet-21k',
};

/**
 * `pt22k_ft22kto1k` → ImageNet-21k, ImageNet-1k. "22k" and "21k" are the same data under two names.
 * @see unilm `beit/README.md`, `beit2/README.md`: how the files are named
 */
export function trainingDataOf(name: string): string[] {
  const found: string[] = [];
  for (const [, first, second] of name.matchAll(/_(?:pt|ft)(\d+k)(?:to(\d+k))?/g)) {
    for (const token of [first, second]) {
      const dataset = token === undefined ? undefined : DATASETS[token];
      if (dataset !== undefined && !found.includes(dataset)) found.push(dataset);
    }
  }
  return found;
}

/** `pt1k_ft21kto1k`: all that came before the last fine-tuning. */
function pretrainOf(name: string): string | undefined {
  const [, first, second] = /_pt(\d+k).*?(?:_ft(\d+k)to\d+k)?$/.exec(name) ?? [];
  const known = [first, second].flatMap((token) => (token === undefined ? [] : (DATASETS[token] ?? [])));
  return known.length === 0 ? undefined : [...new Set(known)].join(', ');
}

/** Of published heads, the number of classes tells the data. */
const LABELLED: ReadonlyMap<number, string> = new Map([
  [1000, 'ImageNet-1k'],
  [21841, 'ImageNet-21k'],
  [150, 'ADE20K'],
]);

const HUB_DATASETS: Readonly<Record<string, string>> = {
  'ImageNet-1k': 'imagenet-1k',
  'ImageNet-21k': 'imagenet-21k',
  ADE20K: 'scene_parse_150',
};

/** Names of data sets as cards on the hub have them; of others nothing is known. */
export function hubDatasets(trainingData: readonly string[]): string[] {
  return trainingData.flatMap((name) => HUB_DATASETS[name] ?? []);
}

/** A page or file for people to go to; a path of somebody's machine has none. */
export function addressOf(id: string): string | undefined {
  const [, repo, commit, file] = /^hf:([^@]+)@([0-9a-f]{40})\/(.+)$/s.exec(id) ?? [];
  if (repo !== undefined) return `https://huggingface.co/${repo}/blob/${commit}/${file}`;
  return /^https:\/\//.test(id) ? id : undefined;
}

/**
 * @param version of the weights, where the catalog says nothing
 * @param classes of the head
 */
export function factsOf(item: ReleaseItem, version?: 1 | 2, classes?: number): Facts {
  const row = rowOf(item.source);
  const hub = row?.sources.find((source) => source.kind === 'hf')?.repo ?? hubRepo(item.source);
  const trainingData = item.training_data ?? (row ? trainingDataOf(row.name) : []);
  return {
    title: item.title ?? item.name,
    version: item.beit_version ?? row?.version ?? version,
    trainingData,
    pretrain: item.pretrain ?? (row && pretrainOf(row.name)) ?? trainingData[0],
    top1: item.metrics ? item.metrics.top1 : row?.top1,
    top5: item.metrics ? item.metrics.top5 : row?.top5,
    labelled: LABELLED.get(classes ?? row?.classes ?? 0),
    baseModel: item.base_model ?? hub,
  };
}

/** The catalog row that a source names. */
export function rowOf(source: string): CatalogRow | undefined {
  if (source === 'official') return rowNamed('official', DEFAULT_CATALOG_NAME);
  const [, publisher, name] = /^(official|mmpretrain):(.+)$/s.exec(source) ?? [];
  return name === undefined ? undefined : rowNamed(publisher as Publisher, name);
}

function rowNamed(publisher: Publisher, name: string): CatalogRow | undefined {
  return catalog(publisher).find((row) => row.name === name || row.aliases.includes(name));
}

function hubRepo(source: string): string | undefined {
  return /^hf:([^/@]+\/[^/@]+)/.exec(source)?.[1];
}
