/**
 * How much float32 rounding noise an honest float32 implementation must be expected to show against float64.
 *
 * The oracle carries, beside every value, an estimate of the variance of the error that float32 arithmetic would have
 * made there. Errors are taken as independent and without bias, so variances add. Notation: u = 2^-24 (half a unit in
 * the last place of 1), rho u^2 x^2 = variance of one rounding of x.
 *
 * - residual stream: one variance per token and channel (`V`) for what is rounded there, plus one per image and
 *   channel (`R`) for what the branches bring in. Each addition rounds: V += rho u^2 (result)^2.
 * - LayerNorm `y = g (x - m)/s + b`: the exact Jacobian on the diagonal covariance V + R, which also projects out what
 *   a single massive channel would bring in: see {@link normVariance}; plus {@link normRounding}.
 * - Linear `y = W x + b`: var(y_n) = sum_c W_nc^2 s_c with s_c = mean over tokens of var(x_c) + kappa u^2 x_c^2.
 *   The second part is the rounding of the running sum: see {@link dotNoise}. That is one extra product of the squared
 *   weights with one vector per image, 1/tokens of the layer's own work.
 * - attention: scores from the variances of q and k, the softmax's own Jacobian, the average of v: see
 *   {@link attentionVariance}.
 * - GELU: var(h) = mean gelu'(z)^2 var(z) + rounding of z, of erf and of the result: see {@link GELU_ROUNDING}.
 * - LayerScale multiplies by gamma^2 and rounds. Mean pooling divides by the number of tokens: errors of different
 *   tokens are independent apart from what attention brings to all of them ({@link poolShare}).
 *
 * The estimate costs about 1 % of the oracle's time. It is no bound: the maximum over K outputs is about
 * sqrt(2 ln K) times the rms, and implementations differ by the order of their sums.
 */

/** Half a unit in the last place of 1 in float32. */
export const UNIT = 2 ** -24;
const UNIT2 = UNIT * UNIT;

/**
 * rho: mean square of the relative error of one rounding, in u^2. Uniform in ±u for a significand of 1 (u^2/3), over
 * significands spread as 1/m: (1/3) (1 - 1/4) / (2 ln 2) = 0.18.
 */
export const ROUNDING = 0.18;

/** Variance of rounding one value of mean square `square`. */
export const ROUND = ROUNDING * UNIT2;

/** Terms that BLAS-like kernels add up before they start a new partial sum (MLAS 128, oneDNN and OpenBLAS 192-384). */
const SUM_BLOCK = 256;

/** Expected rms float32 error, absolute, in the unit of the values themselves. */
export interface NoiseEstimate {
  /** per image: rms over its logits */
  readonly logits: Float64Array;
  /** per image: rms over its pooled and normalised vector */
  readonly features: Float64Array;
  /** [0] tokens entering block 0, [k] after block k: rms over all tokens and channels of the batch */
  readonly hidden: readonly number[];
}

/**
 * kappa of a sum of `terms` products without a common sign, in u^2 and per sum of squared products. Step i rounds a
 * partial sum whose mean square is i/terms of the whole: inside a block of B that adds B/2 roundings, and joining
 * terms/B blocks adds terms/(2B).
 */
export function dotNoise(terms: number): number {
  return ROUNDING * (Math.min(terms, SUM_BLOCK) / 2 + terms / (2 * SUM_BLOCK));
}

/**
 * The same for terms of one sign, per squared *result*: partial sums grow as i/terms, their squares as the square of that.
 */
export function driftNoise(terms: number): number {
  const block = Math.min(terms, SUM_BLOCK);
  return ROUNDING * (block ** 2 / (3 * terms) + terms / (3 * block));
}

/**
 * LayerNorm over a vector with independent errors: with p = normalised value, E = width,
 * var(y_c) = (g/s)^2 [ V_c (1 - 2 (1 + p^2)/E) + (A + 2 p B + p^2 C)/E^2 ], A = sum V, B = sum V p, C = sum V p^2.
 * @returns var(y_c) / (g/s)^2
 */
