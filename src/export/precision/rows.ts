/**
 * Weights made from other weights while they stream by: sizes are known before, bytes once, memory a block of rows.
 */
import type { DtypeName } from '../../dtype.js';
import { FormatError, ShapeError } from '../../errors.js';
import { bytesOf, describeTensor, elementCount, memoryTensor, type Tensor } from '../../tensor.js';
import { quantiseBlocks, quantiseRows, BLOCK } from './kernels.js';
import { float16Bits, narrow } from './float16.js';
import { float16ToNumber } from '../../tensor.js';

/** Float32 weights as the graph has them, and their canonical name. */
export interface Weight {
  readonly name: string;
  readonly tensor: Tensor;
}

/** Rows of a float32 tensor, seen as `[rows, length]`: whole rows per block, valid until the next block is pulled. */
export async function* wholeRows(tensor: Tensor, length: number): AsyncGenerator<Float32Array> {
  const rowBytes = length * 4;
  let carried = new Uint8Array(0);
  for await (const chunk of tensor.chunks()) {
    let bytes = chunk;
    if (carried.length > 0) {
      bytes = new Uint8Array(carried.length + chunk.length);
      bytes.set(carried);
      bytes.set(chunk, carried.length);
    }
    const whole = bytes.length - (bytes.length % rowBytes);
    if (whole > 0) yield floats(bytes.subarray(0, whole));
    carried = bytes.slice(whole);
  }
  if (carried.length > 0) {
    throw new ShapeError(`a tensor ${describeTensor(tensor)} ends within a row of ${length} elements`);
  }
}

function floats(bytes: Uint8Array): Float32Array {
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
  return new Float32Array(aligned.buffer, aligned.byteOffset, aligned.length / 4);
}

/** A tensor whose bytes are made when they are pulled; not stored anywhere. */
function made(dtype: DtypeName, shape: readonly number[], chunks: () => AsyncIterable<Uint8Array>): Tensor {
  return { dtype, shape, chunks };
}

/**
 * Something small that is known once something large has passed by. The large one must be pulled first: nothing is
 * read twice.
 */
function afterwards(
  { name }: Weight,
  dtype: DtypeName,
  shape: readonly number[],
  bytes: () => Uint8Array | undefined,
): Tensor {
  return made(dtype, shape, async function* () {
    const known = bytes();
    if (!known) throw new ShapeError(`the steps of ${name} are asked for before its weights`);
    await Promise.resolve();
    yield known;
  });
}

/** Elements of one step of work: its result is written before the next begins, into the same memory. */
const STEP = 128 * 1024;

/** The same values in float16. @throws FormatError (while streaming) where that would give an infinity */
export function halved({ name, tensor }: Weight): Tensor {
  return made('F16', tensor.shape, async function* () {
    let lost = 0;
    let most = 0;
    const buffer = new Uint16Array(Math.min(STEP, elementCount(tensor.shape)));
    for await (const chunk of tensor.chunks()) {
      const values = floats(chunk);
      for (let at = 0; at < values.length; at += STEP) {
        const part = values.subarray(at, at + STEP);
        const out = buffer.subarray(0, part.length);
        const here = narrow(new Uint32Array(part.buffer, part.byteOffset, part.length), out);
        if (here > 0) {
          lost += here;
          for (const value of part) if (!(Math.abs(value) <= most)) most = Math.abs(value);
        }
        yield bytesOf(out);
      }
    }
    if (lost > 0) throw beyondFloat16(name, lost, most);
  });
}

function beyondFloat16(name: string, count: number, most: number): FormatError {
  const values = count === 1 ? 'a value' : `${count.toLocaleString('en-US')} values`;
  return new FormatError(
    `${name} has ${values} that float16 cannot hold (${Number.isFinite(most) ? most.toPrecision(4) : String(most)}; its largest is 65504)`,
    { next: 'Keep that place in float32 with --keep, or choose int8 or fp32.' },
  );
}

function notFinite(name: string): FormatError {
  return new FormatError(`${name} has values that are not finite; integers cannot stand for them`, {
    next: 'The checkpoint is damaged, or its training diverged.',
  });
}

/** `[out, in]`, whatever the tensor's shape (a convolution's kernel is `[out, channels, height, width]`). */
export function matrixShape({ shape }: Tensor): readonly [number, number] {
  return [shape[0], elementCount(shape) / shape[0]];
}

/**
 * Integers `[in, out]` and one float32 step per output.
 *
 * @param levels largest magnitude
 * @param shift  0: int8, 128: uint8
 */
export function perOutput(weight: Weight, levels: number, shift: 0 | 128): { matrix: Tensor; steps: Tensor } {
  const [outputs, inputs] = matrixShape(weight.tensor);
  let known: Uint8Array | undefined;
  const matrix = made(shift === 0 ? 'I8' : 'U8', [inputs, outputs], async function* () {
    // One byte per weight of one matrix is the most that is held; the transposed order needs all of it.
    const bytes = new Uint8Array(inputs * outputs);
    const steps = new Float32Array(outputs);
    let first = 0;
    for await (const rows of wholeRows(weight.tensor, inputs)) {
      if (!quantiseRows({ rows, inputs, first, outputs }, levels, shift, bytes, steps))
        throw notFinite(weight.name);
      first += rows.length / inputs;
    }
    known = bytesOf(steps);
    yield bytes;
  });
  return { matrix, steps: afterwards(weight, 'F32', [outputs], () => known) };
}

/**
 * 4-bit blocks `[out, blocks, 16]` and one step per block `[out * blocks]`.
 *
 * @param dtype of the steps
 */
export function perBlock(weight: Weight, dtype: 'F32' | 'F16'): { blocks: Tensor; steps: Tensor } {
  const [outputs, inputs] = matrixShape(weight.tensor);
  const perRow = Math.ceil(inputs / BLOCK);
  const half = dtype === 'F16';
  const round = half ? (step: number): number => float16ToNumber(float16Bits(step)) : Math.fround;
  let known: Uint8Array | undefined;
  const blocks = made('U8', [outputs, perRow, BLOCK / 2], async function* () {
    const steps = new Float32Array(outputs * perRow);
    let row = 0;
    let buffer = new Uint8Array(0);
    for await (const rows of wholeRows(weight.tensor, inputs)) {
      const count = rows.length / inputs;
      const needed = (count * perRow * BLOCK) / 2;
      if (buffer.length < needed) buffer = new Uint8Array(needed);
      const bytes = buffer.subarray(0, needed);
      const part = steps.subarray(row * perRow, (row + count) * perRow);
      if (!quantiseBlocks(rows, inputs, round, bytes, part)) throw notFinite(weight.name);
      row += count;
      yield bytes;
    }
    if (half) {
      const out = new Uint16Array(steps.length);
      if (narrow(new Uint32Array(steps.buffer), out) > 0) throw beyondFloat16(weight.name, 1, Infinity);
      known = bytesOf(out);
    } else known = bytesOf(steps);
  });
  return { blocks, steps: afterwards(weight, dtype, [outputs * perRow], () => known) };
}

/** A scalar constant. */
export function scalar(dtype: 'U8' | 'F16', value: number): Tensor {
  return memoryTensor(
    dtype,
    [],
    dtype === 'U8' ? Uint8Array.of(value) : bytesOf(Uint16Array.of(float16Bits(value))),
  );
}
