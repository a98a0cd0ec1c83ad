import { describe, expect, it } from 'vitest';
import type { BeitConfig } from '../../src/beit.js';
import { erf, gelu, geluSlope } from '../../src/verify/erf.js';
import { multiplyAdd, squaredMultiply } from '../../src/verify/kernels.js';
import { allocate, geometryOf, openMemory, type LinearPhase } from '../../src/verify/oracle-memory.js';
import { localTeam } from '../../src/verify/oracle-team.js';
import { SMALL, difference, gaussian, largest } from './oracle-model.js';

describe('multiplyAdd', () => {
  it.each([
    [1, 1, 1],
    [4, 2, 2],
    [5, 3, 7],
    [7, 384, 48],
    [9, 385, 49],
    [3, 769, 1],
    [13, 1000, 101],
    [197, 64, 197],
    [197, 197, 64],
  ])('%i rows, depth %i, %i columns', (rows, depth, columns) => {
    const next = gaussian(rows + depth + columns);
    const random = (count: number): Float64Array => Float64Array.from({ length: count }, next);
    const [aStride, bStride, cStride] = [depth + 3, depth + 5, columns + 2];
    const a = random(7 + rows * aStride);
    const b = random(11 + columns * bStride);
    const c = random(13 + rows * cStride);
    const expected = c.slice();
    for (let t = 0; t < rows; t++) {
      for (let n = 0; n < columns; n++) {
        for (let k = 0; k < depth; k++) {
          expected[13 + t * cStride + n] += a[7 + t * aStride + k] * b[11 + n * bStride + k];
        }
      }
    }
    multiplyAdd(
      { data: a, at: 7, stride: aStride },
      { data: b, at: 11, stride: bStride },
      { data: c, at: 13, stride: cStride },
      rows,
      depth,
      columns,
    );
    expect(largest(difference(c, expected))).toBeLessThan(1e-11);
    const untouched = expected.map((value, i) =>
      (i - 13) % cStride < columns && i >= 13 ? Number.NaN : value,
    );
    untouched.forEach((value, i) => Number.isNaN(value) || expect(c[i]).toBe(value));
  });

  it('is not spoilt by what an earlier call left behind', () => {
    const one = { data: new Float64Array(16).fill(1), at: 0, stride: 1 };
    const spoilt = { data: new Float64Array(16).fill(Number.NaN), at: 0, stride: 1 };
    multiplyAdd(spoilt, one, { data: new Float64Array(16), at: 0, stride: 4 }, 4, 1, 4);
    const c = { data: new Float64Array(3), at: 0, stride: 3 };
    multiplyAdd(one, one, c, 1, 1, 3);
    expect([...c.data]).toEqual([1, 1, 1]);
  });
});

describe('squaredMultiply', () => {
  it.each([1, 2, 7])('depth %i', (depth) => {
    const rows = Float32Array.from({ length: 1 + 3 * depth }, gaussian(1));
    const s = Float64Array.from({ length: 2 + depth }, gaussian(2));
    const out = new Float64Array(5).fill(1);
    squaredMultiply(rows, 1, 3, depth, s, 2, out, 1);
    for (let n = 0; n < 3; n++) {
      let sum = 1;
      for (let k = 0; k < depth; k++) sum += rows[1 + n * depth + k] ** 2 * s[2 + k];
      expect(out[1 + n]).toBeCloseTo(sum, 12);
    }
    expect([out[0], out[4]]).toEqual([1, 1]);
  });
});

/** An image with more tokens than one task takes. */
const LONG: BeitConfig = {
  ...SMALL,
  patchSize: 1,
  channels: 1,
  imageSize: [18, 17],
  window: [18, 17],
  hiddenSize: 10,
  heads: 2,
  mlpSize: 53,
};

