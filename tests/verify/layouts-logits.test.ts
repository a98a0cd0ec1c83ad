/**
 * The same weights in every layout compute what upstream computed: in the float64 oracle, and in ONNX Runtime from the
 * file that was written. (`tests/convert/layouts.test.ts` proves that the files made here are upstream's, bit for bit.)
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { inventory, type BeitConfig } from '../../src/beit.js';
import { applyLayout, invertLayout } from '../../src/convert/layout.js';
import { LAYOUTS } from '../../src/convert/layouts/index.js';
import { loadModel } from '../../src/convert/load.js';
import { openCheckpoint } from '../../src/convert/open.js';
import { spreadSharedTable } from '../../src/convert/shared-table.js';
import { exportOnnx } from '../../src/export/index.js';
import type { BeitModel } from '../../src/model.js';
import {
  bytesOf,
  memoryTensor,
  readFloat32,
  readFloat64,
  type StateDict,
  type Tensor,
} from '../../src/tensor.js';
import { runOracle } from '../../src/verify/oracle.js';
import { GOLDEN_HINTS, goldenPath } from '../convert/goldens.js';
import { writeSafetensors } from '../convert/manifest.js';
import { difference, largest } from './oracle-model.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'convert-beit-layout-logits-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

async function golden(name: string, file = 'io'): Promise<{ tensors: StateDict; close(): Promise<void> }> {
  const { tensors, close } = await openCheckpoint(goldenPath(name, `${file}.safetensors`));
  return { tensors, close: () => close() };
}

async function runOnnx(model: BeitModel, input: Tensor, name: string): Promise<Float64Array> {
  const path = join(folder, `${name}.onnx`);
  await exportOnnx(model, path, { toolVersion: '0.0.0-test' });
  const session = await ort.InferenceSession.create(path);
  const { logits } = await session.run({
    pixel_values: new ort.Tensor('float32', await readFloat32(input), [...input.shape]),
  });
  await session.release();
  return Float64Array.from(logits.data as Float32Array);
}

describe('logits of classifiers in every layout', () => {
  const CASES = ['v1_cls', 'v1_abs_pos', 'v1_cls_pool', 'v1_shared_rel'].flatMap((name) =>
    LAYOUTS.filter((layout) => layout.name !== 'official').map((layout) => [name, layout] as const),
  );

  it.each(CASES)('%s in $name', async (name, layout) => {
    const source = await openCheckpoint(goldenPath(name, 'official.safetensors'));
    const path = join(folder, `${name}-${layout.name}.safetensors`);
    await writeSafetensors(path, invertLayout(layout, applyLayout(LAYOUTS[0], source.tensors).tensors));
    await source.close();
    const io = await golden(name);
    const model = await loadModel(path, { hints: GOLDEN_HINTS.get(name), layout: layout.name });
    const input = io.tensors.get('input')!;
    const { logits } = await runOracle(model, await readFloat64(input), input.shape[0]);
    expect(largest(difference(logits, await readFloat64(io.tensors.get('logits_f64')!)))).toBeLessThan(1e-10);
    const onnx = await runOnnx(model, input, `${name}-${layout.name}`);
    expect(largest(difference(onnx, await readFloat64(io.tensors.get('logits')!)))).toBeLessThan(1e-5);
    await Promise.all([model.close(), io.close()]);
  });

  it.each(['v1_cls', 'v1_eps'])('%s with transformers’ eps of 1e-12', async (name) => {
    const hints = { ...GOLDEN_HINTS.get(name), layerNormEps: 1e-12 };
    const model = await loadModel(goldenPath(name, 'official.safetensors'), { hints });
    const [io, theirs] = await Promise.all([golden(name), golden(name, 'io_hf_eps1e-12')]);
    const input = io.tensors.get('input')!;
    const expected = await readFloat64(theirs.tensors.get('logits')!);
    const { logits } = await runOracle(model, await readFloat64(input), input.shape[0]);
    expect(largest(difference(logits, expected))).toBeLessThan(1e-5);
    expect(largest(difference(await runOnnx(model, input, `${name}-eps`), expected))).toBeLessThan(1e-5);
    await Promise.all([model.close(), io.close(), theirs.close()]);
  });
});

/** A classifier whose logits are the backbone's pooled features: the head is the unit matrix. */
function withUnitHead(model: BeitModel): BeitModel {
  const { hiddenSize: E } = model.config;
  const config: BeitConfig = { ...model.config, kind: 'classification', classes: E };
  const unit = Float32Array.from({ length: E * E }, (_, i) => (i % (E + 1) === 0 ? 1 : 0));
  const tensors = new Map(model.tensors);
  tensors.set('head.fc.weight', memoryTensor('F32', [E, E], bytesOf(unit)));
  tensors.set('head.fc.bias', memoryTensor('F32', [E], bytesOf(new Float32Array(E))));
  expect([...tensors.keys()].sort()).toEqual([...inventory(config).keys()].sort());
  return { ...model, config, tensors };
}

describe('what only mmpretrain has', () => {
  it.each([
    ['one bias of q, k and v', 'mm_bias_true', 'avg_featmap.0', { qkvBias: true }],
    [
      'a norm of all tokens and one of their mean',
      'mm_out_types',
      'avg_featmap.final_norm.1',
      { tokenNorm: true },
    ],
  ])('%s', async (_, name, output, traits) => {
    const backbone = await loadModel(goldenPath(name, 'mmpretrain.safetensors'));
    const io = await golden(name);
    const model = withUnitHead(backbone);
    expect(model.config).toMatchObject({ ...traits, pooledNorm: true });
    const input = io.tensors.get('input')!;
    const expected = await readFloat64(io.tensors.get(output)!);
    const oracle = await runOracle(model, await readFloat64(input), input.shape[0]);
    expect(largest(difference(oracle.logits, expected))).toBeLessThan(1e-5);
    const onnx = await runOnnx(model, input, name);
    expect(largest(difference(onnx, expected))).toBeLessThan(1e-5);
    expect(largest(difference(onnx, oracle.logits))).toBeLessThan(10 * Math.max(...oracle.noise.logits));
    await Promise.all([backbone.close(), io.close()]);
  });
});

describe('from pre-training to fine-tuning', () => {
  it('the shared table in every block, and a new head: what unilm’s script builds (pt_expand)', async () => {
    const trained = await loadModel(goldenPath('mim_v1', 'official.safetensors'));
    expect(trained.config).toMatchObject({ kind: 'pre-training', sharedRelativePosition: true });
    const head = await openCheckpoint(goldenPath('pt_expand', 'new_head.safetensors'));
    const fresh = applyLayout(LAYOUTS[0], head.tensors).tensors;
    const spread = spreadSharedTable(trained);
    const config: BeitConfig = {
      ...spread.config,
      kind: 'classification',
      classes: 10,
      vocabulary: 0,
      maskToken: false,
      tokenNorm: false,
      pooledNorm: true,
      pooling: 'mean',
    };
    const tensors = new Map<string, Tensor>();
    for (const name of inventory(config).keys())
      tensors.set(name, (fresh.get(name) ?? spread.tensors.get(name))!);
    const io = await golden('pt_expand');
    const input = io.tensors.get('input')!;
    const { logits, features } = await runOracle(
      { config, tensors },
      await readFloat64(input),
      input.shape[0],
    );
    expect(largest(difference(logits, await readFloat64(io.tensors.get('logits_f64')!)))).toBeLessThan(1e-10);
    expect(largest(difference(features, await readFloat64(io.tensors.get('features')!)))).toBeLessThan(1e-5);
    await Promise.all([trained.close(), head.close(), io.close()]);
  });
});
