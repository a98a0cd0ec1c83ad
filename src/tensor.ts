/**
 * Lazy tensors. Size is known before bytes; nothing is read until somebody pulls.
 */
import type { ByteRange } from './bytes.js';
import { dtype as dtypeRow, type DtypeName } from './dtype.js';
import { FormatError, ShapeError } from './errors.js';

export interface Tensor {
  readonly dtype: DtypeName;
  readonly shape: readonly number[];
  /**
   * The tensor's bytes in row-major order, little-endian; whole elements per chunk; may be called again.
   * A chunk is valid until the next one is pulled: copy what must live longer.
   */
  chunks(): AsyncIterable<Uint8Array>;
  /** Where exactly these bytes lie in a source, when they are stored contiguously and unchanged. */
  readonly stored?: ByteRange;
}

/** Never a plain object: `__proto__` is a legal tensor name in a hostile file. */
export type StateDict = ReadonlyMap<string, Tensor>;

/** Chunk size for streaming: large enough that the system call does not count, small enough that memory does not. */
export const CHUNK_BYTES = 4 * 1024 * 1024;

/** Number of elements. `[]` is a scalar: 1. */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, side) => product * side, 1);
}

/** Length of the tensor in bytes. */
export function byteLength(tensor: Pick<Tensor, 'dtype' | 'shape'>): number {
  return elementCount(tensor.shape) * dtypeRow(tensor.dtype).bytes;
}

/** `f32[3072, 1024]`, as error messages name a tensor. */
export function describeTensor(tensor: Pick<Tensor, 'dtype' | 'shape'>): string {
  return `${tensor.dtype.toLowerCase()}[${tensor.shape.join(', ')}]`;
}

/** A tensor whose bytes lie, unchanged, at `range`. */
export function storedTensor(dtype: DtypeName, shape: readonly number[], range: ByteRange): Tensor {
  const width = dtypeRow(dtype).bytes;
  const step = Math.floor(CHUNK_BYTES / width) * width;
  return {
    dtype,
    shape,
    stored: range,
    async *chunks() {
      range.source.expect?.(range.start, range.end);
      for (let at = range.start; at < range.end; at += step) {
        yield await range.source.read(at, Math.min(at + step, range.end));
      }
    },
  };
}

/** A tensor whose bytes are in memory. */
export function memoryTensor(dtype: DtypeName, shape: readonly number[], bytes: Uint8Array): Tensor {
  const expected = elementCount(shape) * dtypeRow(dtype).bytes;
  if (bytes.length !== expected) {
    throw new ShapeError(`a tensor ${dtype}[${shape.join(', ')}] has ${expected} bytes, not ${bytes.length}`);
  }
  return {
    dtype,
    shape,

    async *chunks() {
      if (bytes.length > 0) yield bytes;
    },
  };
}

/** Little-endian bytes of a typed array (every platform Node supports is little-endian). */
export function bytesOf(array: ArrayBufferView): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

/** All bytes of a tensor, in fresh 8-byte aligned memory. Counts what is delivered against what was declared. */
export async function readBytes(tensor: Tensor): Promise<Uint8Array> {
  const bytes = new Uint8Array(byteLength(tensor));
  if (tensor.stored) {
    await tensor.stored.source.readInto(bytes, tensor.stored.start);
    return bytes;
  }
  let at = 0;
  for await (const chunk of tensor.chunks()) {
    if (at + chunk.length > bytes.length) at = Number.NaN;
    else bytes.set(chunk, at);
    at += chunk.length;
  }
  if (at !== bytes.length) {
    throw new FormatError(
      `a tensor ${describeTensor(tensor)} delivered ${at} bytes instead of ${bytes.length}`,
    );
  }
  return bytes;
}

/** float16 bits to a number, exact (subnormals, infinities and NaN included). */
export function float16ToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : Number.NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/**
 * Widen (or, for float64, round to nearest) floating-point bytes to float32 bits.
 * float16 and bfloat16 are exact, NaN payloads keep their upper bits.
 */
export function toFloat32(from: DtypeName, bytes: Uint8Array): Float32Array {
  const width = dtypeRow(from).bytes;
  const count = bytes.length / width;
  // A view needs alignment; chunk memory may start anywhere.
  const aligned = bytes.byteOffset % width === 0 ? bytes : bytes.slice();
  const out = new Float32Array(count);
  switch (from) {
    case 'F32':
      out.set(new Float32Array(aligned.buffer, aligned.byteOffset, count));
      return out;
    case 'F64':
      out.set(new Float64Array(aligned.buffer, aligned.byteOffset, count));
      return out;
    case 'BF16': {
      const bits = new Uint32Array(out.buffer);
      const source = new Uint16Array(aligned.buffer, aligned.byteOffset, count);
      for (let i = 0; i < count; i++) bits[i] = source[i] << 16;
      return out;
    }
    case 'F16': {
      const bits = new Uint32Array(out.buffer);
      const source = new Uint16Array(aligned.buffer, aligned.byteOffset, count);
      for (let i = 0; i < count; i++) bits[i] = float16BitsToFloat32Bits(source[i]);
      return out;
    }
    default:
      throw new FormatError(`${from} is not a floating-point weight dtype`, {
        next: 'Weights may be F32, F16, BF16 or F64.',
      });
  }
}

function float16BitsToFloat32Bits(half: number): number {
  const sign = (half & 0x8000) << 16;
  let exponent = (half >> 10) & 0x1f;
  let fraction = half & 0x3ff;
  if (exponent === 31) return sign | 0x7f800000 | (fraction << 13);
  if (exponent === 0) {
    if (fraction === 0) return sign;
    exponent = 1;
    while ((fraction & 0x400) === 0) {
      fraction <<= 1;
      exponent -= 1;
    }
    fraction &= 0x3ff;
  }
  return sign | ((exponent + 112) << 23) | (fraction << 13);
}

/** All elements of a weight as float64 (exact from every weight dtype). */
export async function readFloat64(tensor: Tensor): Promise<Float64Array> {
  const bytes = await readBytes(tensor);
  if (tensor.dtype === 'F64') return new Float64Array(bytes.buffer);
  return Float64Array.from(toFloat32(tensor.dtype, bytes));
}

/** All elements of a weight as float32 (float64 weights are rounded). */
export async function readFloat32(tensor: Tensor): Promise<Float32Array> {
  const bytes = await readBytes(tensor);
  if (tensor.dtype === 'F32') return new Float32Array(bytes.buffer);
  return toFloat32(tensor.dtype, bytes);
}

/** The same values as float32: lazy, exact from float16 and bfloat16, rounded to nearest from float64. */
export function asFloat32(tensor: Tensor): Tensor {
  if (tensor.dtype === 'F32') return tensor;
  const { dtype, shape } = tensor;
  if (!dtypeRow(dtype).weight) {
    throw new FormatError(`${describeTensor(tensor)} is not a floating-point weight`, {
      next: 'Weights may be F32, F16, BF16 or F64.',
    });
  }
  return {
    dtype: 'F32',
    shape,
    async *chunks() {
      for await (const chunk of tensor.chunks()) yield bytesOf(toFloat32(dtype, chunk));
    },
  };
}