export function normVariance(v: number, p: number, a: number, b: number, c: number, width: number): number {
  return Math.max(0, v * (1 - (2 * (1 + p * p)) / width) + (a + p * (2 * b + p * c)) / (width * width));
}

/**
 * Rounding inside a LayerNorm, in (u g p)^2. The variance is a sum of `width` squares (eight partial sums, as SIMD code
 * keeps; half its relative error goes to the result), scaled by how much of `variance + eps` is data, and then the
 * value is shifted, scaled by 1/s and by g: three roundings. The sum of the bias is rounded outside.
 *
 * @param dataShare mean square of the input / (variance + eps)
 */
export function normRounding(width: number, dataShare: number): number {
  return ROUNDING * (((0.25 * width) / (3 * NORM_LANES)) * dataShare * dataShare + 3);
}
const NORM_LANES = 8;

/** What one attention head tells about its values: means over tokens (and, for scores, over token pairs). */
export interface HeadStatistics {
  readonly tokens: number;
  /** per channel of the head: variance of the error, mean square, mean of the value */
  readonly q: ChannelStatistics;
  readonly k: ChannelStatistics;
  readonly v: ChannelStatistics;
  /** mean square of the head's output per channel */
  readonly outSquare: Float64Array;
  /** mean squares of the scores: as multiplied, and after each addition of a position bias */
  readonly scoreSquares: number;
  /** mean over queries of sum_j p_j^2 (1 = looks at one token, 1/tokens = at all alike) */
  readonly peak: number;
  /** mean over queries of peak (1 - peak) */
  readonly spread: number;
}

export interface ChannelStatistics {
  readonly variance: Float64Array;
  readonly square: Float64Array;
  readonly mean: Float64Array;
}

/** exp, the difference before it, the normalising sum and the division: roundings of one probability. */
const SOFTMAX_ROUNDINGS = 4;

/**
 * Variance of a head's output per channel: scores s = q k^T + bias, p = softmax(s), out = p v.
 * Around p the softmax sends ds_j to p_j ds_j (v_j - out), so that
 * var(out) = var(s) sum_j p_j^2 (v_j - out)^2 + sum_j p_j^2 var(v) + rounding of the sum;
 * sum_j p_j^2 (v_j - out)^2 is taken as peak (1 - peak) var_j(v): exact for flat attention and for a hard choice.
 */
export function attentionVariance(of: HeadStatistics, out: Float64Array, outAt: number): void {
  const { q, k, v, tokens, outSquare } = of;
  const width = outSquare.length;
  const dot = dotNoise(width) * UNIT2;
  let scores = ROUND * of.scoreSquares;
  for (let d = 0; d < width; d++) {
    scores += q.square[d] * k.variance[d] + k.square[d] * q.variance[d] + dot * q.square[d] * k.square[d];
  }
  const probabilities = scores + SOFTMAX_ROUNDINGS * ROUND;
  const sum = dotNoise(tokens) * UNIT2 * of.peak;
  const drift = driftNoise(tokens) * UNIT2;
  for (let d = 0; d < width; d++) {
    const between = Math.max(0, v.square[d] - v.mean[d] * v.mean[d]);
    out[outAt + d] =
      probabilities * of.spread * between +
      of.peak * v.variance[d] +
      sum * v.square[d] +
      drift * outSquare[d];
  }
}

/**
 * GELU = x/2 (1 + erf(x/√2)): the factor (1 + erf) is off by about `ERF_ULPS` u whatever its size, so the result by
 * that times x/2; product and result are rounded once each.
 */
export const GELU_ROUNDING = { erf: 0.25 * 0.5 * UNIT2, result: 2 * ROUND } as const;

/**
 * Variance of the mean over n tokens / (variance of a token / n). Errors of different tokens are independent (1), apart
 * from what attention brings to all of them: where the queries look at the same tokens, they get the same errors.
 *
 * @param together tokens * sum over keys of (mean probability)^2, mean over the heads of the layer where it is largest:
 *   1 for flat attention, the number of tokens where all queries look at one
 */
export function poolShare(together: number): number {
  return 1 + together;
}
