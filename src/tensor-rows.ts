/**
 * Tensors put together from, or cut out of, others along their first axis. Lazy: nothing is read.
 */
import { dtype as dtypeRow } from './dtype.js';
import { ShapeError } from './errors.js';
import { byteLength, describeTensor, elementCount, storedTensor, type Tensor } from './tensor.js';

/**
 * Tensors one below the other: `[a, …]`, `[b, …]` to `[a + b, …]`.
 *
 * @throws ShapeError if they differ in dtype or in a side other than the first
 */
export function concatRows(parts: readonly Tensor[]): Tensor {
  const [first] = parts;
  const inner = String(first.shape.slice(1));
  const odd = parts.find(
    (part) => part.dtype !== first.dtype || part.shape.length === 0 || String(part.shape.slice(1)) !== inner,
  );
  if (odd) {
    throw new ShapeError(
      `${parts.map(describeTensor).join(', ')} cannot be put together: they differ in more than the number of rows`,
    );
  }
  return {
    dtype: first.dtype,
    shape: [parts.reduce((sum, { shape }) => sum + shape[0], 0), ...first.shape.slice(1)],
    async *chunks() {
      for (const part of parts) yield* part.chunks();
    },
  };
}

/**
 * Rows `[from, to)` of a tensor.
 *
 * @throws ShapeError if it has no such rows
 */
export function sliceRows(tensor: Tensor, from: number, to: number): Tensor {
  const [rows = 0] = tensor.shape;
  if (!(from >= 0 && from <= to && to <= rows)) {
    throw new ShapeError(`${describeTensor(tensor)} has no rows ${from} to ${to}`);
  }
  const shape = [to - from, ...tensor.shape.slice(1)];
  const rowBytes = elementCount(tensor.shape.slice(1)) * dtypeRow(tensor.dtype).bytes;
  const [start, end] = [from * rowBytes, to * rowBytes];
  if (tensor.stored) {
    const { source, start: at } = tensor.stored;
    return storedTensor(tensor.dtype, shape, { source, start: at + start, end: at + end });
  }
  return {
    dtype: tensor.dtype,
    shape,
    async *chunks() {
      let at = 0;
      for await (const chunk of tensor.chunks()) {
        const part = chunk.subarray(Math.max(0, start - at), Math.max(0, end - at));
        at += chunk.length;
        if (part.length > 0) yield part;
        if (at >= end) return;
      }
    },
  };
}

/** A tensor cut into `count` tensors of equally many rows. @throws ShapeError if they cannot be divided */
export function splitRows(tensor: Tensor, count: number): Tensor[] {
  const rows = (tensor.shape[0] ?? 0) / count;
  if (!Number.isInteger(rows) || tensor.shape.length === 0) {
    throw new ShapeError(`${describeTensor(tensor)} cannot be cut into ${count} equal parts`);
  }
  return Array.from({ length: count }, (_, i) => sliceRows(tensor, i * rows, (i + 1) * rows));
}

/** A tensor of zeros that takes no memory. */
export function zeros(like: Pick<Tensor, 'dtype' | 'shape'>): Tensor {
  const { dtype, shape } = like;
  return {
    dtype,
    shape,
    async *chunks() {
      const step = 64 * 1024;
      const piece = new Uint8Array(Math.min(step, byteLength(like)));
      for (let left = byteLength(like); left > 0; left -= step) yield piece.subarray(0, Math.min(step, left));
    },
  };
}
