/**
 * Integer kernels against references that round with `Math.round` and exact comparison, one value at a time.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { quantiseBlocks, quantiseRows } from '../../../src/export/precision/kernels.js';

/** Nearest integer, ties to even, without the kernel's trick. */
function nearest(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest !== 0.5) return rest < 0.5 ? below : below + 1;
  return below % 2 === 0 ? below : below + 1;
}

function naiveRows(
  rows: Float32Array,
  inputs: number,
  levels: number,
): { codes: number[][]; steps: number[] } {
  const codes: number[][] = [];
  const steps: number[] = [];
  for (let start = 0; start < rows.length; start += inputs) {
    const row = [...rows.subarray(start, start + inputs)];
    const step = Math.fround(Math.max(...row.map(Math.abs)) / levels) || 1;
    steps.push(step);
    codes.push(row.map((value) => nearest(value * (1 / step))));
  }
  return { codes, steps };
}

const floats = (length: number): fc.Arbitrary<Float32Array> =>
  fc
    .array(fc.float({ noNaN: true, noDefaultInfinity: true, min: -1e6, max: 1e6 }), {
      minLength: length,
      maxLength: length,
    })
    .map((values) => Float32Array.from(values));

describe('quantiseRows', () => {
  it.each([
    ['four outputs, written four at a time', 4, 6],
    ['an odd number of outputs', 5, 3],
    ['eight', 8, 1],
    ['one', 1, 9],
  ])('is the reference, transposed: %s', (_, outputs, inputs) => {
    fc.assert(
      fc.property(
        floats(outputs * inputs),
        fc.constantFrom(64, 127),
        fc.constantFrom(0, 128),
        (rows, levels, shift) => {
          const matrix = new Uint8Array(inputs * outputs);
          const steps = new Float32Array(outputs);
          expect(quantiseRows({ rows, inputs, first: 0, outputs }, levels, shift, matrix, steps)).toBe(true);
          const naive = naiveRows(rows, inputs, levels);
          expect([...steps]).toEqual(naive.steps);
          for (let o = 0; o < outputs; o++) {
            for (let i = 0; i < inputs; i++)
              expect(matrix[i * outputs + o]).toBe((naive.codes[o][i] + shift) & 255);
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  it('fills a matrix from blocks of rows', () => {
    const rows = Float32Array.from({ length: 7 * 5 }, (_, i) => Math.sin(i));
    const [whole, parts] = [new Uint8Array(35), new Uint8Array(35)];
    const [a, b] = [new Float32Array(7), new Float32Array(7)];
    quantiseRows({ rows, inputs: 5, first: 0, outputs: 7 }, 127, 0, whole, a);
    quantiseRows({ rows: rows.subarray(0, 15), inputs: 5, first: 0, outputs: 7 }, 127, 0, parts, b);
    quantiseRows({ rows: rows.subarray(15), inputs: 5, first: 3, outputs: 7 }, 127, 0, parts, b);
    expect(parts).toEqual(whole);
    expect(b).toEqual(a);
  });

  it('puts the largest weight on the last level, and zeros on a step of 1', () => {
    const matrix = new Uint8Array(6);
    const steps = new Float32Array(2);
    const rows = Float32Array.of(-2, 1, 0.5, 0, 0, 0);
    quantiseRows({ rows, inputs: 3, first: 0, outputs: 2 }, 64, 0, matrix, steps);
    expect([...new Int8Array(matrix.buffer)]).toEqual([-64, 0, 32, 0, 16, 0]);
    expect([...steps]).toEqual([2 / 64, 1]);
  });

  it.each([NaN, Infinity, -Infinity])('refuses %d', (bad) => {
    const rows = Float32Array.of(1, bad, 2);
    expect(
      quantiseRows({ rows, inputs: 3, first: 0, outputs: 1 }, 127, 0, new Uint8Array(3), new Float32Array(1)),
    ).toBe(false);
  });
});

describe('quantiseBlocks', () => {
  it.each([
    ['one block', 1, 32],
    ['a row of one and a half', 2, 48],
    ['an odd number of inputs', 3, 33],
    ['less than a block', 2, 7],
  ])('is the reference: %s', (_, outputs, inputs) => {
    fc.assert(
      fc.property(floats(outputs * inputs), (rows) => {
        const perRow = Math.ceil(inputs / 32);
        const blocks = new Uint8Array(outputs * perRow * 16);
        const steps = new Float32Array(outputs * perRow);
        expect(quantiseBlocks(rows, inputs, Math.fround, blocks, steps)).toBe(true);
        for (let o = 0; o < outputs; o++) {
          for (let i = 0; i < perRow * 32; i++) {
            const block = o * perRow + Math.floor(i / 32);
            const byte = blocks[block * 16 + Math.floor((i % 32) / 2)];
            const code = i % 2 === 0 ? byte & 15 : byte >> 4;
            const first = o * inputs + Math.floor(i / 32) * 32;
            const part = [...rows.subarray(first, Math.min(first + 32, (o + 1) * inputs))];
            const extreme = part.reduce((most, v) => (Math.abs(v) > Math.abs(most) ? v : most), 0);
            const largest = Math.max(...part, 0) === -Math.min(...part, 0) ? Math.abs(extreme) : extreme;
            const step = Math.fround(largest / -8);
            expect(steps[block]).toBe(step === 0 ? steps[block] : step);
            const value = i < inputs ? rows[o * inputs + i] : 0;
            const wanted = step === 0 ? 8 : Math.min(15, Math.max(0, nearest(value * (1 / step) + 8)));
            expect(code).toBe(wanted);
          }
        }
      }),
      { numRuns: 60 },
    );
  });

  it('pads a row with what stands for zero', () => {
    const blocks = new Uint8Array(16);
    quantiseBlocks(Float32Array.of(-8, 7, 0), 3, Math.fround, blocks, new Float32Array(1));
    expect([...blocks]).toEqual([0xf0, 0x88, ...Array<number>(14).fill(0x88)]);
  });

  it.each([NaN, Infinity, -Infinity])('refuses %d', (bad) => {
    expect(
      quantiseBlocks(Float32Array.of(1, bad), 2, Math.fround, new Uint8Array(16), new Float32Array(1)),
    ).toBe(false);
  });
});
