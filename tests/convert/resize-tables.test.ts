/** The arithmetic alone, against upstream's own on bare tables, positions and kernels. */
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { resample } from '../../src/convert/resize/axis.js';
import { geometricPositions } from '../../src/convert/resize/geometric.js';
import { kernelAxis, resizeKernels } from '../../src/convert/resize/kernel.js';
import { METHODS } from '../../src/convert/resize/methods.js';
import { resizeGrid } from '../../src/convert/resize/model.js';
import { notAKnotSpline } from '../../src/convert/resize/spline.js';
import { bicubicAntialiased } from '../../src/convert/resize/uniform.js';
import { RESIZE_METHODS, type ResizeMethod } from '../../src/resizing.js';
import { difference, largest } from '../verify/oracle-model.js';
import { resizeGolden, type GoldenArray } from './resize-cases.js';

let tables: ReadonlyMap<string, GoldenArray>;
let patch: ReadonlyMap<string, GoldenArray>;
beforeAll(async () => {
  [tables, patch] = await Promise.all([resizeGolden('tables'), resizeGolden('patch')]);
});

type Window = readonly [number, number];
const offsets = ([height, width]: Window): Window => [2 * height - 1, 2 * width - 1];

/** The grid part of a table of one head; the last three rows are the model's matter. */
function resized(name: string, from: Window, to: Window, method: ResizeMethod): Float64Array {
  const source = tables.get(`${name}.source`) ?? tables.get('14to24.source')!;
  const grid = source.values.subarray(0, -3);
  return resizeGrid(grid, offsets(from), offsets(to), 1, METHODS[method].table!);
}

const PAIRS: readonly (readonly [string, Window, Window])[] = [
  ...[
    [14, 24],
    [14, 32],
    [14, 12],
    [14, 16],
    [8, 12],
    [8, 5],
    [7, 14],
    [3, 9],
  ].map(([a, b]) => [`${a}to${b}`, [a, a], [b, b]] as const),
  ['14to20x12', [14, 14], [20, 12]],
];
const SQUARE = PAIRS.filter(([, , to]) => to[0] === to[1]);

describe('relative position tables', () => {
  it.each(SQUARE)('%s: the old offsets lie where unilm puts them', (name, from, to) => {
    const upstream = tables.get(`${name}.positions`)!.values;
    const own = geometricPositions(offsets(from)[0], offsets(to)[0]);
    expect(largest(difference(own, upstream))).toBeLessThan(1e-12);
  });

  it.each(SQUARE)('%s: unilm in float64, before it is rounded', (name, from, to) => {
    const upstream = tables.get(`${name}.unilm_f64`)!.values.subarray(0, -3);
    expect(largest(difference(resized(name, from, to, 'unilm'), upstream))).toBeLessThan(1e-10);
  });

  it.each(
    PAIRS.flatMap(([name, from, to]) =>
      (
        [
          ['timm', 'timm'],
          ['timm-simple', 'timm_simple'],
          ['transformers', 'hf'],
        ] as const
      ).map(([method, golden]) => [name, method, golden, from, to] as const),
    ),
  )('%s: %s', (name, method, golden, from, to) => {
    const upstream = tables.get(`${name}.${golden}`)!.values.subarray(0, -3);
    expect(largest(difference(resized(name, from, to, method), upstream))).toBeLessThan(1e-6);
  });

  it('resizes 24 layers of 16 heads from 14 to 24 in milliseconds', () => {
    const grid = Float64Array.from({ length: 27 * 27 * 16 }, (_, i) => Math.sin(i));
    const started = performance.now();
    for (let layer = 0; layer < 24; layer++) resizeGrid(grid, [27, 27], [47, 47], 16, METHODS.unilm.table!);
    expect(performance.now() - started).toBeLessThan(1000);
  });
});

