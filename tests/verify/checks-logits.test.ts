import { describe, expect, it } from 'vitest';
import { checkLogits } from '../../src/verify/checks/logits.js';
import { checkQuality } from '../../src/verify/checks/quality.js';
import { NOISE_UNITS_ALLOWED, best, compareLogits } from '../../src/verify/compare.js';
import { sampleInput, xoshiro128 } from '../../src/verify/inputs.js';

describe('comparing logits', () => {
  const oracle = Float64Array.of(3, 1, -2, 0.5, 0.25, -4);
  const noise = 1e-6;
  const moved = (...by: number[]): Float32Array =>
    Float32Array.from(oracle, (value, i) => value + (by[i] ?? 0));

  it('measures error in units of the expected noise', () => {
    const result = compareLogits(moved(0, 0, 0, 0.25), oracle, noise);
    expect(result.maxAbs).toBe(0.25);
    expect(result.maxRel).toBe(0.0625);
    expect(result.noiseUnits).toBe(250_000);
    const dot = oracle.reduce((sum, value, i) => sum + value * moved(0, 0, 0, 0.25)[i], 0);
    expect(result.cosine).toBeCloseTo(dot / Math.hypot(...oracle) / Math.hypot(...moved(0, 0, 0, 0.25)), 14);
  });

  it('is exact when nothing differs, even when nothing is there', () => {
    const none = { maxAbs: 0, maxRel: 0, cosine: 1, noiseUnits: 0, top1: true, top5: true };
    expect(compareLogits(moved(), oracle, noise)).toMatchObject(none);
    expect(compareLogits(new Float32Array(3), new Float64Array(3), 0)).toMatchObject(none);
  });

  it('does not expect less than the rounding of the logits', () => {
    expect(compareLogits(moved(), oracle, 0).expectedNoise).toBeCloseTo((4 * 2 ** -24) / Math.sqrt(3), 20);
  });

  it.each<[string, Float32Array]>([
    ['NaN', moved(Number.NaN)],
    ['infinity', moved(0, Infinity)],
    ['all NaN', new Float32Array(6).fill(Number.NaN)],
  ])('%s is never near', (_, written) => {
    expect(compareLogits(written, oracle, noise)).toMatchObject({
      maxAbs: Infinity,
      noiseUnits: Infinity,
      cosine: 0,
    });
    const { check } = checkLogits([{ name: 'x', written: [written], oracle, noise }]);
    expect(check.passed).toBe(false);
    expect(check.findings[0]).toBe(
      `x: infinitely many noise units (not all are finite); ${NOISE_UNITS_ALLOWED} are allowed`,
    );
  });

  const tied = Float64Array.of(1, 1 + 1e-6, 0.5, 0.4, 0.3, 0.3 - 1e-6, -1);
  it.each<[string, number[], boolean, boolean]>([
    ['same order', [], true, true],
    ['a tie is broken the other way', [1e-5], true, true],
    ['another best class', [0, 0, 0.6], false, true],
    ['the fifth is a tie', [0, 0, 0, 0, 0, 1e-5], true, true],
    ['another class among five', [0, 0, 0, 0, 0, 0, 1.45], true, false],
    ['both', [0, 0, 0, 0, 0, 0, 3], false, false],
  ])('agreement: %s', (_, by, top1, top5) => {
    const written = Float32Array.from(tied, (value, i) => value + (by[i] ?? 0));
    expect(compareLogits(written, tied, noise)).toMatchObject({ top1, top5 });
  });

  it('takes the worst of several runs of one input', () => {
    const written = [moved(), moved(0, 1)];
    const { check, logits, inputs } = checkLogits(
      [{ name: 'x', written, oracle, noise }],
      ['a', 'b', 'c', 'd', 'e', 'f'],
    );
    expect(check.passed).toBe(false);
    expect(logits.maxAbs).toBe(1);
    expect(inputs[0].oracle.map(({ label }) => label)).toEqual(['a', 'b', 'd', 'e', 'c']);
    const sum = oracle.reduce((total, value) => total + Math.exp(value), 0);
    expect(inputs[0].oracle[0].probability).toBeCloseTo(Math.exp(3) / sum, 14);
  });

  it.each<[number[], number, number[]]>([
    [[1, 3, 2], 2, [1, 2]],
    [[1, 1, 1], 2, [0, 1]],
    [[Number.NaN, 1, Infinity], 3, [2, 1, 0]],
    [[5], 5, [0]],
  ])('best of %j', (values, most, expected) => {
    expect(best(values, most)).toEqual(expected);
  });
});

