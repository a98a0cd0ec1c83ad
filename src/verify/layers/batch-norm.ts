/** BatchNorm of running statistics: the right one, the mistakes that are made in it, the noise it has. */
import { BATCH_NORM_EPS } from '../oracle-segment.js';
import { ROUND, UNIT, dotNoise } from '../noise.js';
import type { Values } from './arithmetic.js';
import { meanSquare } from './noise-steps.js';
import type { Weights } from './weights.js';

/** Names of its tensors. */
export const BATCH_NORM_PARTS = ['weight', 'bias', 'running_mean', 'running_var'] as const;

export interface Normed {
  readonly weight: Float64Array;
  readonly bias: Float64Array;
  readonly mean: Float64Array;
  readonly variance: Float64Array;
}

export async function batchNormOf(weights: Weights, name: string): Promise<Normed> {
  const [weight, bias, mean, variance] = await Promise.all(
    BATCH_NORM_PARTS.map((part) => weights.tensor(`${name}.${part}`)),
  );
  return { weight, bias, mean, variance };
}

export interface NormHow {
  readonly eps?: number;
  readonly without?: 'norm' | 'weight' | 'bias' | 'mean' | 'relu';
  readonly unrooted?: boolean;
}

export function normalised(
  x: Float64Array,
  { weight, bias, mean, variance }: Normed,
  how: NormHow = {},
): Float64Array {
  const { eps = BATCH_NORM_EPS, without, unrooted } = how;
  if (without === 'norm') return x;
  return x.map((value, c) => {
    const scale = unrooted ? variance[c] + eps : Math.sqrt(variance[c] + eps);
    const centred = without === 'mean' ? value : value - mean[c];
    return (centred / scale) * (without === 'weight' ? 1 : weight[c]) + (without === 'bias' ? 0 : bias[c]);
  });
}

/** Mistakes in a BatchNorm and the ReLU behind it. */
export const NORM_MISTAKES: readonly {
  readonly what: string;
  readonly how: NormHow;
  readonly parts: readonly string[];
}[] = [
  { what: 'BatchNorm has epsilon 0.001 instead of 0.00001', how: { eps: 1e-3 }, parts: [] },
  { what: 'BatchNorm has epsilon 1e-12 instead of 0.00001', how: { eps: 1e-12 }, parts: [] },
  {
    what: 'BatchNorm is missing',
    how: { without: 'norm' },
    parts: BATCH_NORM_PARTS,
  },
  { what: 'BatchNorm has no weight', how: { without: 'weight' }, parts: ['weight'] },
  { what: 'BatchNorm has no bias', how: { without: 'bias' }, parts: ['bias'] },
  { what: 'BatchNorm does not take its running mean off', how: { without: 'mean' }, parts: ['running_mean'] },
  {
    what: 'BatchNorm divides by the variance instead of its root',
    how: { unrooted: true },
    parts: ['running_var'],
  },
  { what: 'there is no ReLU', how: { without: 'relu' }, parts: [] },
];

/** rms error of a convolution: its sums, then BatchNorm's roundings. */
export function convNoise(
  terms: number,
  weights: ArrayLike<number>,
  x: number,
  norm: Normed | undefined,
  out: Values,
): number {
  const sums = dotNoise(terms) * UNIT ** 2 * terms * meanSquare(weights) * x;
  let gain = 1;
  let shift = 0;
  if (norm) {
    gain = 0;
    norm.weight.forEach((value, c) => {
      const square = value ** 2 / (norm.variance[c] + BATCH_NORM_EPS);
      gain += square / norm.weight.length;
      shift += (square * norm.mean[c] ** 2 + norm.bias[c] ** 2) / norm.weight.length;
    });
  }
  const values = terms * meanSquare(weights) * x;
  return (
    Math.sqrt(gain * (sums + 2 * ROUND * values) + 3 * ROUND * (shift + meanSquare(out))) || Number.MIN_VALUE
  );
}