describe('patch kernels', () => {
  it.each([
    [16, 14],
    [16, 17],
    [16, 8],
    [16, 24],
    [16, 1],
    [14, 16],
    [14, 9],
  ])('%i to %i pixels is timm’s', (from, to) => {
    const upstream = patch.get(`${from}to${to}.kernel`)!.values;
    const own = Float64Array.from(
      [...resizeKernels(patch.get(`${from}.kernel`)!.values, from, to)].flatMap((part) => [...part]),
    );
    // timm computes the resize matrix, its pseudo-inverse and the product in float32.
    expect(largest(difference(own, upstream)) / largest(upstream)).toBeLessThan(1e-5);
  });

  it('answers to a resized patch as the old kernel did to the patch, where the patch grows', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 0, max: 20 }), (from, more) => {
        const to = from + more;
        const grow = bicubicAntialiased(from, to);
        const patch = Float64Array.from({ length: from * from }, (_, i) => Math.cos(3 * i));
        const kernel = Float64Array.from({ length: from * from }, (_, i) => Math.sin(7 * i));
        const [grown] = resizeKernels(kernel, from, to);
        const before = patch.reduce((sum, value, i) => sum + value * kernel[i], 0);
        const after = resample(patch, 1, grow, grow).reduce((sum, value, i) => sum + value * grown[i], 0);
        expect(Math.abs(after - before)).toBeLessThan(1e-10);
      }),
    );
  });

  it.each([1, 4, 16])('%i to the same size is the identity', (side) => {
    const { weights } = kernelAxis(side, side);
    const identity = weights.map((_, i) => (Math.floor(i / side) === i % side ? 1 : 0));
    expect(largest(difference(weights, identity))).toBeLessThan(1e-14);
  });
});

describe('every method', () => {
  const windows = fc.tuple(fc.integer({ min: 3, max: 20 }), fc.integer({ min: 1, max: 30 }));
  const rules = RESIZE_METHODS.flatMap((name) => {
    const { table, position } = METHODS[name];
    return [
      ...(table ? [[`${name}, tables`, table, true] as const] : []),
      [`${name}, positions`, position, false] as const,
    ];
  });

  // PyTorch's cubic weights are float32: their sum is 1 to 3e-7.
  it.each(rules)('%s: constant stays constant', (_, rule, isTable) => {
    fc.assert(
      fc.property(windows, fc.double({ min: -5, max: 5, noNaN: true }), ([from, to], value) => {
        const side = (window: number): number => (isTable ? 2 * window - 1 : window);
        const { weights } = rule(side(from), side(to));
        for (let row = 0; row < side(to); row++) {
          const all = weights.subarray(row * side(from), (row + 1) * side(from));
          expect(Math.abs(all.reduce((sum, weight) => sum + weight * value, 0) - value)).toBeLessThan(1e-5);
        }
      }),
    );
  });

  // BEiT v2's forward pass is lopsided upstream; PyTorch's float32 positions are so by their rounding.
  const even = rules.filter(([name]) => name !== 'beit2, positions');
  it.each(even)('%s: a mirrored grid gives the mirrored result', (_, rule, isTable) => {
    fc.assert(
      fc.property(windows, ([from, to]) => {
        const side = (window: number): number => (isTable ? 2 * window - 1 : window);
        const { weights } = rule(side(from), side(to));
        expect(largest(difference(weights, weights.slice().reverse()))).toBeLessThan(1e-5);
      }),
    );
  });
});

describe('the spline', () => {
  const spacing = fc.array(fc.double({ min: 0.1, max: 3, noNaN: true }), { minLength: 3, maxLength: 30 });
  const abscissae = (steps: readonly number[]): Float64Array => {
    const x = new Float64Array(steps.length + 1);
    steps.forEach((step, i) => (x[i + 1] = x[i] + step));
    return x;
  };

  it('goes through its points', () => {
    fc.assert(
      fc.property(spacing, (steps) => {
        const x = abscissae(steps);
        const { weights } = notAKnotSpline(x, x);
        const identity = weights.map((_, i) => (Math.floor(i / x.length) === i % x.length ? 1 : 0));
        expect(largest(difference(weights, identity))).toBeLessThan(1e-9);
      }),
    );
  });

  it('is exact for every cubic, and holds the end values outside', () => {
    fc.assert(
      fc.property(spacing, (steps) => {
        const x = abscissae(steps);
        const end = x[x.length - 1];
        const cubic = (at: number): number => ((at / end - 0.3) * at) / end - 2 * (at / end) ** 3 + 1;
        const targets = Float64Array.from({ length: 41 }, (_, i) => ((i - 4) / 32) * end);
        const { weights } = notAKnotSpline(x, targets);
        targets.forEach((target, row) => {
          const own = x.reduce((sum, at, i) => sum + weights[row * x.length + i] * cubic(at), 0);
          expect(Math.abs(own - cubic(Math.min(Math.max(target, 0), end)))).toBeLessThan(1e-9);
        });
      }),
    );
  });
});
