/**
 * Integer kernels: whole rows of a float32 matrix `[out, in]` to integers and steps.
 *
 * Adding and subtracting 1.5 * 2^52 rounds a double to the nearest integer, ties to even, and is several times faster
 * than `Math.round` (which rounds ties up).
 */
const ROUND = 1.5 * 2 ** 52;

/** Rows that are written together: one 32-bit store instead of four of a byte each. */
const TOGETHER = 4;

export interface RowsJob {
  /** whole rows, row-major */
  readonly rows: Float32Array;
  /** elements of one row, K */
  readonly inputs: number;
  /** index of the first row */
  readonly first: number;
  /** number of rows of the whole matrix, N */
  readonly outputs: number;
}

/**
 * Symmetric integers with one step per row (output), written transposed: `[K, N]`, as `MatMulInteger` wants them.
 *
 * @param levels largest magnitude: 127, or 64 for 7 bits
 * @param shift  added to every integer: 0 for int8, 128 for uint8
 * @param matrix `[K, N]` of the whole matrix, filled in the rows' columns
 * @param steps  `[N]` of the whole matrix, likewise; 1 for a row of zeros
 * @returns      false if a value is not finite
 */
export function quantiseRows(
  { rows, inputs, first, outputs }: RowsJob,
  levels: number,
  shift: number,
  matrix: Uint8Array,
  steps: Float32Array,
): boolean {
  const count = rows.length / inputs;
  const perStep = new Float64Array(count);
  for (let row = 0; row < count; row++) {
    const most = largest(rows, row * inputs, (row + 1) * inputs);
    if (!(most < Infinity)) return false;
    const step = stepOf(most, levels);
    steps[first + row] = step;
    perStep[row] = 1 / step;
  }
  let row = 0;
  if (outputs % TOGETHER === 0 && first % TOGETHER === 0 && matrix.byteOffset % TOGETHER === 0) {
    const words = new Uint32Array(matrix.buffer, matrix.byteOffset, matrix.length / TOGETHER);
    const stride = outputs / TOGETHER;
    for (; row + TOGETHER <= count; row += TOGETHER) {
      const [a, b, c, d] = [0, 1, 2, 3].map((i) => (row + i) * inputs);
      const [p, q, r, s] = perStep.subarray(row, row + TOGETHER);
      let at = (first + row) / TOGETHER;
      for (let i = 0; i < inputs; i++) {
        words[at] =
          ((rows[a + i] * p + ROUND - ROUND + shift) & 255) |
          (((rows[b + i] * q + ROUND - ROUND + shift) & 255) << 8) |
          (((rows[c + i] * r + ROUND - ROUND + shift) & 255) << 16) |
          ((rows[d + i] * s + ROUND - ROUND + shift) << 24);
        at += stride;
      }
    }
  }
  for (; row < count; row++) {
    const from = row * inputs;
    let at = first + row;
    for (let i = 0; i < inputs; i++) {
      matrix[at] = rows[from + i] * perStep[row] + ROUND - ROUND + shift;
      at += outputs;
    }
  }
  return true;
}

/** NaN, where there is one. */
function largest(values: Float32Array, start: number, end: number): number {
  let most = 0;
  for (let i = start; i < end; i++) {
    const magnitude = Math.abs(values[i]);
    if (!(magnitude <= most)) {
      most = magnitude;
      if (most !== most) return most;
    }
  }
  return most;
}

/** float32 step; the largest value falls on `levels`, however the step was rounded. Zeros, and what rounds to a step of 0, get 1. */
function stepOf(most: number, levels: number): number {
  return Math.fround(most / levels) || 1;
}

/** Weights that share one step in 4-bit blocks. */
export const BLOCK = 32;

/**
 * 4-bit blocks as `MatMulNBits` reads them: per row `ceil(K/32)` blocks of 16 bytes, low half first, value = (q - 8) * step.
 * The weight of largest magnitude falls on -8, so that all 16 values are used. What a last block lacks is 8 (zero).
 *
 * @param round  the step as it will be stored (float32 or float16)
 * @param blocks `[count, ceil(K/32), 16]`, rows of this job only
 * @param steps  `[count, ceil(K/32)]`
 * @returns      false if a value is not finite
 */
export function quantiseBlocks(
  rows: Float32Array,
  inputs: number,
  round: (step: number) => number,
  blocks: Uint8Array,
  steps: Float32Array,
): boolean {
  const count = rows.length / inputs;
  const perRow = Math.ceil(inputs / BLOCK);
  let block = 0;
  for (let row = 0; row < count; row++) {
    const rowEnd = (row + 1) * inputs;
    for (let b = 0; b < perRow; b++, block++) {
      const start = row * inputs + b * BLOCK;
      const end = Math.min(start + BLOCK, rowEnd);
      let least = 0;
      let most = 0;
      for (let i = start; i < end; i++) {
        const value = rows[i];
        if (value < least) least = value;
        else if (value > most) most = value;
        else if (value !== value) return false;
      }
      const extreme = -least > most ? least : most;
      if (extreme === Infinity || extreme === -Infinity) return false;
      const step = round(extreme / -8);
      steps[block] = step;
      const perStep = step === 0 ? 0 : 1 / step;
      let at = block * (BLOCK / 2);
      let i = start;
      for (; i + 1 < end; i += 2)
        blocks[at++] = nibble(rows[i] * perStep) | (nibble(rows[i + 1] * perStep) << 4);
      if (i < end) blocks[at++] = nibble(rows[i] * perStep) | 0x80;
      const blockEnd = (block + 1) * (BLOCK / 2);
      while (at < blockEnd) blocks[at++] = 0x88;
    }
  }
  return true;
}

/** The extreme falls on -8 exactly or a hair beside it, what lies opposite to it may reach 8, where 7 is the last. */
function nibble(value: number): number {
  const code = value + 8 + ROUND - ROUND;
  return code > 15 ? 15 : code < 0 ? 0 : code;
}
