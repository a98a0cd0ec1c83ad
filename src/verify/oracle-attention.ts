/**
 * Attention of one head of one image, from qkv in `wide` (rows q | k | v, each head-major) to its channels of `a`.
 */
import { multiplyAdd, type Rows } from './kernels.js';
import { ROUND, UNIT, attentionVariance, dotNoise, type ChannelStatistics } from './noise.js';
import { widest, type AttentionPhase, type Geometry, type OracleMemory } from './oracle-memory.js';
import { positionRow } from './position.js';

/** What a thread keeps from head to head. */
interface Scratch {
  readonly geometry: Geometry;
  /** `[d, tokens]` */
  readonly values: Float64Array;
  /** `[tokens, tokens]`, row = query: scores, then probabilities */
  readonly scores: Float64Array;
  /** table row per pair of tokens, `[tokens, tokens]` */
  readonly rows: Int32Array | undefined;
}

let kept: Scratch | undefined;

function scratchFor(geometry: Geometry, positions: boolean): Scratch {
  if (kept?.geometry === geometry && (kept.rows !== undefined || !positions)) return kept;
  const { tokens, width, heads, window } = geometry;
  const rows = positions ? new Int32Array(tokens * tokens) : undefined;
  if (rows) {
    for (let query = 0; query < tokens; query++) {
      for (let key = 0; key < tokens; key++) rows[query * tokens + key] = positionRow(query, key, window);
    }
  }
  kept = {
    geometry,
    values: new Float64Array((tokens * width) / heads),
    scores: new Float64Array(tokens * tokens),
    rows,
  };
  return kept;
}

/** Give the memory back; the next head allocates it again. */
export function releaseScratch(): void {
  kept = undefined;
}

export function attentionTask(memory: OracleMemory, { tables }: AttentionPhase, task: number): void {
  const { geometry, wide, a, product, s } = memory;
  const { tokens, width, heads } = geometry;
  const image = Math.floor(task / heads);
  const head = task % heads;
  const d = width / heads;
  const scratch = scratchFor(geometry, tables.length > 0);
  const { values, scores } = scratch;

  const stride = 3 * width;
  const qAt = image * tokens * stride + head * d;
  const kAt = qAt + width;
  const vAt = kAt + width;
  const scale = 1 / Math.sqrt(d);
  for (let token = 0; token < tokens; token++) {
    for (let c = 0; c < d; c++) {
      wide[qAt + token * stride + c] *= scale;
      values[c * tokens + token] = wide[vAt + token * stride + c];
    }
  }

  scores.fill(0);
  const scoreRows = { data: scores, at: 0, stride: tokens };
  multiplyAdd({ data: wide, at: qAt, stride }, { data: wide, at: kAt, stride }, scoreRows, tokens, d, tokens);
  const softmaxed = softmax(scratch, tables, head);
  memory.partial[task] = together(scratch);

  const outAt = image * tokens * width + head * d;
  const out = { data: a, at: outAt, stride: width };
  for (let token = 0; token < tokens; token++) a.fill(0, outAt + token * width, outAt + token * width + d);
  multiplyAdd(scoreRows, { data: values, at: 0, stride: tokens }, out, tokens, tokens, d);

  // What the projection's squared weights are multiplied with (noise.ts).
  const at = image * widest(geometry) + head * d;
  const variances = (part: number): Float64Array =>
    product.subarray(at + part * width, at + part * width + d);
  const q = statistics({ data: wide, at: qAt, stride }, tokens, variances(0), scale);
  const k = statistics({ data: wide, at: kAt, stride }, tokens, variances(1), 1);
  const v = statistics({ data: wide, at: vAt, stride }, tokens, variances(2), 1);
  const outSquare = statistics(out, tokens, variances(0), 0).square;
  attentionVariance({ tokens, q, k, v, outSquare, ...softmaxed }, s, at);
  const kappa = dotNoise(width) * UNIT * UNIT;
  for (let c = 0; c < d; c++) s[at + c] += kappa * outSquare[c];
}

/**
 * How much the queries of a head look at the same tokens: tokens * sum over keys of (mean probability)^2. 1 = every
 * token is looked at alike, `tokens` = all look at one.
 */
function together({ geometry: { tokens }, scores }: Scratch): number {
  const means = new Float64Array(tokens);
  for (let at = 0; at < tokens * tokens; at += tokens) {
    for (let key = 0; key < tokens; key++) means[key] += scores[at + key];
  }
  let squares = 0;
  for (let key = 0; key < tokens; key++) squares += means[key] * means[key];
  return squares / tokens;
}

/** Add the position biases and normalise each query's scores, in place. */
function softmax(
  { geometry, scores, rows }: Scratch,
  tables: readonly Float64Array[],
  head: number,
): { scoreSquares: number; peak: number; spread: number } {
  const { tokens, heads } = geometry;
  let scoreSquares = 0;
  let peaks = 0;
  let spreads = 0;
  for (let at = 0; at < tokens * tokens; at += tokens) {
    for (const table of tables) {
      for (let i = at; i < at + tokens; i++) {
        scoreSquares += scores[i] * scores[i];
        scores[i] += table[rows![i] * heads + head];
      }
    }
    let largest = -Infinity;
    for (let i = at; i < at + tokens; i++) {
      scoreSquares += scores[i] * scores[i];
      if (scores[i] > largest) largest = scores[i];
    }
    let sum = 0;
    for (let i = at; i < at + tokens; i++) {
      const e = Math.exp(scores[i] - largest);
      scores[i] = e;
      sum += e;
    }
    let peak = 0;
    for (let i = at; i < at + tokens; i++) {
      const p = scores[i] / sum;
      scores[i] = p;
      peak += p * p;
    }
    peaks += peak;
    spreads += peak * (1 - peak);
  }
  return { scoreSquares: scoreSquares / (tokens * tokens), peak: peaks / tokens, spread: spreads / tokens };
}

/** Means over the tokens of a head's channels; the variance is the linear layer's, scaled, and three roundings. */
function statistics(
  { data, at, stride }: Rows,
  tokens: number,
  linear: Float64Array,
  scale: number,
): ChannelStatistics {
  const d = linear.length;
  const square = new Float64Array(d);
  const mean = new Float64Array(d);
  for (let token = 0; token < tokens; token++) {
    for (let c = 0; c < d; c++) {
      const value = data[at + token * stride + c];
      mean[c] += value / tokens;
      square[c] += (value * value) / tokens;
    }
  }
  return { variance: square.map((each, c) => linear[c] * scale * scale + 3 * ROUND * each), square, mean };
}
