import { describe, expect, it } from 'vitest';
import { compareTensors, type TensorDifference } from '../../src/convert/compare.js';
import { FormatError } from '../../src/errors.js';
import { memorySource } from '../../src/bytes.js';
import { bytesOf, memoryTensor, storedTensor, type Tensor } from '../../src/tensor.js';

const f32 = (...values: number[]): Tensor =>
  memoryTensor('F32', [values.length], bytesOf(Float32Array.from(values)));
const f64 = (...values: number[]): Tensor =>
  memoryTensor('F64', [values.length], bytesOf(Float64Array.from(values)));
const f16 = (...bits: number[]): Tensor =>
  memoryTensor('F16', [bits.length], bytesOf(Uint16Array.from(bits)));
const i64 = (...values: bigint[]): Tensor =>
  memoryTensor('I64', [values.length], bytesOf(BigInt64Array.from(values)));

describe('compareTensors', () => {
  it.each<[string, Tensor, Tensor, TensorDifference | undefined]>([
    ['equal', f32(1, 2), f32(1, 2), undefined],
    ['empty', f32(), f32(), undefined],
    ['one element', f32(1, 2, 3), f32(1, 2.5, 3), { differing: 1, maxAbs: 0.5, at: [1] }],
    ['the largest of several', f32(1, 2, 3), f32(2, 2, -3), { differing: 2, maxAbs: 6, at: [2] }],
    ['0 and -0 are other bits', f32(1, 0), f32(1, -0), { differing: 1, maxAbs: 0, at: [1] }],
    ['NaN is the same NaN', f32(NaN), f32(NaN), undefined],
    ['NaN is the largest difference', f32(1, 2, 3), f32(9, NaN, 30), { differing: 3, maxAbs: NaN, at: [1] }],
    ['infinities', f32(Infinity, 1), f32(-Infinity, 1), { differing: 1, maxAbs: Infinity, at: [0] }],
    ['float64', f64(1, 1 + 2 ** -52), f64(1, 1), { differing: 1, maxAbs: 2 ** -52, at: [1] }],
    ['float16', f16(0x3c00, 0x0001), f16(0x3c00, 0x0002), { differing: 1, maxAbs: 2 ** -24, at: [1] }],
    ['int64', i64(1n, -5n), i64(1n, 2n ** 40n), { differing: 1, maxAbs: 2 ** 40 + 5, at: [1] }],
    ['two dtypes, same values', f32(0.5, NaN), f64(0.5, NaN), undefined],
    ['two dtypes, other values', f16(0x3c00), f32(1.25), { differing: 1, maxAbs: 0.25, at: [0] }],
    [
      'no numbers, only bits',
      memoryTensor('C64', [1], new Uint8Array(8)),
      memoryTensor('C64', [1], Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 1)),
      { differing: 1, at: [0] },
    ],
  ])('%s', async (_, a, b, expected) => {
    expect(await compareTensors(a, b)).toEqual(expected);
    // the other way round it is the same
    expect(await compareTensors(b, a)).toEqual(expected);
  });

  it('finds the last element of many blocks, stored on one side and in odd chunks on the other', async () => {
    const values = Float32Array.from({ length: 300_001 }, (_, i) => i);
    const bytes = bytesOf(values).slice();
    const source = memorySource('a', bytes);
    const a = storedTensor('F32', [300_001], { source, start: 0, end: bytes.length });
    const odd = Float32Array.from(values);
    odd[300_000] += 1;
    const b: Tensor = {
      dtype: 'F32',
      shape: [300_001],
      async *chunks() {
        const all = bytesOf(odd);
        for (let at = 0; at < all.length; at += 100_004) {
          yield await Promise.resolve(all.subarray(at, at + 100_004));
        }
      },
    };
    expect(await compareTensors(a, b)).toEqual({ differing: 1, maxAbs: 1, at: [300_000] });
  });

  it('a tensor that delivers too little is an error', async () => {
    const short: Tensor = {
      dtype: 'F32',
      shape: [4],
      async *chunks() {
        yield await Promise.resolve(new Uint8Array(8));
      },
    };
    await expect(compareTensors(short, f32(0, 0, 0, 0))).rejects.toThrow(FormatError);
  });
});
