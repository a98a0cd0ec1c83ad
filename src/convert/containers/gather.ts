/**
 * A strided view of stored elements, delivered in row-major order with bounded memory.
 *
 * The view is cut into boxes of a few megabytes; a box is read in one piece when its elements lie close together, else
 * it is cut along its widest dimension until they do. At worst that is one read per element, never a large buffer.
 */
import type { ByteRange } from '../../bytes.js';

/** Output that is made at a time. */
const BOX_BYTES = 8 * 1024 * 1024;
/** Read in one piece whatever share of it is wanted. */
const SPAN_BYTES = 16 * 1024 * 1024;
/** Below this, one read costs less than many. */
const SMALL_SPAN_BYTES = 64 * 1024;
/** A larger piece is read when at least one of so many of its bytes is wanted. */
const SPARSEST = 8;

export interface View {
  /** first element, from the start of the range */
  readonly offset: number;
  /** all sides at least 1 */
  readonly shape: readonly number[];
  /** in elements, not negative; 0 repeats */
  readonly strides: readonly number[];
  /** bytes per element */
  readonly width: number;
}

interface Dim {
  readonly size: number;
  readonly stride: number;
  /** distance between neighbours in the output, in elements */
  readonly out: number;
}

/** Row-major without gaps? Strides of sides of 1 mean nothing. */
export function isContiguous(shape: readonly number[], strides: readonly number[]): boolean {
  let expected = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    if (shape[i] !== 1 && strides[i] !== expected) return false;
    expected *= shape[i];
  }
  return true;
}

/** Index of the last element that a view touches; `-1` when it has none. */
export function lastElement({ offset, shape, strides }: Omit<View, 'width'>): number {
  if (shape.includes(0)) return -1;
  return shape.reduce((last, side, i) => last + (side - 1) * strides[i], offset);
}

/** The view's bytes, chunk by chunk, each in memory of its own. Empty views give nothing. */
export async function* gather(range: ByteRange, view: View): AsyncGenerator<Uint8Array> {
  const { shape, strides, width, offset } = view;
  if (shape.includes(0)) return;
  // The dimension at which a box ends: everything behind it fits into a box.
  let inner = 1;
  let axis = shape.length;
  while (axis > 0 && inner * shape[axis - 1] * width <= BOX_BYTES) inner *= shape[--axis];
  const rows = axis === 0 ? 1 : Math.max(1, Math.floor(BOX_BYTES / (inner * width)));
  const index = new Array<number>(axis).fill(0);
  for (;;) {
    const count = axis === 0 ? 1 : Math.min(rows, shape[axis - 1] - index[axis - 1]);
    const out = new Uint8Array(count * inner * width);
    const start = index.reduce((sum, i, dim) => sum + i * strides[dim], offset);
    const dims = boxDims(view, axis, count, inner);
    await fill(range, out, start, 0, dims, width);
    yield out;
    if (axis === 0) return;
    index[axis - 1] += count;
    for (let dim = axis - 1; dim >= 0 && index[dim] === shape[dim]; dim--) {
      if (dim === 0) return;
      index[dim] = 0;
      index[dim - 1] += 1;
    }
  }
}

/** The box's dimensions, widest stride first; sides of 1 left out. */
function boxDims({ shape, strides }: View, axis: number, count: number, inner: number): Dim[] {
  const dims: Dim[] = [];
  let out = inner;
  if (axis > 0 && count > 1) dims.push({ size: count, stride: strides[axis - 1], out });
  for (let dim = axis; dim < shape.length; dim++) {
    out /= shape[dim];
    if (shape[dim] > 1) dims.push({ size: shape[dim], stride: strides[dim], out });
  }
  return dims.sort((a, b) => b.stride - a.stride);
}

/** Recursion is as deep as the box has dimensions: 64 at most. */
async function fill(
  range: ByteRange,
  out: Uint8Array,
  start: number,
  at: number,
  dims: readonly Dim[],
  width: number,
): Promise<void> {
  const span = (dims.reduce((last, { size, stride }) => last + (size - 1) * stride, 0) + 1) * width;
  const wanted = dims.reduce((product, { size, stride }) => (stride === 0 ? product : product * size), width);
  if (span <= SMALL_SPAN_BYTES || (span <= SPAN_BYTES && span <= SPARSEST * wanted) || dims.length === 0) {
    const from = range.start + start * width;
    scatter(await range.source.read(from, from + span), 0, out, at, dims, 0, width);
    return;
  }
  const [{ size, stride, out: step }, ...rest] = dims;
  // Cut along the widest dimension, into pieces that lie close together where one element each is not needed.
  const inner = (rest.reduce((last, dim) => last + (dim.size - 1) * dim.stride, 0) + 1) * width;
  const pieces = stride === 0 ? size : Math.max(1, Math.floor((SMALL_SPAN_BYTES - inner) / (stride * width)));
  for (let i = 0; i < size; i += pieces) {
    const some = Math.min(pieces, size - i);
    const cut = some === 1 ? rest : [{ size: some, stride, out: step }, ...rest];
    await fill(range, out, start + i * stride, at + i * step, cut, width);
  }
}

function scatter(
  bytes: Uint8Array,
  from: number,
  out: Uint8Array,
  to: number,
  dims: readonly Dim[],
  depth: number,
  width: number,
): void {
  if (depth === dims.length) {
    for (let byte = 0; byte < width; byte++) out[to * width + byte] = bytes[from * width + byte];
    return;
  }
  const { size, stride, out: step } = dims[depth];
  if (depth === dims.length - 1) return scatterRow(bytes, from, stride, out, to, step, size, width);
  for (let i = 0; i < size; i++)
    scatter(bytes, from + i * stride, out, to + i * step, dims, depth + 1, width);
}

function scatterRow(
  bytes: Uint8Array,
  from: number,
  stride: number,
  out: Uint8Array,
  to: number,
  step: number,
  size: number,
  width: number,
): void {
  if (stride === 1 && step === 1) {
    out.set(bytes.subarray(from * width, (from + size) * width), to * width);
    return;
  }
  for (let i = 0; i < size; i++) {
    const source = (from + i * stride) * width;
    const target = (to + i * step) * width;
    for (let byte = 0; byte < width; byte++) out[target + byte] = bytes[source + byte];
  }
}
