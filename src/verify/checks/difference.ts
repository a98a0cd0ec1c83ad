/**
 * A tensor's bytes are not the source's: which of the usual mistakes gives exactly these?
 */
import { dtype as dtypeRow } from '../../dtype.js';
import { byteLength, readFloat32, type StateDict, type Tensor } from '../../tensor.js';
import { asFloat32 } from '../../tensor.js';
import type { OnnxInitializer } from '../onnx-file.js';

/** Both sides are held in memory here; larger tensors go unexplained. */
const MOST_BYTES = 64 * 1024 * 1024;

/** @returns one clause, or `undefined` if it is none of them */
export async function explainDifference(
  name: string,
  source: Tensor,
  { stored }: OnnxInitializer,
  tensors: StateDict,
): Promise<string | undefined> {
  if (byteLength(source) > MOST_BYTES) return undefined;
  const expected = await readFloat32(source);
  const found = new Float32Array(expected.length);
  await stored.source.readInto(new Uint8Array(found.buffer), stored.start);

  if (found.every((value) => value === 0)) return 'all zero in the file';
  const parts = name.endsWith('.qkv.weight') ? permutedThirds(expected, found) : undefined;
  if (parts) return parts;
  if (isTransposed(source.shape, expected, found)) return 'transposed in the file';
  for (const [other, tensor] of tensors) {
    // A BatchNorm's counter is in the file, and no weight.
    if (other === name || !dtypeRow(tensor.dtype).weight) continue;
    if (byteLength(asFloat32(tensor)) !== byteLength(source)) continue;
    if (equal(await readFloat32(tensor), found)) return `holds ${other} in the file`;
  }
  return undefined;
}

function equal(a: Float32Array, b: Float32Array): boolean {
  return a.length === b.length && a.every((value, i) => Object.is(value, b[i]));
}

function permutedThirds(expected: Float32Array, found: Float32Array): string | undefined {
  const third = expected.length / 3;
  const part = (of: Float32Array, i: number): Float32Array => of.subarray(i * third, (i + 1) * third);
  const order = [0, 1, 2].map((i) => [0, 1, 2].find((j) => equal(part(found, i), part(expected, j))));
  if (order.includes(undefined)) return undefined;
  return `its rows are ${order.map((i) => 'qkv'[i!]).join(' | ')} in the file instead of q | k | v`;
}

function isTransposed(shape: readonly number[], expected: Float32Array, found: Float32Array): boolean {
  if (shape.length !== 2 || shape[0] < 2 || shape[1] < 2) return false;
  const [rows, columns] = shape;
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      if (!Object.is(found[column * rows + row], expected[row * columns + column])) return false;
    }
  }
  return true;
}
