/**
 * float32 to float16 against NumPy: every row is `np.float32(x).astype(np.float16)` (NumPy 2.x, bits printed).
 */
import { describe, expect, it } from 'vitest';
import { FLOAT16_MAX, float16Bits, narrow } from '../../../src/export/precision/float16.js';
import { float16ToNumber } from '../../../src/tensor.js';

const NUMPY: [string, number, number][] = [
  ['zero', 0x00000000, 0x0000],
  ['minus zero', 0x80000000, 0x8000],
  ['one', 0x3f800000, 0x3c00],
  ['a third', 0x3eaaaaab, 0x3555],
  ['pi', 0x40490fdb, 0x4248],
  ['largest', 0x477fe000, 0x7bff],
  ['below the tie above the largest', 0x477fefff, 0x7bff],
  ['tie between two normals, to even below', 0x3f801000, 0x3c00],
  ['tie to even above', 0x3f803000, 0x3c02],
  ['just above the tie', 0x3f801001, 0x3c01],
  ['just below the tie', 0x3f800fff, 0x3c00],
  ['carry into the exponent', 0x3ffff800, 0x4000],
  ['smallest normal', 0x38800000, 0x0400],
  ['largest subnormal', 0x387fc000, 0x03ff],
  ['tie that becomes normal', 0x387fe000, 0x0400],
  ['subnormal tie to even below', 0x34900000, 0x0004],
  ['subnormal tie', 0x34200000, 0x0002],
  ['subnormal tie up', 0x34600000, 0x0004],
  ['smallest subnormal', 0x33800000, 0x0001],
  ['half of it: tie to zero', 0x33000000, 0x0000],
  ['a hair above half of it', 0x33000001, 0x0001],
  ['below half of it', 0x32800000, 0x0000],
  ['float32 subnormal', 0x000116c2, 0x0000],
  ['-2.7', 0xc02ccccd, 0xc166],
  ['-1e-6', 0xb58637bd, 0x8011],
  ['1023.75', 0x447ff000, 0x6400],
  ['2049 (tie)', 0x45001000, 0x6800],
  ['2051 (tie)', 0x45003000, 0x6802],
  ['1e-7', 0x33d6bf95, 0x0002],
];

const LOST: [string, number, number][] = [
  ['tie above the largest', 0x477ff000, 0x7c00],
  ['beyond', 0x49742400, 0x7c00],
  ['-beyond', 0xc788b800, 0xfc00],
  ['infinity', 0x7f800000, 0x7c00],
  ['-infinity', 0xff800000, 0xfc00],
];

describe('narrow', () => {
  it.each(NUMPY)('%s', (_, float, half) => {
    const out = new Uint16Array(1);
    expect(narrow(Uint32Array.of(float), out)).toBe(0);
    expect(out[0]).toBe(half);
  });

  it.each(LOST)('counts what becomes infinite: %s', (_, float, half) => {
    const out = new Uint16Array(1);
    expect(narrow(Uint32Array.of(float), out)).toBe(1);
    expect(out[0]).toBe(half);
  });

  it('counts NaN, and keeps it one', () => {
    const out = new Uint16Array(1);
    expect(narrow(Uint32Array.of(0x7fc00000), out)).toBe(1);
    expect(float16ToNumber(out[0])).toBeNaN();
  });

  it('gives every float16 back, and the even neighbour for every tie between two', () => {
    const out = new Uint16Array(2);
    for (let bits = 0; bits < 0x7bff; bits++) {
      const [value, next] = [float16ToNumber(bits), float16ToNumber(bits + 1)];
      const floats = Float32Array.of(value, (value + next) / 2);
      expect(narrow(new Uint32Array(floats.buffer), out)).toBe(0);
      if (out[0] !== bits || out[1] !== bits + (bits % 2))
        expect([...out]).toEqual([bits, bits + (bits % 2)]);
    }
  });

  it('writes at a place', () => {
    const out = new Uint16Array(3);
    narrow(new Uint32Array(Float32Array.of(1).buffer), out, 2);
    expect([...out]).toEqual([0, 0, 0x3c00]);
  });
});

describe('float16Bits', () => {
  it.each([
    [1, 0x3c00],
    [-2, 0xc000],
    [FLOAT16_MAX, 0x7bff],
  ])('%f', (value, bits) => {
    expect(float16Bits(value)).toBe(bits);
  });
});
