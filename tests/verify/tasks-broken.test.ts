/** Files of every task that are wrong in one thing each: verification has to see it in what they compute. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadModel } from '../../src/convert/load.js';
import { exportOnnx } from '../../src/export/index.js';
import type { BeitModel } from '../../src/model.js';
import { resolveTask, type Task, type TaskOptions } from '../../src/task.js';
import { bytesOf, memoryTensor, readFloat32, type Tensor } from '../../src/tensor.js';
import { verifyModel } from '../../src/verify/verify.js';
import { goldenPath } from '../convert/goldens.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'convert-beit-broken-'));
});
afterAll(() => rm(folder, { recursive: true }));

type Change = (values: Float32Array) => void;

/** Half of the values of one tensor moved by one place. */
const shifted: Change = (values) => {
  values.copyWithin(1, 0, Math.floor(values.length / 2));
};

async function altered(model: BeitModel, name: string, change: Change): Promise<BeitModel> {
  const tensor = model.tensors.get(name)!;
  const values = await readFloat32(tensor);
  change(values);
  const replaced: Tensor = memoryTensor('F32', tensor.shape, bytesOf(values));
  return { ...model, tensors: new Map(model.tensors).set(name, replaced) };
}

interface Case {
  readonly golden: string;
  readonly file: string;
  readonly hints?: { readonly earlyLayer?: number; readonly heads?: number };
  readonly task?: TaskOptions;
}

const MASKED: Case = { golden: 'mim_v2_cls_pt', file: 'official', hints: { earlyLayer: 2 } };
const SEGMENT: Case = { golden: 'segmentation', file: 'hf', task: { outIndices: [2, 3, 4, 5] } };
const FEATURES: Case = {
  golden: 'mm_out_types',
  file: 'mmpretrain',
  task: { outTypes: ['raw', 'avg_featmap'] },
};

async function verdictOf(
  of: Case,
  /** what is written */
  written: (model: BeitModel, task: Task) => Promise<{ model: BeitModel; task: Task }>,
): Promise<string[]> {
  const model = await loadModel(goldenPath(of.golden, `${of.file}.safetensors`), { hints: of.hints });
  try {
    const task = resolveTask(model.config, of.task);
    const path = join(folder, `${Math.random()}.onnx`);
    const wrong = await written(model, task);
    await exportOnnx(wrong.model, path, { toolVersion: '0.0.0', task: wrong.task });
    const { checks } = await verifyModel(path, model, { task, samples: 2 });
    return checks.filter(({ passed }) => !passed).map(({ name }) => name);
  } finally {
    await model.close();
  }
}

describe('a file of another task than classification', () => {
  it.each([
    ['masked image', MASKED],
    ['segmentation', SEGMENT],
    ['features', FEATURES],
  ])('%s: passes as it is', async (_, of) => {
    expect(await verdictOf(of, async (model, task) => ({ model, task }))).toEqual([]);
  });

  it.each<[string, Case, string]>([
    ['the mask token', MASKED, 'backbone.mask_token'],
    ['the norm before the head', MASKED, 'neck.norm.weight'],
    ['the head', MASKED, 'head.cls_head.weight'],
    ['a block of the second output', MASKED, 'neck.patch_aggregation.1.attn.qkv.weight'],
    ['the pyramid', SEGMENT, 'backbone.fpn1.3.weight'],
    ['what BatchNorm has seen', SEGMENT, 'decode_head.psp_modules.2.1.bn.running_var'],
    ['a lateral convolution', SEGMENT, 'decode_head.lateral_convs.1.conv.weight'],
    ['the fusion', SEGMENT, 'decode_head.fpn_bottleneck.conv.weight'],
    ['the final norm', FEATURES, 'backbone.ln1.weight'],
    ['the pooled norm', FEATURES, 'backbone.ln2.bias'],
    ['a block', FEATURES, 'backbone.layers.1.ffn.layers.1.weight'],
  ])('%s is wrong: its bytes and what is computed tell', async (_, of, name) => {
    const failed = await verdictOf(of, async (model, task) => ({
      model: await altered(model, name, shifted),
      task,
    }));
    expect(failed).toEqual(['provenance', 'outputs']);
  });

  it.each<[string, Case, (model: BeitModel, task: Task) => { model: BeitModel; task: Task }]>([
    [
      'patch tokens taken one block too early',
      MASKED,
      (model, task) => {
        const config = {
          ...model.config,
          clsPretraining: { ...model.config.clsPretraining!, earlyLayer: 1 },
        };
        return { model: { ...model, config }, task };
      },
    ],
    [
      'two levels of the pyramid exchanged',
      SEGMENT,
      (model, task) => ({
        model,
        task:
          task.name === 'segment'
            ? { ...task, taps: [task.taps[0], task.taps[2], task.taps[1], task.taps[3]] }
            : task,
      }),
    ],
    [
      'averages over other cells',
      SEGMENT,
      (model, task) => {
        const segmentation = { ...model.config.segmentation!, poolScales: [1, 3, 2, 6] };
        return { model: { ...model, config: { ...model.config, segmentation } }, task };
      },
    ],
  ])('%s: right bytes, wrong outputs', async (_, of, wrong) => {
    const failed = await verdictOf(of, async (model, task) => wrong(model, task));
    expect(failed).toEqual(['outputs']);
  });

  it('a norm that is left out shows in the graph, in its tensors and in what is computed', async () => {
    const failed = await verdictOf(FEATURES, async (model, task) => ({
      model,
      task:
        task.name === 'features'
          ? { ...task, outputs: task.outputs.map((output) => ({ ...output, finalNorm: false })) }
          : task,
    }));
    expect(failed).toEqual(['structure', 'inventory', 'outputs']);
  });
});
