/**
 * What a product must be expected to lose where its weights, and then its inputs too, are kept in fewer bits.
 *
 * Weights: each is anywhere within half a step, so the variance of its error is step² / 12. Inputs: what the runtime's
 * rounding does to the very inputs that the file has is computed, because a few large values (which trained transformers
 * have) make it anything but uniform.
 */
import { BLOCK, storedWeight } from '../stored-weight.js';
import type { OnnxFile } from '../onnx-file.js';
import { linear, type Heads, type Values } from './arithmetic.js';
import { meanSquare, rmsOf } from './noise-steps.js';

/** Error variance of every output of a product. */
export interface Loss {
  /** mean over the rows */
  readonly each: Values;
  /** of the mean over the rows: what does not average out */
  readonly mean: Values;
}

/** Levels on one side of zero: eight bits with one to spare, and four. */
const SEVEN_BITS = 64;
const EIGHT_BITS = 127;
const FOUR_BITS = 8;

/** The inputs as they are rounded: all rows in common steps (8-bit products), or 32 values of a row (4-bit ones). */
type Rounding = (x: Values, inputs: number) => Values;

export class Narrowing {
  readonly #reduced: boolean;

  constructor(private readonly file: OnnxFile) {
    this.#reduced = file.metadata.get('convert_beit.reduce_range') === 'true';
  }

  /**
   * @param tensor canonical name of the weight
   * @param x      `[rows, inputs]`, the product's inputs in this file
   * @param weight `[outputs, inputs]`
   * @returns      `undefined` where the file keeps this weight
   */
  loss(tensor: string, x: Values, weight: Values, inputs: number): Loss | undefined {
    const form = storedWeight(this.file, tensor)?.form;
    if (form === 'int4') return lossOf(x, weight, inputs, Math.min(BLOCK, inputs), FOUR_BITS, byBlocks);
    if (form !== 'int8' && form !== 'uint8') return undefined;
    return lossOf(x, weight, inputs, inputs, this.#reduced ? SEVEN_BITS : EIGHT_BITS, byTensor);
  }
}

/** rms error of the product's values. */
export function rmsLost(loss: Loss | undefined): number | undefined {
  return loss && rmsOf(loss.each);
}

/** rms error of the average of v by `probabilities`, the last third of what `loss` is about. */
export function contextLoss(
  probabilities: Values,
  { each, mean }: Loss,
  { heads, d, tokens }: Heads,
): number {
  const v = 2 * heads * d;
  const same = rmsOf(mean.subarray(v)) ** 2;
  const own = rmsOf(each.subarray(v)) ** 2 - same;
  return Math.sqrt(same + own * meanSquare(probabilities) * tokens);
}

/** @param block weights that share a step */
function lossOf(
  x: Values,
  weight: Values,
  inputs: number,
  block: number,
  levels: number,
  rounding: Rounding,
): Loss {
  const rows = x.length / inputs;
  const outputs = weight.length / inputs;
  const { squares, means } = columns(x, inputs);
  const rounded = rounding(x, inputs);
  const moved = linear(
    rounded.map((value, i) => value - x[i]),
    weight,
    undefined,
    inputs,
  );
  const each = new Float64Array(outputs);
  const mean = new Float64Array(outputs);
  for (let n = 0; n < outputs; n++) {
    for (let from = 0; from < inputs; from += block) {
      const to = Math.min(from + block, inputs);
      let [largest, square, centre] = [0, 0, 0];
      for (let c = from; c < to; c++) {
        largest = Math.max(largest, Math.abs(weight[n * inputs + c]));
        square += squares[c];
        centre += means[c] ** 2;
      }
      const variance = (largest / levels) ** 2 / 12;
      each[n] += variance * square;
      mean[n] += variance * centre;
    }
  }
  const shift = columns(moved, outputs);
  for (let n = 0; n < outputs; n++) {
    each[n] += shift.squares[n];
    mean[n] += shift.means[n] ** 2 + (shift.squares[n] - shift.means[n] ** 2) / rows;
  }
  return { each, mean };
}

/** Mean square and mean of every column. */
function columns(x: Values, width: number): { squares: Values; means: Values } {
  const squares = new Float64Array(width);
  const means = new Float64Array(width);
  const rows = x.length / width;
  for (let at = 0; at < x.length; at += width) {
    for (let c = 0; c < width; c++) {
      squares[c] += x[at + c] ** 2 / rows;
      means[c] += x[at + c] / rows;
    }
  }
  return { squares, means };
}

/** As ONNX's DynamicQuantizeLinear rounds: 256 levels from the least value to the largest, zero among them. */
function byTensor(x: Values): Values {
  const least = x.reduce((a, b) => Math.min(a, b), 0);
  const largest = x.reduce((a, b) => Math.max(a, b), 0);
  const step = (largest - least) / 255 || 1;
  const zero = Math.round(-least / step);
  return x.map((value) => (Math.min(255, Math.max(0, Math.round(value / step) + zero)) - zero) * step);
}

/** As ONNX Runtime's MatMulNBits rounds at accuracy level 4: signed bytes, every 32 values of a row in steps of their own. */
function byBlocks(x: Values, inputs: number): Values {
  const out = new Float64Array(x.length);
  for (let row = 0; row < x.length; row += inputs) {
    for (let from = row; from < row + inputs; from += BLOCK) {
      const to = Math.min(from + BLOCK, row + inputs);
      let largest = 0;
      for (let i = from; i < to; i++) largest = Math.max(largest, Math.abs(x[i]));
      const step = largest / 127 || 1;
      for (let i = from; i < to; i++) out[i] = Math.round(x[i] / step) * step;
    }
  }
  return out;
}