describe('inputs', () => {
  it('xoshiro128** gives the reference implementation’s numbers', () => {
    // rand_xoshiro's test vector, made with the authors' C code from the state {1, 2, 3, 4}.
    const next = xoshiro128([1, 2, 3, 4]);
    expect(Array.from({ length: 10 }, next)).toEqual([
      11520, 0, 5927040, 70819200, 2031721883, 1637235492, 1287239034, 3734860849, 3729100597, 4258142804,
    ]);
  });

  const size = { channels: 3, imageSize: [24, 40] } as const;
  const input = sampleInput(size, 0, 0);
  const correlation = (a: Float32Array, b: Float32Array): number => {
    const mean = (values: Float32Array): number =>
      values.reduce((sum, value) => sum + value, 0) / values.length;
    const [ma, mb] = [mean(a), mean(b)];
    let [ab, aa, bb] = [0, 0, 0];
    a.forEach((value, i) => {
      ab += (value - ma) * (b[i] - mb);
      aa += (value - ma) ** 2;
      bb += (b[i] - mb) ** 2;
    });
    return ab / Math.sqrt(aa * bb);
  };

  it('is the same for the same seed and index, and another for any other', () => {
    expect(sampleInput(size, 0, 0)).toEqual(input);
    for (const [seed, index] of [
      [0, 1],
      [1, 0],
      [2 ** 32, 0],
      [2 ** 53 - 1, 0],
    ]) {
      expect(Math.abs(correlation(sampleInput(size, seed, index), input))).toBeLessThan(0.9);
    }
  });

  it.each([0, 1, 2, 3, 4, 5, 6, 7])('seed %i: like a normalised photograph, without symmetry', (seed) => {
    const square = sampleInput({ channels: 3, imageSize: [32, 32] }, seed, 0);
    expect(square).toHaveLength(3 * 32 * 32);
    expect(Math.max(...square)).toBeLessThanOrEqual(2.5);
    expect(Math.min(...square)).toBeGreaterThanOrEqual(-2);
    const mean = square.reduce((sum, value) => sum + value, 0) / square.length;
    const spread = Math.sqrt(square.reduce((sum, value) => sum + (value - mean) ** 2, 0) / square.length);
    expect(spread).toBeGreaterThan(0.4);
    expect(spread).toBeLessThan(1.5);
    const channel = (c: number): Float32Array => square.slice(c * 1024, (c + 1) * 1024);
    const changed = (at: (y: number, x: number) => number): Float32Array =>
      Float32Array.from({ length: 1024 }, (_, i) => channel(0)[at(Math.floor(i / 32), i % 32)]);
    for (const other of [
      changed((y, x) => x * 32 + y),
      changed((y, x) => y * 32 + 31 - x),
      changed((y, x) => (31 - y) * 32 + x),
      changed((y, x) => (31 - y) * 32 + 31 - x),
    ]) {
      expect(Math.abs(correlation(channel(0), other))).toBeLessThan(0.95);
    }
    expect(correlation(channel(0), channel(1))).toBeLessThan(0.99);
  });
});

describe('quality of few classes, and of more', () => {
  const pair = (name: string, oracle: number[], ...errors: number[]) => ({
    name,
    oracle: Float64Array.from(oracle),
    written: [Float32Array.from(oracle, (value, i) => value + (errors[i] ?? 0))],
    noise: 1e-6,
  });
  const ordinary = [pair('a', [1.2, -0.9], 0.02, -0.02), pair('b', [-0.8, 1.1], 0.01, 0.02)];

  it('does not hang on one input whose logits are nearly alike', () => {
    // Cosine 0.92 and an error of three times their distance, and yet no more than for the others.
    const alike = pair('alike', [0.051, 0.041], 0.02, -0.02);
    const { check, logits } = checkQuality([...ordinary, alike], 'q8');
    expect(check.findings).toEqual([]);
    expect(logits.cosine).toBeGreaterThan(0.9996);
    expect(logits.quality!.deviation).toBeCloseTo(0.02 / Math.sqrt((1.05 ** 2 + 0.95 ** 2) / 3), 3);
  });

  it('sees an error that is large for all of them', () => {
    const wrong = pair('wrong', [0.05, 0.04], 0.4, -0.4);
    const { check } = checkQuality([...ordinary, wrong], 'q8');
    expect(check.findings.join()).toMatch(/cosine .*; 0.25 is allowed \(wrong\)/s);
  });

  it('from ten classes on every input answers for itself', () => {
    const wave = (size: number): number[] => Array.from({ length: 10 }, (_, c) => size * Math.cos(1 + c));
    const loud = [pair('a', wave(5), 0.01), pair('b', wave(-5), 0.01)];
    const quiet = pair('quiet', wave(0.05), 0.03, -0.03);
    expect(checkQuality(loud, 'q8').check.passed).toBe(true);
    const { check } = checkQuality([...loud, quiet], 'q8');
    expect(check.findings.join()).toMatch(/cosine .*; 0.25 is allowed \(quiet\)/s);
  });

  it('takes a single class for what it is', () => {
    const scores = [pair('a', [0.8], 0.01), pair('b', [-0.6], -0.01), pair('none', [0.004], -0.01)];
    expect(checkQuality(scores, 'q8').check.findings).toEqual([]);
    const opposite = [pair('a', [0.8], -1.6), pair('b', [-0.6], 1.2)];
    expect(checkQuality(opposite, 'q8').check.passed).toBe(false);
  });
});
