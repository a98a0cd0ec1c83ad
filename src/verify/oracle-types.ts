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
  readonly signal?: AbortSignal;
  /** called after every block */
  onProgress?(done: number, total: number): void;
}

export interface OracleResult {
  /** `[batch, classes]` */
  readonly logits: Float64Array;
  /** `[batch, E]`: pooled and normalised, before the head */
  readonly features: Float64Array;
  /** `[batch, tokens, E]` each: [0] tokens entering block 0, [k] after block k */
  readonly hidden?: readonly Float64Array[];
  readonly noise: NoiseEstimate;
}
