/**
 * Weights that were narrowed: is every value the nearest that its form can hold, and every step the right one?
 *
 * Shares nothing with what wrote them: float16 is checked by the midpoints between neighbours, integers by half a step.
 */
import { FormatError } from '../../errors.js';
import { byteLength, describeTensor, elementCount, float16ToNumber, type Tensor } from '../../tensor.js';
import type { OnnxInitializer } from '../onnx-file.js';
import { BLOCK, type StoredWeight } from '../stored-weight.js';

export interface ConvertedOptions {
  /** largest integer magnitude that int8 and uint8 use */
  readonly levels: number;
  readonly onBytes: (done: number) => void;
}

/** What float32 arithmetic on steps may add to half a step. */
const SLACK = 1e-5;
/** Half a unit of float16's smallest numbers: what rounding a tiny step may cost each of 8 levels. */
const TINY_STEP_ERROR = 8 * 2 ** -25;

/** @returns what is wrong, one clause; `undefined` when nothing is */
export async function compareConverted(
  source: Tensor,
  weight: StoredWeight,
  options: ConvertedOptions,
): Promise<string | undefined> {
  const differences = new Differences(source.shape);
  if (weight.form === 'float16') await compareFloat16(source, weight.values, differences, options);
  else if (weight.form === 'int4') await compareBlocks(source, weight, differences, options);
  else await compareBytes(source, weight, differences, options);
  return differences.clause();
}

class Differences {
  readonly #shape: readonly number[];
  #first = '';
  #count = 0;

  constructor(shape: readonly number[]) {
    this.#shape = shape;
  }

