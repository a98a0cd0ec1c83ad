/**
 * The single steps of BEiT's forward pass in float64, as plain functions of their inputs: what a step must give, and
 * what it would give after a mistake. The oracle runs whole models; this runs one step on what a file has computed.
 *
 * Matrices are row-major; tokens of a batch one image after the other, the class token first.
 */
import type { BeitConfig } from '../../beit.js';
import { tokenCount } from '../../beit.js';
import { multiplyAdd } from '../kernels.js';
import { positionRow } from '../position.js';

export type Values = Float64Array;

/** `[rows, in]` times the transpose of `[out, in]`, plus bias. */
export function linear(x: Values, weight: Values, bias: Values | undefined, inputs: number): Values {
  const rows = x.length / inputs;
  const outputs = weight.length / inputs;
  const out = new Float64Array(rows * outputs);
  if (bias) for (let row = 0; row < rows; row++) out.set(bias, row * outputs);
  multiplyAdd(
    { data: x, at: 0, stride: inputs },
    { data: weight, at: 0, stride: inputs },
    { data: out, at: 0, stride: outputs },
    rows,
    inputs,
    outputs,
  );
  return out;
}

/** `[rows, columns]` to `[columns, rows]`. */
export function transpose(matrix: Values, columns: number): Values {
  const rows = matrix.length / columns;
  const out = new Float64Array(matrix.length);
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++) out[c * rows + r] = matrix[r * columns + c];
  return out;
}

export interface NormOptions {
  readonly weight?: Values;
  readonly bias?: Values;
  readonly eps: number;
  /** RMSNorm leaves the mean in */
  readonly centred?: boolean;
}

/** Every row of `width` normalised. */
export function layerNorm(
  x: Values,
  width: number,
  { weight, bias, eps, centred = true }: NormOptions,
): Values {
  const out = new Float64Array(x.length);
  for (let at = 0; at < x.length; at += width) {
    let mean = 0;
    if (centred) for (let c = 0; c < width; c++) mean += x[at + c] / width;
    let variance = 0;
    for (let c = 0; c < width; c++) variance += (x[at + c] - mean) ** 2 / width;
    const scale = 1 / Math.sqrt(variance + eps);
    for (let c = 0; c < width; c++) {
      out[at + c] = (x[at + c] - mean) * scale * (weight ? weight[c] : 1) + (bias ? bias[c] : 0);
    }
  }
  return out;
}

export interface Heads {
  readonly images: number;
  readonly tokens: number;
  readonly heads: number;
  /** width of one head */
  readonly d: number;
  readonly window: readonly [number, number];
}

export function headsOf(config: BeitConfig, images: number): Heads {
  const { heads, hiddenSize, window } = config;
  return { images, tokens: tokenCount(config), heads, d: hiddenSize / heads, window };
}

/** `[images * tokens, 3E]` or `[…, E]` to one head's `[tokens, d]`; `from` is the column where the head begins. */
function headOf(values: Values, stride: number, image: number, from: number, { tokens, d }: Heads): Values {
  const out = new Float64Array(tokens * d);
  for (let t = 0; t < tokens; t++) {
    const at = (image * tokens + t) * stride + from;
    out.set(values.subarray(at, at + d), t * d);
  }
  return out;
}

export type Part = 'q' | 'k' | 'v';

/**
 * Where the columns of a head's q, k or v lie among 3E: one after the other, each head-major (upstream), or all three
 * of a head side by side, as some implementations store them.
 */
export type ColumnOrder = (part: Part, head: number, of: Heads) => number;

export const UPSTREAM_ORDER: ColumnOrder = (part, head, { heads, d }) =>
  ('qkv'.indexOf(part) * heads + head) * d;
export const BY_HEAD_ORDER: ColumnOrder = (part, head, { d }) => (head * 3 + 'qkv'.indexOf(part)) * d;

export interface ScoreOptions {
  readonly scale: number;
  /** which parts are multiplied */
  readonly query?: Part;
  readonly key?: Part;
  readonly order?: ColumnOrder;
  /** `[heads, tokens, tokens]` added after the product */
  readonly bias?: Values;
}

