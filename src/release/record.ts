/** What a release knows of a finished item: plain data, the same on every run over the same inputs. */
import type { SourceSummary } from '../results.js';
import type { ItemInputs } from './inputs.js';
import type { ReleaseItem } from './manifest.js';

/** A file of a release; the path is relative to the folder that is spoken of, with `/`. */
export interface ReleasedFile {
  readonly path: string;
  readonly bytes: number;
  readonly sha256: string;
}

/** One ONNX file of an item. */
export interface ReleasedModel extends ReleasedFile {
  readonly dtype: string;
  readonly opset: number;
  /** how far it is from its source, as its verification says */
  readonly parity: ModelParity;
}

export interface ModelParity {
  readonly verdict: 'passed' | 'failed' | 'skipped';
  readonly maxAbs?: number;
  readonly cosine?: number;
  readonly top1Agreement?: number;
  readonly top5Agreement?: number;
}

export interface ReleasedItem {
  readonly item: ReleaseItem;
  readonly source: SourceSummary;
  readonly models: readonly ReleasedModel[];
  /** every file of the item's folder, `SHA256SUMS` included; sorted by path */
  readonly files: readonly ReleasedFile[];
}

/** An item of a release, and what went into it. */
export interface FinishedItem {
  readonly released: ReleasedItem;
  readonly inputs: ItemInputs;
}

/** By code unit: the order is the same on every machine. */
export function byPath(a: { readonly path: string }, b: { readonly path: string }): number {
  return a.path < b.path ? -1 : a.path > b.path ? 1 : 0;
}
