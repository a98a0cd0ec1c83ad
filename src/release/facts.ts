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
  /** the hub repository or file the weights came from */
  readonly origin: string | undefined;
  readonly baseModel: string | undefined;
  readonly classes: number | undefined;
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

/** @param version of the weights, where the catalog says nothing */
export function factsOf(item: ReleaseItem, version?: 1 | 2): Facts {
  const row = rowOf(item.source);
  const hub = row?.sources.find((source) => source.kind === 'hf')?.repo ?? hubRepo(item.source);
  const url = row?.sources.find((source) => source.kind === 'url')?.url;
  const trainingData = item.training_data ?? (row ? trainingDataOf(row.name) : []);
  return {
    title: item.title ?? item.name,
    version: item.beit_version ?? row?.version ?? version,
    trainingData,
    pretrain: item.pretrain ?? trainingData[0],
    top1: item.metrics ? item.metrics.top1 : row?.top1,
    top5: item.metrics ? item.metrics.top5 : row?.top5,
    origin: item.converted_from ?? url ?? (hub === undefined ? undefined : `https://huggingface.co/${hub}`),
    baseModel: item.base_model ?? hub,
    classes: row?.classes,
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
