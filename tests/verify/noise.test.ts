import { describe, expect, it } from 'vitest';
import {
  GELU_ROUNDING,
  ROUNDING,
  UNIT,
  attentionVariance,
  dotNoise,
  driftNoise,
  normRounding,
  normVariance,
  poolShare,
} from '../../src/verify/noise.js';
import { runOracle } from '../../src/verify/oracle.js';
import { gelu } from '../../src/verify/erf.js';
import { SMALL, gaussian, randomInput, randomModel, rms } from './oracle-model.js';

const f = Math.fround;

/** Mean of `count` samples. */
function mean(count: number, sample: () => number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum += sample();
  return sum / count;
}

/** float32 sum of products in blocks of 256, as BLAS-like kernels add. */
function dot32(a: Float64Array, b: Float64Array): number {
  let total = 0;
  for (let from = 0; from < a.length; from += 256) {
    let sum = 0;
    for (let k = from; k < Math.min(from + 256, a.length); k++) sum = f(sum + a[k] * b[k]);
    total = f(total + sum);
  }
  return total;
}

function dot64(a: Float64Array, b: Float64Array): number {
  return a.reduce((sum, value, k) => sum + value * b[k], 0);
}

describe('constants, against float32 arithmetic itself', () => {
  it('one rounding', () => {
    const next = gaussian(1);
    const variance = mean(20_000, () => {
      const x = Math.exp(3 * next());
      return ((f(x) - x) / x / UNIT) ** 2;
    });
    expect(variance / ROUNDING).toBeGreaterThan(0.9);
    expect(variance / ROUNDING).toBeLessThan(1.1);
  });

  it.each([
    ['terms of both signs', 16, 0],
    ['terms of both signs', 256, 0],
    ['terms of both signs', 3072, 0],
    ['terms of one sign', 197, 8],
    ['terms of one sign', 1024, 8],
  ])('a sum of %s, %i of them', (_, terms, offset) => {
    const next = gaussian(terms);
    const products = (): Float64Array => Float64Array.from({ length: terms }, () => f(next() + offset));
    let [errors, expected] = [0, 0];
    for (let i = 0; i < 400; i++) {
      const [a, b] = [products(), products()];
      const exact = dot64(a, b);
      errors += (dot32(a, b) - exact) ** 2;
      const squares = dot64(
        a.map((x) => x * x),
        b.map((x) => x * x),
      );
      expected += (offset === 0 ? dotNoise(terms) * squares : driftNoise(terms) * exact ** 2) * UNIT ** 2;
    }
    expect(Math.sqrt(errors / expected)).toBeGreaterThan(0.7);
    expect(Math.sqrt(errors / expected)).toBeLessThan(1.5);
  });

  it('the erf in GELU', () => {
    const next = gaussian(3);
    const [errors, expected] = [0, 1].map((which) =>
      mean(20_000, () => {
        const z = f(2 * next());
        const h = gelu(z);
        if (which === 1) return GELU_ROUNDING.erf * z * z + GELU_ROUNDING.result * h * h;
        const factor = f((2 * h) / z);
        return (f(f(0.5 * z) * factor) - h) ** 2;
      }),
    );
    // Here erf itself is exact and only rounded; a real one is off by about as much again.
    expect(Math.sqrt(errors / expected)).toBeGreaterThan(0.25);
    expect(Math.sqrt(errors / expected)).toBeLessThan(1.2);
  });
});

describe('LayerNorm', () => {
  it.each([
    ['ordinary channels', 1],
    ['one massive channel', 300],
  ])('error propagation: %s', (_, massive) => {
    const width = 48;
    const next = gaussian(5);
    const x = Float64Array.from({ length: width }, next);
    x[7] *= massive;
    const variances = Float64Array.from(x, (value) => (0.01 * value) ** 2 + 1e-6);
    const normalise = (values: Float64Array): Float64Array => {
      const centre = values.reduce((sum, value) => sum + value, 0) / width;
      const variance = values.reduce((sum, value) => sum + (value - centre) ** 2, 0) / width;
      return values.map((value) => (value - centre) / Math.sqrt(variance + 1e-6));
    };
    const p = normalise(x);
    const centre = x.reduce((sum, value) => sum + value, 0) / width;
    const scale = 1 / Math.sqrt(x.reduce((sum, value) => sum + (value - centre) ** 2, 0) / width + 1e-6);
    const measured = new Float64Array(width);
    const samples = 4000;
    for (let i = 0; i < samples; i++) {
      // One hundredth of the error keeps the map linear.
      const y = normalise(x.map((value, c) => value + 0.01 * Math.sqrt(variances[c]) * next()));
      for (let c = 0; c < width; c++) measured[c] += (y[c] - p[c]) ** 2 * (1e4 / samples);
    }
    const sum = (weight: (c: number) => number): number =>
      variances.reduce((total, value, c) => total + value * weight(c), 0);
    const [a, b, c2] = [sum(() => 1), sum((c) => p[c]), sum((c) => p[c] ** 2)];
    for (let c = 0; c < width; c++) {
      const expected = normVariance(variances[c], p[c], a, b, c2, width) * scale ** 2;
      expect(measured[c] / expected, `channel ${c}`).toBeGreaterThan(0.85);
      expect(measured[c] / expected, `channel ${c}`).toBeLessThan(1.15);
    }
  });

  it('rounding grows with the width and vanishes with the data under eps', () => {
    expect(normRounding(768, 1)).toBeGreaterThan(normRounding(32, 1));
    expect(normRounding(768, 0)).toBeCloseTo(3 * ROUNDING);
  });
});

