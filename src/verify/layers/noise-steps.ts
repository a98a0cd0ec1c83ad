/**
 * Float32 noise of single steps whose inputs are known exactly: rms over all values of the step. The constants and
 * their derivations are those of `noise.ts`.
 */
import { GELU_ROUNDING, ROUND, UNIT, dotNoise, driftNoise, normRounding } from '../noise.js';
import type { Heads, Values } from './arithmetic.js';

const UNIT2 = UNIT * UNIT;

export function meanSquare(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i] * values[i];
  return sum / values.length;
}

/** Mean over rows of the squares of each of `width` columns. */
function columnSquares(x: Values, width: number): Values {
  const out = new Float64Array(width);
  const rows = x.length / width;
  for (let at = 0; at < x.length; at += width)
    for (let c = 0; c < width; c++) out[c] += x[at + c] ** 2 / rows;
  return out;
}

/** Error variance of each output of a linear layer, mean over the rows: the running sums, the bias and the result. */
export function linearVariances(x: Values, weight: Values, out: Values, inputs: number): Values {
  const outputs = weight.length / inputs;
  const squares = columnSquares(x, inputs);
  const results = columnSquares(out, outputs);
  const kappa = dotNoise(inputs) * UNIT2;
  return results.map((square, n) => {
    let sum = 0;
    for (let c = 0; c < inputs; c++) sum += weight[n * inputs + c] ** 2 * squares[c];
    return kappa * sum + 2 * ROUND * square;
  });
}

export function rmsOf(variances: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < variances.length; i++) sum += variances[i];
  return Math.sqrt(sum / variances.length);
}

export function normNoise(x: Values, out: Values, width: number, weight: Values, eps: number): number {
  let total = 0;
  for (let at = 0; at < x.length; at += width) {
    let mean = 0;
    for (let c = 0; c < width; c++) mean += x[at + c] / width;
    let variance = 0;
    for (let c = 0; c < width; c++) variance += (x[at + c] - mean) ** 2 / width;
    const scale2 = 1 / (variance + eps);
    const rounding = normRounding(width, (variance + mean * mean) * scale2) * UNIT2;
    // The mean is a rounded sum itself, and the same for all channels of the token.
    const shift = (driftNoise(width) * UNIT2 + ROUND) * mean * mean * scale2;
    for (let c = 0; c < width; c++) {
      const p2 = (x[at + c] - mean) ** 2 * scale2;
      total += weight[c] ** 2 * (rounding * p2 + shift) + ROUND * out[at + c] ** 2;
    }
  }
  return Math.sqrt(total / x.length);
}

/** Of scores made from LN1's output: errors of q and k through their product, the product's own, the biases added. */
export function scoreNoise(qkv: Values, variances: Values, scores: Values, of: Heads, scale: number): number {
  const width = of.heads * of.d;
  const squares = columnSquares(qkv, 3 * width);
  const dot = dotNoise(of.d) * UNIT2;
  let total = 0;
  for (let c = 0; c < width; c++) {
    const [q, k] = [squares[c], squares[width + c]];
    const [dq, dk] = [variances[c] + ROUND * q, variances[width + c] + ROUND * k];
    total += scale * scale * (q * dk + k * dq + dot * q * k);
  }
  return Math.sqrt(total / of.heads + 2 * ROUND * meanSquare(scores));
}

/** Of a softmax over known scores: the exponential's argument is rounded, so its error grows with its distance. */
export function softmaxNoise(scores: Values, probabilities: Values, width: number): number {
  let total = 0;
  for (let at = 0; at < scores.length; at += width) {
    let largest = -Infinity;
    for (let i = at; i < at + width; i++) largest = Math.max(largest, scores[i]);
    for (let i = at; i < at + width; i++) {
      total += probabilities[i] ** 2 * ROUND * (4 + (scores[i] - largest) ** 2);
    }
  }
  return Math.sqrt(total / scores.length);
}

/** Of the average of v by known probabilities. */
export function contextNoise(
  probabilities: Values,
  qkv: Values,
  variances: Values,
  out: Values,
  of: Heads,
): number {
  const width = of.heads * of.d;
  const squares = columnSquares(qkv, 3 * width).subarray(2 * width);
  const peak = meanSquare(probabilities) * of.tokens;
  const v = rmsOf(variances.subarray(2 * width)) ** 2;
  const dot = dotNoise(of.tokens) * UNIT2 * peak * rmsOf(squares) ** 2;
  return Math.sqrt(peak * v + dot + (driftNoise(of.tokens) * UNIT2 + ROUND) * meanSquare(out));
}

/** What LayerScale does to an rms. */
export function scaleOf(gamma: Values | undefined): number {
  return gamma ? Math.sqrt(meanSquare(gamma)) : 1;
}

/** What scores and probabilities that nobody sees add to the average of v. */
export function hiddenNoise(
  scores: Values,
  probabilities: Values,
  qkv: Values,
  variances: Values,
  of: Heads,
  scale: number,
): number {
  const width = of.heads * of.d;
  const v = rmsOf(columnSquares(qkv, 3 * width).subarray(2 * width));
  const peak = meanSquare(probabilities) * of.tokens;
  const before = scoreNoise(qkv, variances, scores, of, scale) * Math.sqrt(peak);
  return Math.hypot(before, softmaxNoise(scores, probabilities, of.tokens) * Math.sqrt(of.tokens)) * v;
}

/** Of `x + gamma * branch`. */
export function joinNoise(branch: Values, gamma: Values | undefined, sum: Values): number {
  const width = gamma?.length ?? 1;
  let squares = 0;
  for (let i = 0; i < branch.length; i++) squares += ((gamma ? gamma[i % width] : 1) * branch[i]) ** 2;
  return Math.sqrt(ROUND * ((2 * squares) / branch.length + meanSquare(sum)));
}

/** Of GELU after fc1: GELU's slope is at most 1.13. */
export function activationNoise(x: Values, weight: Values, z: Values, h: Values, inputs: number): number {
  const before = rmsOf(linearVariances(x, weight, z, inputs)) ** 2;
  return Math.sqrt(
    before +
      GELU_ROUNDING.erf * meanSquare(z) +
      GELU_ROUNDING.result * meanSquare(h) +
      2 * ROUND * meanSquare(z),
  );
}

/** Of values that are only moved: none, but what a float32 number itself may be off. */
export function carriedNoise(values: Values): number {
  return Math.max(Math.sqrt(ROUND * meanSquare(values)), Number.MIN_VALUE);
}

/** Of a mean over `count` rows of one mean square. */
export function meanNoise(x: Values, mean: Values, count: number): number {
  return Math.sqrt(
    (dotNoise(count) * UNIT2 * meanSquare(x)) / count +
      (driftNoise(count) * UNIT2 + ROUND) * meanSquare(mean),
  );
}
