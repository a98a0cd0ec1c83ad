/** Which layer, which step, which mistake: our own exports, every mistake of the mutation tables. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { BeitModel } from '../../src/model.js';
import { STEP_UNITS_ALLOWED } from '../../src/verify/layers/step.js';
import { verifyModel } from '../../src/verify/verify.js';
import { GOLDEN_CASES } from '../convert/goldens.js';
import { editOnnx } from '../support/onnx-edit.js';
import { Exports } from './exported.js';
import { layersOf } from './layers-of.js';
import { MUTATIONS } from './mutations.js';

const exports = new Exports();
const sound = new Map<string, { path: string; model: BeitModel }>();

beforeAll(async () => {
  for (const name of GOLDEN_CASES) sound.set(name, await exports.export(name));
});
afterAll(() => exports.close());

describe('no false alarm', () => {
  it.each(GOLDEN_CASES)('%s', async (name) => {
    const { path, model } = sound.get(name)!;
    const { check, report } = await layersOf(path, model, { wrong: false });
    expect(check.passed).toBe(true);
    const { matched, points, divergence, suspects } = report;
    expect({ matched, divergence, suspects }).toEqual({ matched: true, divergence: undefined, suspects: [] });
    // The last block of a mean-pooled export shows no tokens: its place is taken by the features.
    const blocks = model.config.depth - 1;
    const names = Array.from({ length: blocks }, (_, i) => `block ${i}`);
    const shown = points.map((point) => point.name);
    expect(shown).toEqual(expect.arrayContaining(['embedding', ...names, 'features', 'logits']));
    for (const { units } of points) {
      expect(units).toBeLessThan(3);
      expect(units).toBeGreaterThan(0.2);
    }
  });

  it('also where every step is looked at', async () => {
    const { path, model } = sound.get('v2_cls')!;
    const { check } = await layersOf(path, model, { wrong: true });
    // An image alone is right, too: what is wrong must be that others are there.
    expect(check.detail).toContain('the images of a batch influence each other');
  });

  it('with the weights in a file of their own', async () => {
    const { path, model } = await exports.export('v1_nonsquare', { externalData: true });
    const report = await verifyModel(path, model, { layers: true });
    expect(report.checks.filter(({ passed }) => !passed)).toEqual([]);
    expect(report.layers!.matched).toBe(true);
  });
});

/** By `what` of the tables: layer (none: the ends), step, and what the first suspect says. */
const EXPECTED: Readonly<
  Record<string, readonly [layer: number | undefined, step: string, mistake: string] | null>
> = {
  'one position table is zero': [0, 'attention scores', 'table has other values in'],
  'the shared position table is zero': [0, 'attention scores', 'all zero in the file'],
  'pos_embed is zero': [undefined, 'embedding', 'backbone.pos_embed has other values'],
  'the position tables of two layers are swapped': [
    0,
    'attention scores',
    'holds backbone.layers.1.attn.relative',
  ],
  'rows of q and k are swapped': [1, 'attention scores', 'its rows are k | q | v in the file'],
  'proj is transposed': [1, 'projection', 'transposed in the file'],
  'gamma_1 and gamma_2 are swapped': [1, 'first residual', 'holds backbone.layers.1.gamma_2'],
  'q_bias and v_bias are swapped': [1, 'attention scores', 'holds backbone.layers.1.attn.v_bias'],
  // Below the noise: the file's own bytes tell.
  'one element differs by 1 ulp': [1, 'MLP activation', 'than in the source: 1 of 4,096 differ'],
  'q and k change places after the split': [1, 'attention scores', 'q and k are swapped'],
  "v's bias is put on k": [1, 'attention scores', "v's bias is put on k"],
  'tanh GELU': [0, 'MLP activation', 'GELU is the tanh approximation'],
  'epsilon 1e-12': [0, 'LN1', 'epsilon is 1e-12 instead of 0.000001'],
  'epsilon 1e-12 where activations are small': [0, 'LN1', 'epsilon is 1e-12 instead of 0.000001'],
  'epsilon 1e-5, as torch.nn.LayerNorm has by itself': [0, 'LN1', 'epsilon is 0.00001 instead of 0.000001'],
  'the window is transposed': [0, 'attention scores', 'has its window transposed'],
  'the index is read along its columns': [0, 'attention scores', 'the position index is transposed'],
  'the index is off by one': [0, 'attention scores', 'the position index is off by one (one row too far)'],
  'proj is used the other way round': [1, 'projection', 'attn.proj.weight is transposed'],
  'the mean includes the class token': [undefined, 'pooling', 'the mean includes the class token'],
  'gamma_1 and gamma_2 are used in each other’s place': [
    1,
    'first residual',
    'gamma_2 is used in the place of gamma_1',
  ],
  'LayerScale is left out, its tensor stays': [1, 'first residual', 'LayerScale is missing'],
  'LayerScale is left out with its tensor': [1, 'first residual', 'LayerScale is missing'],
  'scores are not scaled': [1, 'attention scores', 'scores are not scaled by 1/sqrt(d)'],
  'softmax over the queries': [0, 'attention probabilities', 'the softmax runs over the queries'],
  'one Softmax is gone': [0, 'attention output', 'there is no softmax'],
  'the bias of proj is left out': [1, 'projection', 'the bias of attn.proj is missing'],
  // Nothing uses it.
  'a tensor that the source has not': null,
  'images of a batch are mixed': [undefined, 'logits', 'the images of a batch influence each other'],
};

describe('mistakes', () => {
  it('every row of the tables has an expectation here', () => {
    expect(MUTATIONS.map(({ what }) => what).filter((what) => !(what in EXPECTED))).toEqual([]);
  });

  // Two models for each mistake: the others differ in what the mistake does not touch.
  const rows = MUTATIONS.flatMap((mutation) =>
    mutation.cases.slice(0, 2).map((name) => ({ ...mutation, name })),
  );
  it.each(rows)('$what: $name', async ({ what, name, edit, caughtBy }) => {
    const { path, model } = sound.get(name)!;
    const broken = exports.fresh();
    editOnnx(path, broken, (file) => edit(file, model.config));
    const { check, report } = await layersOf(broken, model, {
      wrong: caughtBy.includes('logits'),
      altered: caughtBy.includes('provenance'),
    });
    const { divergence, suspects, steps } = report;
    const expected = EXPECTED[what];
    if (!expected) {
      expect({ divergence, passed: check.passed }).toEqual({ divergence: undefined, passed: true });
      return;
    }
    const [layer, step, mistake] = expected;
    expect({ layer: divergence?.layer, step: divergence?.step }).toEqual({ layer, step });
    expect(suspects[0].mistake).toContain(mistake);
    expect(check.passed).toBe(false);
    expect(check.detail).toContain(layer === undefined ? step : `layer ${layer}, ${step}`);
    // Whatever comes before the mistake is right.
    for (const before of steps.slice(0, -1)) expect(before.units).toBeLessThan(STEP_UNITS_ALLOWED / 3);
  });

  it('what is in the file and touches nothing is named, too', async () => {
    const { path, model } = sound.get('v1_cls')!;
    const broken = exports.fresh();
    editOnnx(path, broken, (file) => void file.addFloats('extra', [100], new Float32Array(100)));
    const { checks, layers } = await verifyModel(broken, model, { samples: 1, layers: true });
    expect(layers!.divergence).toBeUndefined();
    expect(checks.at(-1)).toMatchObject({ name: 'layers', passed: true });
    expect(checks.at(-1)!.detail).toMatch(/no step is touched by this: extra f32\[100\] is no tensor/);
  });
});