describe('attention', () => {
  it.each([
    ['flat', 0.05, 0.1, 2],
    ['ordinary', 1, 0.4, 2.5],
    ['hard', 40, 0, 4],
  ])('error propagation: %s', (_, sharpness, least, most) => {
    const [tokens, d] = [24, 8];
    const next = gaussian(11);
    const random = (scale: number): Float64Array =>
      Float64Array.from({ length: tokens * d }, () => scale * next());
    const [q, k, v] = [random(sharpness), random(1), random(1)];
    const error = 1e-5;
    const attend = (
      queries: Float64Array,
      keys: Float64Array,
      values: Float64Array,
    ): { out: Float64Array; peak: number; spread: number } => {
      const out = new Float64Array(tokens * d);
      let [peak, spread] = [0, 0];
      for (let i = 0; i < tokens; i++) {
        const scores = Array.from({ length: tokens }, (_, j) =>
          dot64(queries.subarray(i * d, (i + 1) * d), keys.subarray(j * d, (j + 1) * d)),
        );
        const top = Math.max(...scores);
        const powers = scores.map((score) => Math.exp(score - top));
        const total = powers.reduce((sum, value) => sum + value, 0);
        let squares = 0;
        powers.forEach((power, j) => {
          const p = power / total;
          squares += p * p;
          for (let c = 0; c < d; c++) out[i * d + c] += p * values[j * d + c];
        });
        peak += squares / tokens;
        spread += (squares * (1 - squares)) / tokens;
      }
      return { out, peak, spread };
    };
    const { out, peak, spread } = attend(q, k, v);
    const disturbed = (x: Float64Array, scale: number): Float64Array =>
      x.map((value) => value + scale * next());
    const measured = mean(200, () => {
      const other = attend(disturbed(q, error * sharpness), disturbed(k, error), disturbed(v, error)).out;
      return rms(other.map((value, i) => value - out[i])) ** 2;
    });
    const statistics = (
      x: Float64Array,
      scale: number,
    ): { variance: Float64Array; square: Float64Array; mean: Float64Array } => {
      const over = (value: (x: number) => number): Float64Array =>
        Float64Array.from({ length: d }, (_, c) =>
          mean(
            tokens,
            counter(tokens, (t) => value(x[t * d + c])),
          ),
        );
      return {
        variance: new Float64Array(d).fill((error * scale) ** 2),
        square: over((y) => y * y),
        mean: over((y) => y),
      };
    };
    const variance = new Float64Array(d);
    attentionVariance(
      {
        ...{ tokens, peak, spread, scoreSquares: 0 },
        ...{ q: statistics(q, sharpness), k: statistics(k, 1), v: statistics(v, 1) },
        outSquare: statistics(out, 1).square,
      },
      variance,
      0,
    );
    const ratio =
      Math.sqrt(measured) /
      Math.sqrt(
        mean(
          d,
          counter(d, (c) => variance[c]),
        ),
      );
    expect(ratio).toBeGreaterThan(least);
    expect(ratio).toBeLessThan(most);
  });
});

/** Calls `value` with 0, 1, …, `count` - 1, and from the start again. */
function counter(count: number, value: (i: number) => number): () => number {
  let i = -1;
  return () => value((i = (i + 1) % count));
}

describe('the mean over tokens', () => {
  // One head that copies what it looks at: queries share errors where they share keys.
  it.each([
    ['flat attention', (): number[] => new Array<number>(24).fill(1 / 24), 1],
    [
      'all look at one token',
      (): number[] => Array.from({ length: 24 }, (_, key) => (key === 3 ? 1 : 0)),
      24,
    ],
    [
      'all look at four tokens',
      (): number[] => Array.from({ length: 24 }, (_, key) => (key < 4 ? 0.25 : 0)),
      6,
    ],
  ])('%s', (_, row, together) => {
    const tokens = 24;
    const next = gaussian(17);
    const p = row();
    expect(tokens * p.reduce((sum, value) => sum + value * value, 0)).toBeCloseTo(together, 9);
    // Every token has an error of its own, and gets the average of the values' errors, which is the same for all.
    const measured = mean(4000, () => {
      const own = Array.from({ length: tokens }, next);
      const values = Array.from({ length: tokens }, next);
      const brought = p.reduce((sum, value, key) => sum + value * values[key], 0);
      return (own.reduce((sum, value) => sum + value, 0) / tokens + brought) ** 2;
    });
    expect((measured * tokens) / poolShare(together)).toBeGreaterThan(0.9);
    expect((measured * tokens) / poolShare(together)).toBeLessThan(1.1);
  });
});

describe('the estimate', () => {
  it('does not depend on the scale of the image where LayerNorm takes it away', async () => {
    const model = randomModel({ ...SMALL, absolutePosition: false });
    const input = randomInput(SMALL, 1);
    const { noise } = await runOracle(model, input, 1);
    const louder = await runOracle(
      model,
      input.map((value) => value * 64),
      1,
    );
    expect(louder.noise.hidden[0] / noise.hidden[0]).toBeGreaterThan(20);
    expect(louder.noise.logits[0] / noise.logits[0]).toBeLessThan(2);
  });

  it('sees that float64 pixels must be rounded', async () => {
    const model = randomModel(SMALL);
    const input = randomInput(SMALL, 1);
    const exact = await runOracle(model, input, 1);
    const between = await runOracle(
      model,
      Float64Array.from(input, (value) => value * (1 + 0.7 * UNIT)),
      1,
    );
    expect(between.noise.hidden[0]).toBeGreaterThan(exact.noise.hidden[0]);
  });

  it('is per image', async () => {
    const model = randomModel(SMALL);
    const input = randomInput(SMALL, 2);
    input.fill(0, 0, input.length / 2);
    const { noise } = await runOracle(model, input, 2);
    expect(noise.logits).toHaveLength(2);
    expect(noise.logits[0]).not.toBe(noise.logits[1]);
  });
});
