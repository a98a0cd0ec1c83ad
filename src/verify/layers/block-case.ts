/**
 * A block as a case: its weights, and what a file computed in it.
 */
import type { BeitConfig } from '../../beit.js';
import { pickRows, type Values } from './arithmetic.js';
import type { BlockWeights, Weights } from './weights.js';

/** What the file gave for a block, by role. */
export type BlockValues = Readonly<
  Partial<
    Record<
      | 'input'
      | 'ln1'
      | 'scores'
      | 'probabilities'
      | 'context'
      | 'projection'
      | 'attended'
      | 'ln2'
      | 'activation'
      | 'mlp'
      | 'output',
      Float32Array
    >
  >
>;

export interface BlockCase {
  readonly config: BeitConfig;
  readonly images: number;
  readonly block: BlockWeights;
  readonly weights: Weights;
  readonly values: BlockValues;
}

export const wide = (values: Float32Array): Values => Float64Array.from(values);

/** Of all tokens' rows those that a file computes: all, the patches only, or the class token only. */
export function fitRows(full: Values, length: number, width: number, tokens: number): Values | undefined {
  const groups = full.length / (width * tokens);
  if (length === full.length) return full;
  if (length === groups * (tokens - 1) * width) return pickRows(full, width, tokens, 1, tokens);
  if (length === groups * width) return pickRows(full, width, tokens, 0, 1);
  return undefined;
}

/** The same for `[…, tokens, tokens]`: all queries, or the class token's only. */
export function fitQueries(full: Values, length: number, tokens: number): Values | undefined {
  if (length === full.length) return full;
  return length * tokens === full.length ? pickRows(full, tokens, tokens, 0, 1) : undefined;
}
