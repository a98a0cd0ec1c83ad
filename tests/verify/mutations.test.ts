import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { BeitModel } from '../../src/model.js';
import { verifyModel } from '../../src/verify/verify.js';
import { GOLDEN_CASES } from '../convert/goldens.js';
import { editOnnx } from '../support/onnx-edit.js';
import { Exports } from './exported.js';
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
    const report = await verifyModel(path, model);
    expect(report.checks.filter(({ passed }) => !passed)).toEqual([]);
    expect(report.verdict).toBe('passed');
    expect(report.checks.map((check) => check.name)).toEqual([
      'structure',
      'inventory',
      'provenance',
      'logits',
    ]);
    expect(report.inputs).toHaveLength(4);
    expect(report.logits!.top1Agreement).toBe(1);
    // Far from the limit: a limit that sound files come near would be a coin toss on another machine.
    expect(report.logits!.noiseUnits).toBeLessThan(8);
    expect(report.logits!.noiseUnits).toBeGreaterThan(0.1);
  });

  it.each([
    { what: 'external data', options: { externalData: true } },
    { what: 'opset 18', options: { opset: 18 } },
    { what: 'opset 21', options: { opset: 21 } },
  ])('$what', async ({ options }) => {
    const { path, model } = await exports.export('v1_nonsquare', options);
    expect((await verifyModel(path, model)).checks.filter(({ passed }) => !passed)).toEqual([]);
  });
});

const rows = MUTATIONS.flatMap((mutation) => mutation.cases.map((name) => ({ ...mutation, name })));

describe('mistakes', () => {
  it.each(rows)('$what: $name', async ({ name, edit, caughtBy, finding }) => {
    const { path, model } = sound.get(name)!;
    const broken = exports.fresh();
    editOnnx(path, broken, (file) => edit(file, model.config));
    const report = await verifyModel(broken, model, { samples: 2 });
    const failed = report.checks.filter(({ passed }) => !passed);
    expect(failed.map((check) => check.name)).toEqual(caughtBy);
    expect(failed.flatMap(({ findings }) => findings).join('\n')).toContain(finding);
    expect(report.verdict).toBe('failed');
  });
});
