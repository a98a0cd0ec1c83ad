/**
 * A tensor of a pickle as a lazy tensor: what the pickle says is held against the storage's real size first.
 */
import { memorySource, type ByteRange } from '../../bytes.js';
import { dtype as dtypeRow } from '../../dtype.js';
import { FormatError, printable } from '../../errors.js';
import { CHUNK_BYTES, storedTensor, type Tensor } from '../../tensor.js';
import { grouped } from '../checkpoint.js';
import { gather, isContiguous, lastElement } from './gather.js';
import type { TensorValue } from './pickle-values.js';
import { storageBytes } from './torch-rebuild.js';

/** A storage as the file really has it. */
export interface StorageContent {
  /** bytes of content */
  readonly size: number;
  /** where it lies, or, when it is deflated, its pieces from the start */
  readonly bytes: ByteRange | (() => AsyncIterable<Uint8Array>);
}

/** Repeating (stride 0) makes a tensor larger than its storage; a small file may do that up to here. */
const MAX_EXPANDED_BYTES = 16 * 1024 * 1024;
/** A deflated storage is inflated from its start each time: one that is looked at by strides is held in memory. */
const MAX_INFLATED_BYTES = 64 * 1024 * 1024;

/**
 * @param subject what is made, for messages: `model.pth: tensor "head.weight"`
 * @param limit   size of the file, in bytes
 * @throws FormatError when the view leaves its storage, the storage is not as long as the pickle says, or the shape is
 *   larger than anything the file can mean
 */
export function makeTensor(
  value: TensorValue,
  content: StorageContent,
  subject: string,
  limit: number,
): Tensor {
  const { shape, strides, offset, storage, at, problem } = value;
  const fail = (what: string): never => {
    throw new FormatError(`${subject} ${what} (byte ${at} of the pickle)`);
  };
  const declared = storageBytes(storage);
  if (problem !== undefined || value.dtype === undefined || declared === undefined) {
    return fail(`is not read: ${problem ?? `its numbers are of ${printable(storage.type)}`}`);
  }
  const { name: dtype, bytes: width } = dtypeRow(value.dtype);
  const key = `storage ${printable(storage.key)}`;
  if (declared !== content.size) {
    fail(
      `lies in ${key}, which should have ${grouped(declared)} bytes; the file has ${grouped(content.size)} of it`,
    );
  }
  let bytes = width;
  for (const side of shape) bytes *= side;
  if (!(bytes <= Math.max(limit, MAX_EXPANDED_BYTES))) {
    fail(`has the shape [${shape.join(', ')}]: ${grouped(bytes)} bytes out of a file of ${grouped(limit)}`);
  }
  const last = lastElement({ offset, shape, strides });
  const elements = Math.floor(content.size / width);
  if (last >= elements) {
    fail(
      `reaches to element ${grouped(last)} of ${key} (offset ${offset}, shape [${shape.join(', ')}], strides [${strides.join(', ')}]), which has ${grouped(elements)}`,
    );
  }
  if (bytes === 0) return { dtype, shape, chunks: nothing };
  const contiguous = isContiguous(shape, strides);
  const view = { offset, shape, strides, width };
  if (typeof content.bytes !== 'function') {
    const range = content.bytes;
    if (!contiguous) return { dtype, shape, chunks: () => gather(range, view) };
    const { source, start } = range;
    return storedTensor(dtype, shape, {
      source,
      start: start + offset * width,
      end: start + offset * width + bytes,
    });
  }
  const stream = content.bytes;
  if (contiguous) return { dtype, shape, chunks: () => part(stream(), offset * width, bytes, width) };
  if (content.size > MAX_INFLATED_BYTES) {
    fail(
      `looks by strides at ${key}, a deflated record of ${grouped(content.size)} bytes; up to ${grouped(MAX_INFLATED_BYTES)} are inflated for that`,
    );
  }
  return {
    dtype,
    shape,
    async *chunks() {
      yield* gather(await inflated(stream(), content.size, storage.key), view);
    },
  };
}

/** Are these all numbers of a storage of so many bytes, in order? Such a tensor is read by reading its storage. */
export function isWholeStorage(value: TensorValue, size: number): boolean {
  const { shape, strides, offset, dtype } = value;
  if (offset !== 0 || dtype === undefined || !isContiguous(shape, strides)) return false;
  return shape.reduce((product, side) => product * side, dtypeRow(dtype).bytes) === size;
}

async function* nothing(): AsyncIterable<Uint8Array> {
  // no elements, no chunks
}

/** Bytes `[start, start + length)` of a stream, in pieces of whole elements. */
async function* part(
  stream: AsyncIterable<Uint8Array>,
  start: number,
  length: number,
  width: number,
): AsyncIterable<Uint8Array> {
  const out = new Uint8Array(Math.min(length, Math.floor(CHUNK_BYTES / width) * width));
  let filled = 0;
  let at = 0;
  let left = length;
  // Read to its end, wherever the tensor ends: the checksum is compared there.
  for await (const piece of stream) {
    let wanted = piece.subarray(Math.min(piece.length, Math.max(0, start - at)));
    at += piece.length;
    wanted = wanted.subarray(0, left);
    left -= wanted.length;
    while (wanted.length > 0) {
      const some = wanted.subarray(0, out.length - filled);
      out.set(some, filled);
      filled += some.length;
      wanted = wanted.subarray(some.length);
      if (filled === out.length) {
        yield out;
        filled = 0;
      }
    }
  }
  if (filled > 0) yield out.subarray(0, filled);
}

async function inflated(stream: AsyncIterable<Uint8Array>, size: number, name: string): Promise<ByteRange> {
  const bytes = new Uint8Array(size);
  let at = 0;
  for await (const piece of stream) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return { source: memorySource(name, bytes), start: 0, end: bytes.length };
}