/** `[images, heads, tokens, tokens]` before the softmax, from `[images * tokens, 3E]`. */
export function scores(qkv: Values, of: Heads, options: ScoreOptions): Values {
  const { images, tokens, heads, d } = of;
  const { scale, query = 'q', key = 'k', order = UPSTREAM_ORDER, bias } = options;
  const out = new Float64Array(images * heads * tokens * tokens);
  for (let image = 0; image < images; image++) {
    for (let head = 0; head < heads; head++) {
      const q = headOf(qkv, 3 * heads * d, image, order(query, head, of), of);
      const k = headOf(qkv, 3 * heads * d, image, order(key, head, of), of);
      const at = (image * heads + head) * tokens * tokens;
      const products = linear(q, k, undefined, d);
      const from = head * tokens * tokens;
      for (let i = 0; i < products.length; i++)
        out[at + i] = products[i] * scale + (bias ? bias[from + i] : 0);
    }
  }
  return out;
}

/** A table `[rows, heads]` looked up for every pair: `[heads, tokens, tokens]`. */
export function positionBias(
  table: Values,
  { heads, tokens, window }: Heads,
  row: (query: number, key: number) => number = (query, key) => positionRow(query, key, window),
): Values {
  const out = new Float64Array(heads * tokens * tokens);
  const last = table.length / heads - 1;
  for (let q = 0; q < tokens; q++) {
    for (let k = 0; k < tokens; k++) {
      const at = Math.max(0, Math.min(last, row(q, k))) * heads;
      for (let head = 0; head < heads; head++) out[(head * tokens + q) * tokens + k] = table[at + head];
    }
  }
  return out;
}

/** Rows of `width` to probabilities. */
export function softmax(values: Values, width: number): Values {
  const out = new Float64Array(values.length);
  for (let at = 0; at < values.length; at += width) {
    let largest = -Infinity;
    for (let i = 0; i < width; i++) largest = Math.max(largest, values[at + i]);
    let sum = 0;
    for (let i = 0; i < width; i++) sum += out[at + i] = Math.exp(values[at + i] - largest);
    for (let i = 0; i < width; i++) out[at + i] /= sum;
  }
  return out;
}

export interface ContextOptions {
  readonly value?: Part;
  readonly order?: ColumnOrder;
  /** probabilities used along their columns */
  readonly turned?: boolean;
  /** heads joined without moving them beside their tokens first */
  readonly unmoved?: boolean;
}

/** `[images * tokens, E]`: the average of v by `probabilities` `[images, heads, tokens, tokens]`. */
export function context(probabilities: Values, qkv: Values, of: Heads, options: ContextOptions = {}): Values {
  const { images, tokens, heads, d } = of;
  const { value = 'v', order = UPSTREAM_ORDER, turned = false, unmoved = false } = options;
  const width = heads * d;
  const out = new Float64Array(images * tokens * width);
  for (let image = 0; image < images; image++) {
    for (let head = 0; head < heads; head++) {
      const at = (image * heads + head) * tokens * tokens;
      const p = probabilities.subarray(at, at + tokens * tokens);
      const v = headOf(qkv, 3 * width, image, order(value, head, of), of);
      const mixed = linear(turned ? transpose(p, tokens) : p, transpose(v, d), undefined, tokens);
      if (unmoved) {
        out.set(mixed, (image * heads + head) * tokens * d);
        continue;
      }
      for (let t = 0; t < tokens; t++) {
        out.set(mixed.subarray(t * d, (t + 1) * d), (image * tokens + t) * width + head * d);
      }
    }
  }
  return out;
}

/** `x + gamma * branch`, row by row of `gamma`'s width. */
export function join(x: Values, branch: Values, gamma: Values | undefined, width: number): Values {
  return x.map((value, i) => value + (gamma ? gamma[i % width] : 1) * branch[i]);
}

/** Mean over groups of `group` rows of `width`, leaving the first `skip` rows of each out. */
export function meanRows(x: Values, width: number, group: number, skip = 0): Values {
  const groups = x.length / (group * width);
  const out = new Float64Array(groups * width);
  for (let g = 0; g < groups; g++) {
    for (let row = skip; row < group; row++) {
      for (let c = 0; c < width; c++) out[g * width + c] += x[(g * group + row) * width + c] / (group - skip);
    }
  }
  return out;
}

/** Rows `[from, to)` of every group of `group` rows. */
export function pickRows(x: Values, width: number, group: number, from: number, to: number): Values {
  const groups = x.length / (group * width);
  const out = new Float64Array(groups * (to - from) * width);
  for (let g = 0; g < groups; g++) {
    out.set(x.subarray((g * group + from) * width, (g * group + to) * width), g * (to - from) * width);
  }
  return out;
}
