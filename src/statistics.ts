/**
 * What weights look like: range, mean, spread, what is no number; and what is unusual for a trained BEiT.
 */
import { dtype as dtypeRow } from './dtype.js';
import { asFloat32, elementCount, type StateDict, type Tensor } from './tensor.js';

export interface Statistics {
  readonly elements: number;
  readonly min: number;
  readonly max: number;
  readonly mean: number;
  readonly std: number;
  readonly nan: number;
  readonly infinite: number;
  readonly zeros: number;
}

/** Sums that can be put together: of the finite values. */
class Tally {
  elements = 0;
  min = Infinity;
  max = -Infinity;
  nan = 0;
  infinite = 0;
  zeros = 0;
  #count = 0;
  #mean = 0;
  #squares = 0;

  /** A block of values: its own mean and spread first, then joined with what was before (Chan, Golub, LeVeque 1979). */
  add(values: Float32Array): void {
    let [count, sum] = [0, 0];
    for (const value of values) {
      if (Number.isFinite(value)) {
        count += 1;
        sum += value;
        if (value < this.min) this.min = value;
        if (value > this.max) this.max = value;
        if (value === 0) this.zeros += 1;
      } else if (Number.isNaN(value)) this.nan += 1;
      else this.infinite += 1;
    }
    this.elements += values.length;
    if (count === 0) return;
    const mean = sum / count;
    let squares = 0;
    for (const value of values) if (Number.isFinite(value)) squares += (value - mean) ** 2;
    this.#join(count, mean, squares);
  }

  #join(count: number, mean: number, squares: number): void {
    const all = this.#count + count;
    const shift = mean - this.#mean;
    this.#squares += squares + (shift * shift * this.#count * count) / all;
    this.#mean += (shift * count) / all;
    this.#count = all;
  }

  merge(other: Tally): void {
    this.elements += other.elements;
    this.min = Math.min(this.min, other.min);
    this.max = Math.max(this.max, other.max);
    this.nan += other.nan;
    this.infinite += other.infinite;
    this.zeros += other.zeros;
    if (other.#count > 0) this.#join(other.#count, other.#mean, other.#squares);
  }

  get(): Statistics {
    const { elements, nan, infinite, zeros } = this;
    const none = this.#count === 0;
    return {
      elements,
      min: none ? 0 : this.min,
      max: none ? 0 : this.max,
      mean: this.#mean,
      std: none ? 0 : Math.sqrt(this.#squares / this.#count),
      nan,
      infinite,
      zeros,
    };
  }
}

/** Values looked at in one piece: what is summed up at once stays in the processor's cache. */
const BLOCK = 16 * 1024;

async function tally(tensor: Tensor): Promise<Tally> {
  const out = new Tally();
  for await (const chunk of asFloat32(tensor).chunks()) {
    const bytes = chunk.byteOffset % 4 === 0 ? chunk : chunk.slice();
    const values = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
    for (let at = 0; at < values.length; at += BLOCK) out.add(values.subarray(at, at + BLOCK));
  }
  return out;
}

/** Of one floating-point tensor; read once, chunk by chunk. */
export async function tensorStatistics(tensor: Tensor): Promise<Statistics> {
  return (await tally(tensor)).get();
}

export interface WeightStatistics {
  /** by canonical name */
  readonly tensors: ReadonlyMap<string, Statistics>;
  /** `embedding`, `block 0` …, `head`: all tensors of that place together */
  readonly groups: ReadonlyMap<string, Statistics>;
  /** one sentence each */
  readonly unusual: readonly string[];
}

/** Where a canonical tensor belongs. */
export function groupOf(name: string): string {
  const layer = /^backbone\.layers\.(\d+)\./.exec(name)?.[1];
  if (layer !== undefined) return `block ${layer}`;
  return /^(head|backbone\.ln[12])\b/.test(name) ? 'head' : 'embedding';
}

/** Of all weights of a model: reads every one of them once. */
export async function weightStatistics(
  tensors: StateDict,
  signal?: AbortSignal,
  onProgress?: (done: number, total: number) => void,
): Promise<WeightStatistics> {
  const out = new Map<string, Statistics>();
  const groups = new Map<string, Tally>();
  // Counters of training (num_batches_tracked) are no weights.
  const weights = [...tensors].filter(([, { dtype }]) => dtypeRow(dtype).weight);
  const total = weights.reduce((sum, [, { shape }]) => sum + elementCount(shape), 0);
  let done = 0;
  for (const [name, tensor] of weights) {
    signal?.throwIfAborted();
    // A BatchNorm's counter of training steps is in the file, and no weight.
    const one = await tally(tensor);
    out.set(name, one.get());
    const group = groups.get(groupOf(name)) ?? new Tally();
    group.merge(one);
    groups.set(groupOf(name), group);
    done += elementCount(tensor.shape);
    onProgress?.(done, total);
  }
  return {
    tensors: out,
    groups: new Map([...groups].map(([name, each]) => [name, each.get()])),
    unusual: unusual(out),
  };
}

/** Largest finite float16. */
const HALF_MAX = 65504;
/** Weights beyond this make fp16 activations overflow in practice; trained BEiTs stay below 40. */
const LARGE = 1000;

function unusual(all: ReadonlyMap<string, Statistics>): string[] {
  const out: string[] = [];
  const say = (names: readonly string[], what: string): void => {
    if (names.length === 0) return;
    const more = names.length > 3 ? ` and ${names.length - 3} more` : '';
    out.push(`${names.slice(0, 3).join(', ')}${more}: ${what}`);
  };
  const where = (test: (of: Statistics, name: string) => boolean): string[] =>
    [...all].filter(([name, of]) => test(of, name)).map(([name]) => name);
  say(
    where(({ nan }) => nan > 0),
    'holds NaN',
  );
  say(
    where(({ infinite }) => infinite > 0),
    'holds infinities',
  );
  say(
    where((of, name) => /relative_position_bias_table$|pos_embed$/.test(name) && of.zeros === of.elements),
    'is all zero: positions that were never loaded, or never trained',
  );
  say(
    where(
      (of, name) => !/_table$|pos_embed$|bias$/.test(name) && of.elements > 1 && of.zeros === of.elements,
    ),
    'is all zero',
  );
  const constant = (of: Statistics): boolean =>
    of.elements > 1 && of.min === of.max && of.zeros !== of.elements;
  say(
    where((of, name) => /gamma_[12]$/.test(name) && constant(of)),
    'all values are equal: LayerScale as it is initialised, not trained',
  );
  say(
    where((of, name) => /\.ln[12]\.weight$|ln[12]\.weight$/.test(name) && constant(of) && of.min === 1),
    'all values are 1: a norm as it is initialised, not trained',
  );
  say(
    where((of, name) => !/gamma_[12]$|ln[12]\.weight$/.test(name) && constant(of)),
    'all values are equal',
  );
  say(
    where(({ min, max }) => Math.max(-min, max) > HALF_MAX),
    'beyond 65,504: float16 cannot hold it',
  );
  say(
    where(({ min, max }) => Math.max(-min, max) > LARGE && Math.max(-min, max) <= HALF_MAX),
    `beyond ${LARGE.toLocaleString('en-US')}: activations in float16 may overflow`,
  );
  return out;
}
