/** What the oracle takes and returns. */
import type { NoiseEstimate } from './noise.js';

export interface OracleOptions {
  /**
   * Worker threads; 0 = none, everything in this thread. Default: all cores, none for small work. The result does not
   * depend on it.
   */
  readonly threads?: number;
  /** keep the hidden states */
  readonly hidden?: boolean;
  /** which patches are hidden by the mask token, `[batch, N]`, 1 = hidden; pre-training models only */
  readonly mask?: Uint8Array;
  /** stop after the last block, also where there is a classifier */
  readonly headless?: boolean;
  readonly signal?: AbortSignal;
  /** called after every block */
  onProgress?(done: number, total: number): void;
}

export interface OracleResult {
  /** `[batch, classes]`; empty where there is no classifier, or it was not asked for */
  readonly logits: Float64Array;
  /** `[batch, E]`: pooled and normalised, before the head */
  readonly features: Float64Array;
  /** `[batch, tokens, E]` each: [0] tokens entering block 0, [k] after block k */
  readonly hidden?: readonly Float64Array[];
  /** BEiT v2 pre-training: `[batch, tokens, E]` after the blocks of the second output */
  readonly second?: Float64Array;
  readonly noise: NoiseEstimate;
}