describe('a linear layer over several chunks of tokens', () => {
  const geometry = geometryOf(LONG, 2);
  const rows = 2 * geometry.tokens;

  it.each([
    ['nothing', 'a', 'wide', 10, 30],
    ['gelu', 'a', 'wide', 10, 53],
    ['residual', 'wide', 'o', 53, 10],
  ] as const)('then %s', async (then, from, to, depth, outputs) => {
    expect(geometry.linearChunks).toBeGreaterThan(1);
    const next = gaussian(outputs);
    const buffers = allocate(geometry, depth * outputs * 8);
    const memory = openMemory(buffers);
    const weights = new Float64Array(memory.slots[1]).map(next);
    new Float64Array(memory.slots[1]).set(weights);
    const bias = Float64Array.from({ length: outputs }, next);
    const gamma = then === 'residual' ? Float64Array.from({ length: outputs }, next) : undefined;
    const input = Float64Array.from({ length: rows * depth }, next);
    memory[from].set(input);
    memory.x.forEach((_, i) => (memory.x[i] = next()));
    const before = memory.x.slice();
    const phase: LinearPhase = {
      ...{ kind: 'linear', from, to, then, depth, outputs, bias, gamma },
      ...{ slot: 1, weightBytes: 8, firstRow: 0, rows: outputs },
    };
    await localTeam(buffers).run(phase);

    const expected = new Float64Array(rows * outputs);
    for (let t = 0; t < rows; t++) {
      for (let n = 0; n < outputs; n++) {
        let sum = bias[n];
        for (let k = 0; k < depth; k++) sum += input[t * depth + k] * weights[n * depth + k];
        if (then === 'gelu') sum = gelu(sum);
        expected[t * outputs + n] = gamma ? before[t * outputs + n] + gamma[n] * sum : sum;
      }
    }
    const result = then === 'residual' ? memory.x : memory[to].subarray(0, rows * outputs);
    expect(largest(difference(result, expected))).toBeLessThan(1e-12);
  });
});

describe('erf', () => {
  // mpmath at 40 digits, rounded to double.
  it.each([
    [0, 0],
    [1e-300, 1.1283791670955126e-300],
    [1e-8, 1.1283791670955126e-8],
    [0.03, 0.03384122234173543],
    [0.25, 0.27632639016823696],
    [0.4, 0.42839235504666845],
    [0.46875, 0.49261347321793797],
    [0.468750001, 0.49261347412373113],
    [0.5, 0.5204998778130465],
    [0.7071067811865476, 0.682689492137086],
    [0.9, 0.7969082124228322],
    [1.2345, 0.9191623964135658],
    [1.9, 0.9927904292352575],
    [2.5, 0.999593047982555],
    [3.2, 0.9999939742388483],
    [4, 0.9999999845827421],
    [4.0001, 0.9999999845954353],
    [4.7, 0.9999999999700474],
    [5.5, 0.9999999999999927],
    [5.9, 0.9999999999999999],
    [6, 1],
    [Infinity, 1],
  ])('of %d', (x, value) => {
    const ulp = value === 0 ? 0 : 2 ** (Math.floor(Math.log2(value)) - 52);
    expect(Math.abs(erf(x) - value)).toBeLessThanOrEqual(2 * ulp);
    expect(erf(-x)).toBe(-erf(x));
  });

  it('of NaN is NaN', () => expect(erf(Number.NaN)).toBeNaN());
});

describe('gelu', () => {
  // mpmath at 40 digits: x/2 erfc(-x/√2) and its derivative.
  it.each([
    [-40, 0, 0],
    [-6, -5.9195258702261885e-9, -3.5468709453902015e-8],
    [-3.3, -0.0015952996698664658, -0.00520105335649337],
    [-1, -0.15865525393145705, -0.0833154705876863],
    [-0.1, -0.0460172162722971, 0.4204769079752698],
    [-1e-9, -4.999999996010577e-10, 0.49999999920211546],
    [0, 0, 0.5],
    [0.3, 0.1853734266566858, 0.7323277668271099],
    [1, 0.8413447460685429, 1.0833154705876864],
    [2.2, 2.1694124154703034, 1.0641406567482106],
    [5.7, 5.699999965854883, 1.000000194305069],
    [9, 9, 1],
  ])('of %d', (x, value, slope) => {
    expect(Math.abs(gelu(x) - value)).toBeLessThanOrEqual(4e-16 * Math.max(1, Math.abs(x)));
    expect(Math.abs(geluSlope(x, gelu(x)) - slope)).toBeLessThan(1e-14);
  });
});
