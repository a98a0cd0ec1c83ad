/**
 * Matrix products in plain float64 JavaScript.
 *
 * What decides the speed in V8 (measured, scripts/bench-oracle.mjs) is the number of instructions per product. Every
 * element access costs an index, a bounds check and an address. Least of all, when the array is a constant of the
 * module (length and address are then immediates in the machine code), and when several arrays of the same length are
 * read at the same index (one check for all). So both operands are copied to fixed arrays that fit the caches: four
 * rows of the first to one array each (3 kB), a panel of the second to one array per column of a strip (74 kB). Of the
 * shapes tried (2x2 … 6x4, up to four steps at once), 4 rows x 2 columns x 2 steps is the largest whose sums and
 * factors nearly stay in the 16 registers, and the fastest; 3x4 with interleaved panels, the best of the usual layouts,
 * takes 15 % longer.
 *
 * The order of every sum depends on the shapes only, never on the number of threads.
 */

/** Rows and output columns of one kernel call. */
const GROUP = 4;
const STRIP = 2;
/** Longest stretch of the contracted dimension that is worked on at once; even. */
const DEPTH = 384;
/** Output columns of one task of a linear layer: DEPTH x PANEL weights are packed and used for all its rows. */
export const PANEL = 48;

const row0 = new Float64Array(DEPTH);
const row1 = new Float64Array(DEPTH);
const row2 = new Float64Array(DEPTH);
const row3 = new Float64Array(DEPTH);
const column0 = new Float64Array((DEPTH * PANEL) / STRIP);
const column1 = new Float64Array((DEPTH * PANEL) / STRIP);
/** Result of a kernel call, `[GROUP, STRIP]`. */
const tile = new Float64Array(GROUP * STRIP);

/** A matrix inside a larger array: element (row, column) at `at + row * stride + column`. */
export interface Rows {
  readonly data: Float64Array;
  readonly at: number;
  readonly stride: number;
}

/** The second operand, the transpose of a weight `[columns, depth]`; float32 is widened when it is packed. */
export interface Columns {
  readonly data: Float64Array | Float32Array;
  readonly at: number;
  /** from one output column to the next */
  readonly stride: number;
}

/**
 * `c[t, n] += sum over k of a[t, k] * b[n, k]`, for t in `[0, rows)`, n in `[0, columns)`, k in `[0, depth)`.
 */
export function multiplyAdd(
  a: Rows,
  b: Columns,
  c: Rows,
  rows: number,
  depth: number,
  columns: number,
): void {
  const slices = Math.ceil(depth / DEPTH);
  const slice = 2 * Math.ceil(depth / slices / 2);
  const width = Math.floor(column0.length / slice) * STRIP;
  for (let n = 0; n < columns; n += width) {
    const count = Math.min(width, columns - n);
    for (let k = 0; k < depth; k += slice) {
      const length = Math.min(slice, depth - k);
      const even = length + (length % 2);
      pack(b, n, count, k, length, even);
      for (let t = 0; t < rows; t += GROUP) {
        const group = Math.min(GROUP, rows - t);
        const from = a.at + t * a.stride + k;
        copyRow(row0, a.data, from, length, even);
        if (group > 1) copyRow(row1, a.data, from + a.stride, length, even);
        if (group > 2) copyRow(row2, a.data, from + 2 * a.stride, length, even);
        if (group > 3) copyRow(row3, a.data, from + 3 * a.stride, length, even);
        multiplyGroup(c, c.at + t * c.stride + n, group, even, count);
      }
    }
  }
}

/** Columns `[n0, n0 + count)` at positions `[k0, k0 + length)`: strip after strip, `even` elements each, zero-filled. */
function pack(b: Columns, n0: number, count: number, k0: number, length: number, even: number): void {
  for (let n = 0; n < count + (count % STRIP); n++) {
    const column = n % STRIP === 0 ? column0 : column1;
    const to = ((n - (n % STRIP)) / STRIP) * even;
    if (n < count) copyColumn(column, to, b.data, b.at + (n0 + n) * b.stride + k0, length);
    else column.fill(0, to, to + even);
    if (length < even) column[to + length] = 0;
  }
}