  element(index: number, found: number, expected: number): void {
    if (this.#count === 0) {
      const place: number[] = [];
      let rest = index;
      for (const side of [...this.#shape].reverse()) {
        place.unshift(rest % side);
        rest = Math.floor(rest / side);
      }
      this.#first = `element [${place.join(', ')}] stands for ${short(found)}, which is not the nearest to ${short(expected)} in the source`;
    }
    this.#count += 1;
  }

  step(what: string): void {
    if (this.#count === 0) this.#first = what;
    this.#count += 1;
  }

  clause(): string | undefined {
    if (this.#count === 0) return undefined;
    return `${this.#first}${this.#count > 1 ? `; ${this.#count.toLocaleString('en-US')} differences` : ''}`;
  }
}

function short(value: number): string {
  return String(Number(value.toPrecision(7)));
}

/** Float32 blocks of the source; counts what is delivered. `unit` elements are never torn apart. */
async function* elements(
  source: Tensor,
  unit: number,
  { onBytes }: ConvertedOptions,
): AsyncGenerator<Float32Array> {
  let carried = new Uint8Array(0);
  let delivered = 0;
  for await (const chunk of source.chunks()) {
    delivered += chunk.length;
    if (delivered > byteLength(source)) break;
    onBytes(delivered);
    const bytes = new Uint8Array(carried.length + chunk.length);
    bytes.set(carried);
    bytes.set(chunk, carried.length);
    const whole = bytes.length - (bytes.length % (unit * 4));
    if (whole > 0) yield new Float32Array(bytes.buffer, 0, whole / 4);
    carried = bytes.slice(whole);
  }
  if (delivered !== byteLength(source) || carried.length > 0) {
    throw new FormatError(`a tensor ${describeTensor(source)} of the source delivers ${delivered} bytes`);
  }
}

let halves: Float64Array | undefined;

/** Value of every non-negative float16 by its bits; infinity follows the largest, as if it were 65536. */
function halfValues(): Float64Array {
  halves ??= Float64Array.from({ length: 0x7c01 }, (_, bits) =>
    bits === 0x7c00 ? 65536 : float16ToNumber(bits),
  );
  return halves;
}

async function compareFloat16(
  source: Tensor,
  { stored }: OnnxInitializer,
  differences: Differences,
  options: ConvertedOptions,
): Promise<void> {
  const values = halfValues();
  let at = 0;
  for await (const expected of elements(source, 1, options)) {
    const bytes = await stored.source.read(stored.start + at * 2, stored.start + (at + expected.length) * 2);
    const found = new Uint16Array(bytes.buffer, bytes.byteOffset, expected.length);
    for (let i = 0; i < found.length; i++) {
      const bits = found[i] & 0x7fff;
      const x = Math.abs(expected[i]);
      const negative = found[i] >>> 15 === 1;
      const sign = expected[i] < 0 || Object.is(expected[i], -0);
      // The nearest: between the midpoints to both neighbours; on a midpoint the even one.
      const below = bits === 0 ? -1 : (values[bits - 1] + values[bits]) / 2;
      const above = bits >= 0x7c00 ? -1 : (values[bits] + values[bits + 1]) / 2;
      const even = (bits & 1) === 0;
      const nearest = even ? x >= below && x <= above : x > below && x < above;
      // 65520 would round to infinity, which no converted weight may be.
      if (!nearest || negative !== sign || x >= 65520)
        differences.element(at + i, float16ToNumber(found[i]), expected[i]);
    }
    at += expected.length;
  }
}

async function readAll({ stored }: OnnxInitializer): Promise<Uint8Array> {
  const bytes = new Uint8Array(stored.end - stored.start);
  await stored.source.readInto(bytes, stored.start);
  return bytes;
}

async function readSteps(initializer: OnnxInitializer): Promise<Float32Array> {
  const bytes = await readAll(initializer);
  if (initializer.dtype?.name !== 'F16') return new Float32Array(bytes.buffer);
  return Float32Array.from(new Uint16Array(bytes.buffer), float16ToNumber);
}

/** `[in, out]` with a step per output. The matrix (a byte per weight) is held in memory, the source is not. */
async function compareBytes(
  source: Tensor,
  { form, values, steps, zeroPoint }: StoredWeight,
  differences: Differences,
  options: ConvertedOptions,
): Promise<void> {
  const outputs = source.shape[0];
  const inputs = elementCount(source.shape) / outputs;
  const raw = await readAll(values);
  const zero = form === 'uint8' ? (await readAll(zeroPoint!))[0] : 0;
  const codes = form === 'uint8' ? raw : new Int8Array(raw.buffer);
  const scale = await readSteps(steps!);
  let row = 0;
  for await (const rows of elements(source, inputs, options)) {
    for (let start = 0; start < rows.length; start += inputs, row++) {
      const step = scale[row];
      const allowed = step * (0.5 + SLACK * options.levels);
      let most = 0;
      let any = false;
      for (let i = 0; i < inputs; i++) {
        const code = codes[i * outputs + row] - zero;
        const expected = rows[start + i];
        if (!(Math.abs(expected - code * step) <= allowed))
          differences.element(row * inputs + i, code * step, expected);
        if (code > most || -code > most) most = Math.abs(code);
        if (expected !== 0) any = true;
      }
      // The largest weight stands on the last level: a coarser step would waste levels, a finer one clip.
      if (!(step > 0) || (any && most !== options.levels)) {
        differences.step(
          `the step of output ${row} is ${short(step)}, with which the largest level is ${most} instead of ${options.levels}`,
        );
      }
    }
  }
}

/** 4-bit blocks: value = (code - 8) * step, low half first; the weight of largest magnitude stands on -8. */
async function compareBlocks(
  source: Tensor,
  { values, steps }: StoredWeight,
  differences: Differences,
  options: ConvertedOptions,
): Promise<void> {
  const outputs = source.shape[0];
  const inputs = elementCount(source.shape) / outputs;
  const perRow = Math.ceil(inputs / BLOCK);
  const codes = await readAll(values);
  const scale = await readSteps(steps!);
  const tiny = steps!.dtype?.name === 'F16' ? TINY_STEP_ERROR : 0;
  let row = 0;
  for await (const rows of elements(source, inputs, options)) {
    for (let start = 0; start < rows.length; start += inputs, row++) {
      for (let block = 0; block < perRow; block++) {
        const index = row * perRow + block;
        const step = scale[index];
        const size = Math.abs(step);
        const count = Math.min(BLOCK, inputs - block * BLOCK);
        let full = false;
        for (let i = 0; i < count; i++) {
          const byte = codes[(index * BLOCK) / 2 + (i >> 1)];
          const code = (i & 1) === 0 ? byte & 15 : byte >> 4;
          const expected = rows[start + block * BLOCK + i];
          const error = Math.abs(expected - (code - 8) * step);
          // Opposite to the largest weight 8 steps may be needed, where 7 is the last.
          const allowed =
            size * (code === 15 ? 1 + 10 * SLACK : 0.5 + 10 * SLACK) + tiny + (tiny > 0 ? size * 2 ** -8 : 0);
          if (!(error <= allowed))
            differences.element(row * inputs + block * BLOCK + i, (code - 8) * step, expected);
          if (code === 0) full = true;
        }
        if (step !== 0 && !full && size > 2 ** -14) {
          differences.step(`the step of block ${index} is ${short(step)}, with which no weight stands on -8`);
        }
      }
    }
  }
}
