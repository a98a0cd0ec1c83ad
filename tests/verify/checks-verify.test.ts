import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { BeitConfig } from '../../src/beit.js';
import { InputError, InterruptedError, ShapeError, UsageError } from '../../src/errors.js';
import type { BeitModel } from '../../src/model.js';
import type { ProgressEvent } from '../../src/progress.js';
import { bytesOf, type StateDict, type Tensor } from '../../src/tensor.js';
import { checkProvenance } from '../../src/verify/checks/provenance.js';
import { sampleInput } from '../../src/verify/inputs.js';
import { openOnnxFile } from '../../src/verify/onnx-file.js';
import { verifyModel } from '../../src/verify/verify.js';
import { editOnnx, type OnnxEditor } from '../support/onnx-edit.js';
import { Exports } from './exported.js';

const exports = new Exports();
const folder = mkdtempSync(join(tmpdir(), 'convert-beit-checks-'));
let path: string;
let model: BeitModel;
let config: BeitConfig;

beforeAll(async () => {
  ({ path, model } = await exports.export('v1_cls'));
  config = model.config;
});
afterAll(async () => {
  await exports.close();
  rmSync(folder, { recursive: true });
});

let count = 0;
function edited(edit: (file: OnnxEditor) => void): string {
  count += 1;
  const to = join(folder, `${count}.onnx`);
  editOnnx(path, to, edit);
  return to;
}

describe('verifyModel', () => {
  it('reports an unreadable file, and nothing after it as passed', async () => {
    const bad = join(folder, 'bad.onnx');
    writeFileSync(bad, '<!DOCTYPE html>');
    const report = await verifyModel(bad, model);
    expect(report.verdict).toBe('failed');
    expect(report.checks.map(({ name, passed, notRun }) => [name, passed, notRun ?? false])).toEqual([
      ['structure', false, false],
      ['inventory', false, true],
      ['provenance', false, true],
      ['logits', false, true],
    ]);
    expect(report.checks[0].findings[0]).toContain('bad.onnx is not a valid ONNX file');
  });

  it('does not run a graph whose input is another', async () => {
    const report = await verifyModel(
      edited((file) => (file.model.graph!.input![0].name = 'x')),
      model,
    );
    expect(report.checks[3]).toMatchObject({ name: 'logits', passed: false, notRun: true });
    expect(report.checks[2]).toMatchObject({ name: 'provenance', passed: true });
    expect(report.logits).toBeUndefined();
  });

  it('fails the logits when the runtime refuses the file', async () => {
    const report = await verifyModel(
      edited((file) => (file.ofType('Softmax')[0].opType = 'Softmux')),
      model,
    );
    expect(report.checks[3].detail).toContain('ONNX Runtime does not load');
    expect(report.verdict).toBe('failed');
  });

  it('takes pictures instead of generated inputs, and names what it sees', async () => {
    const labels = Array.from({ length: 10 }, (_, i) => `label ${i}`);
    const pixels = sampleInput(config, 5, 0);
    const report = await verifyModel(path, { ...model, labels }, { images: [{ name: 'cat.png', pixels }] });
    expect(report.verdict).toBe('passed');
    expect(report.inputs).toHaveLength(1);
    expect(report.inputs[0].name).toBe('cat.png');
    const [first] = report.inputs[0].written;
    expect(first.label).toBe(`label ${first.class}`);
    expect(first.probability).toBeGreaterThan(report.inputs[0].written[1].probability);
  });

  it('checks more inputs than a batch holds, reporting every step', async () => {
    const events: ProgressEvent[] = [];
    const report = await verifyModel(path, model, {
      samples: 9,
      seed: 3,
      onProgress: (event) => events.push(event),
    });
    expect(report.inputs.map(({ name }) => name)).toEqual(
      Array.from({ length: 9 }, (_, i) => `seed 3 #${i}`),
    );
    expect(report.verdict).toBe('passed');
    for (const phase of ['oracle', 'runtime', 'compare']) {
      const last = events.filter((event) => event.phase === phase).at(-1)!;
      expect([phase, last.done]).toEqual([phase, last.total]);
    }
  });

  it.each<[string, Parameters<typeof verifyModel>[2], unknown]>([
    ['no samples', { samples: 0 }, UsageError],
    ['half a sample', { samples: 1.5 }, UsageError],
    ['negative seed', { seed: -1 }, UsageError],
    ['a picture of another size', { images: [{ name: 'a', pixels: new Float32Array(3) }] }, ShapeError],
  ])('%s', async (_, options, type) => {
    await expect(verifyModel(path, model, options)).rejects.toBeInstanceOf(type);
  });

  it('no such file', async () => {
    await expect(verifyModel(join(folder, 'absent.onnx'), model)).rejects.toBeInstanceOf(InputError);
  });

  it('stops when told to', async () => {
    const reason = new InterruptedError('interrupted');
    const controller = new AbortController();
    const run = verifyModel(path, model, {
      signal: controller.signal,
      onProgress: ({ phase }) => phase === 'oracle' && controller.abort(reason),
    });
    await expect(run).rejects.toBe(reason);
  });

  it.each([
    ['too little', 64],
    ['too much', 330],
  ])('says when the source delivers %s', async (_, elements) => {
    const lying: Tensor = {
      dtype: 'F32',
      shape: [10, 32],
      async *chunks() {
        yield bytesOf(new Float32Array(elements));
      },
    };
    const tensors: StateDict = new Map([...model.tensors, ['head.fc.weight', lying]]);
    const file = await openOnnxFile(path);
    const check = checkProvenance(file, { ...model, tensors }, { label: 'x' });
    await expect(check).rejects.toThrow(
      `a tensor f32[10, 32] of the source delivers ${4 * elements} bytes, not 1280`,
    );
    await file.close();
    await expect(verifyModel(path, { ...model, tensors })).rejects.toBeInstanceOf(InputError);
  });
});