function copyColumn(
  column: Float64Array,
  to: number,
  data: Float64Array | Float32Array,
  from: number,
  length: number,
): void {
  for (let k = 0; k < length; k++) column[to + k] = data[from + k];
}

function copyRow(row: Float64Array, data: Float64Array, from: number, length: number, even: number): void {
  for (let k = 0; k < length; k++) row[k] = data[from + k];
  if (length < even) row[length] = 0;
}

/** Up to GROUP rows against every strip of the panel. What stale rows give is not used. */
function multiplyGroup(
  { data, stride }: Rows,
  at: number,
  group: number,
  length: number,
  count: number,
): void {
  for (let n = 0, strip = 0; n < count; n += STRIP, strip += length) {
    multiplyTile(strip, length);
    for (let i = 0; i < group; i++) {
      const to = at + i * stride + n;
      data[to] += tile[STRIP * i];
      if (n + 1 < count) data[to + 1] += tile[STRIP * i + 1];
    }
  }
}

/** 4 rows x 2 columns, two positions at a time. `| 0` tells V8 that an index into the panel cannot leave 32 bits. */
function multiplyTile(strip: number, length: number): void {
  let c00 = 0;
  let c10 = 0;
  let c20 = 0;
  let c30 = 0;
  let c01 = 0;
  let c11 = 0;
  let c21 = 0;
  let c31 = 0;
  let q = strip | 0;
  for (let p = 0; p < length; p = (p + 2) | 0) {
    const a0 = row0[p];
    const a1 = row1[p];
    const a2 = row2[p];
    const a3 = row3[p];
    const b0 = column0[q];
    c00 += a0 * b0;
    c10 += a1 * b0;
    c20 += a2 * b0;
    c30 += a3 * b0;
    const b1 = column1[q];
    c01 += a0 * b1;
    c11 += a1 * b1;
    c21 += a2 * b1;
    c31 += a3 * b1;
    const p1 = (p + 1) | 0;
    const q1 = (q + 1) | 0;
    const d0 = row0[p1];
    const d1 = row1[p1];
    const d2 = row2[p1];
    const d3 = row3[p1];
    const e0 = column0[q1];
    c00 += d0 * e0;
    c10 += d1 * e0;
    c20 += d2 * e0;
    c30 += d3 * e0;
    const e1 = column1[q1];
    c01 += d0 * e1;
    c11 += d1 * e1;
    c21 += d2 * e1;
    c31 += d3 * e1;
    q = (q + 2) | 0;
  }
  tile[0] = c00;
  tile[1] = c01;
  tile[2] = c10;
  tile[3] = c11;
  tile[4] = c20;
  tile[5] = c21;
  tile[6] = c30;
  tile[7] = c31;
}

/**
 * `out[n] += sum over k of b[n, k]^2 * s[k]`: how the variances of independent inputs come through a linear layer.
 *
 * @param rows row-major `[columns, depth]` from `at`
 */
export function squaredMultiply(
  rows: Float64Array | Float32Array,
  at: number,
  columns: number,
  depth: number,
  s: Float64Array,
  sAt: number,
  out: Float64Array,
  outAt: number,
): void {
  for (let n = 0; n < columns; n++) {
    const row = at + n * depth;
    let even = 0;
    let odd = 0;
    let k = 0;
    for (; k + 1 < depth; k = (k + 2) | 0) {
      const w0 = rows[(row + k) | 0];
      const w1 = rows[(row + k + 1) | 0];
      even += w0 * w0 * s[(sAt + k) | 0];
      odd += w1 * w1 * s[(sAt + k + 1) | 0];
    }
    if (k < depth) even += rows[row + k] * rows[row + k] * s[sAt + k];
    out[outAt + n] += even + odd;
  }
}
