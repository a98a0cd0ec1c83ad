/** Which layer, which step, which mistake, in graphs that are no classifiers and in lower precisions. */
import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { convert, verify } from '../../src/index.js';
import { loadModel } from '../../src/convert/load.js';
import { exportFiles } from '../../src/export/index.js';
import type { ConfigHints } from '../../src/infer-config.js';
import type { BeitModel } from '../../src/model.js';
import type { PrecisionName } from '../../src/precision.js';
import { resolveTask, type Task, type TaskOptions } from '../../src/task.js';
import { bytesOf, memoryTensor, readFloat32 } from '../../src/tensor.js';
import { verifyModel } from '../../src/verify/verify.js';
import { goldenPath } from '../convert/goldens.js';
import { editOnnx, only, type Node, type OnnxEditor } from '../support/onnx-edit.js';
import { Exports } from './exported.js';
import { layersOf } from './layers-of.js';

interface Case {
  readonly golden: string;
  readonly file: string;
  readonly hints?: ConfigHints;
  readonly task?: TaskOptions;
}

const CASES = {
  masked: { golden: 'mim_v1_abs', file: 'official', hints: { heads: 4 } },
  'masked, two outputs': { golden: 'mim_v2_cls_pt', file: 'official', hints: { earlyLayer: 2 } },
  'masked, two heads': { golden: 'mim_v2_cls_pt_sep', file: 'official', hints: { earlyLayer: 2 } },
  segment: { golden: 'segmentation', file: 'hf', task: { outIndices: [2, 3, 4, 5] } },
  'segment, upsampled': {
    golden: 'segmentation',
    file: 'hf',
    task: { outIndices: [2, 3, 4, 5], upsample: true },
  },
  features: { golden: 'v1_cls', file: 'official', task: { task: 'features' } },
  'features, class token': {
    golden: 'v1_cls_pool',
    file: 'official',
    task: { task: 'features', outTypes: ['raw', 'cls_token', 'featmap'], outIndices: [0, -1] },
  },
  'features, both norms': {
    golden: 'mm_out_types',
    file: 'mmpretrain',
    task: { outTypes: ['raw', 'avg_featmap'] },
  },
  'head dropped': { golden: 'v1_cls', file: 'official', task: { dropHead: true } },
  'head dropped, class token': { golden: 'v1_cls_pool', file: 'official', task: { dropHead: true } },
  'one bias of q, k and v': { golden: 'mm_bias_true', file: 'mmpretrain' },
  'padded image': { golden: 'mm_corner_pad', file: 'mmpretrain', hints: { imageSize: [30, 31] } },
  'no class token': { golden: 'mm_no_cls_token', file: 'mmpretrain', hints: { heads: 4 } },
} satisfies Record<string, Case>;
type CaseName = keyof typeof CASES;
const NAMES = Object.keys(CASES) as CaseName[];

const exports = new Exports();
interface Sound {
  readonly model: BeitModel;
  readonly task: Task;
  readonly path: string;
}
const sound = new Map<string, Sound>();

async function make(
  name: CaseName,
  precision: PrecisionName = 'fp32',
  wrong: (model: BeitModel, task: Task) => { model: BeitModel; task: Task } = (model, task) => ({
    model,
    task,
  }),
): Promise<Sound> {
  const { golden, file, hints, task: options }: Case = CASES[name];
  const model = await loadModel(goldenPath(golden, `${file}.safetensors`), { hints });
  const task = resolveTask(model.config, options);
  const path = exports.fresh();
  const written = wrong(model, task);
  await exportFiles(written.model, [{ path, precision }], { toolVersion: '0.0.0', task: written.task });
  return { model, task, path };
}

beforeAll(async () => {
  for (const name of NAMES) sound.set(name, await make(name));
});
afterAll(async () => {
  for (const { model } of sound.values()) await model.close();
  await exports.close();
});

describe('no false alarm', () => {
  // Not from the outputs alone: every step of every place is recomputed.
  it.each(NAMES)('%s', async (name) => {
    const { path, model, task } = sound.get(name)!;
    const { report } = await layersOf(path, model, { task, wrong: true });
    expect({ matched: report.matched, divergence: report.divergence }).toEqual({ matched: true });
    const shown = report.points.map((point) => point.name);
    expect(shown).toContain('embedding');
    expect(shown.length).toBeGreaterThan(3);
    for (const { units, name: point } of report.points) {
      expect(units, point).toBeLessThan(2);
      expect(units, point).toBeGreaterThan(0.15);
    }
  });

  it('the check says how many blocks and which outputs', async () => {
    const { path, model, task } = sound.get('masked, two outputs')!;
    const { verdict, checks, layers } = await verifyModel(path, model, { task, samples: 1, layers: true });
    expect(verdict).toBe('passed');
    expect(checks.at(-1)!.detail).toMatch(/^5 blocks, each as the oracle computes it: at most \d\.\d times/);
    expect(layers!.points.map(({ name }) => name).slice(-2)).toEqual(['logits', 'logits_cls_pt']);
  });
});

const named = (file: OnnxEditor, type: string, part: string): Node =>
  only(
    file.ofType(type).filter(({ name }) => name!.includes(part)),
    `${type} ${part}`,
  );
const attribute = (node: Node, name: string) =>
  only(
    node.attribute!.filter((each) => each.name === name),
    name,
  );
const gemmOf = (file: OnnxEditor, weight: string): Node => file.consumer(weight);

interface Row {
  readonly what: string;
  readonly on: CaseName;
  readonly edit: (file: OnnxEditor) => void;
  readonly layer?: number;
  readonly step: string;
  readonly mistake: string;
}

const MISTAKES: readonly Row[] = [
  {
    what: 'the mask is not used',
    on: 'masked',
    edit: (file) => {
      const [where] = file.ofType('Where');
      file.bypass(where, where.input![2]);
    },
    step: 'embedding',
    mistake: 'the mask is not used',
  },
  {
    what: 'what is seen is hidden',
    on: 'masked, two outputs',
    edit: (file) => {
      const [where] = file.ofType('Where');
      const [mask, token, seen] = where.input!;
      where.input = [mask, seen, token];
    },
    step: 'embedding',
    mistake: 'the mask is the wrong way round',
  },
  {
    what: 'the mask token covers the positions',
    on: 'masked',
    edit: (file) => {
      // Where(mask, token, patches), Concat(class token, …), Add(positions): the token minus the positions would do it.
      const [where] = file.ofType('Where');
      const positions = file.floats('backbone.pos_embed');
      const width = file.floats('backbone.mask_token').length;
      const patches = positions.length / width - 1;
      file.addFloats(
        'minus',
        [1, patches, width],
        positions.slice(width).map((value) => -value),
      );
      file.insertBefore(where, { opType: 'Add', input: [where.input![1], 'minus'], output: ['token'] });
      where.input![1] = 'token';
    },
    step: 'embedding',
    mistake: 'hidden patches have lost their positions',
  },
  {
    what: 'the last patch is left out instead of the class token',
    on: 'masked',
    edit: (file) => {
      const slice = named(file, 'Slice', 'lm_head');
      const [tokens] = file.int64(slice.input![2])!;
      slice.input![1] = file.addInt64('from', [0]);
      slice.input![2] = file.addInt64('to', [tokens - 1]);
    },
    step: 'tokens of the last norm',
    mistake: 'the last token is left out instead of the class token',
  },
  {
    what: 'the head over the words has no bias',
    on: 'masked',
    edit: (file) => void gemmOf(file, 'head.cls_head.weight').input!.pop(),
    step: 'logits',
    mistake: 'the bias of the head is missing',
  },
  {
    what: 'one head for both outputs',
    on: 'masked, two heads',
    edit: (file) => {
      gemmOf(file, 'head.cls_pt_head.weight').input!.splice(
        1,
        2,
        'head.cls_head.weight',
        'head.cls_head.bias',
      );
    },
    step: 'second output, logits',
    mistake: 'the logits are those of head.cls_head',
  },
  {
    what: 'proj of a block of the second output the other way round',
    on: 'masked, two outputs',
    edit: (file) => {
      attribute(gemmOf(file, 'neck.patch_aggregation.1.attn.proj.weight'), 'transB').i = 0;
    },
    step: 'second output, block 1, projection',
    mistake: 'attn.proj.weight is transposed',
  },
  {
    what: 'q and k exchanged',
    on: 'segment',
    edit: (file) => {
      const split = file.consumer(gemmOf(file, 'backbone.layers.3.attn.qkv.weight').output![0]);
      const [q, k, v] = split.output!;
      split.output = [k, q, v];
    },
    layer: 3,
    step: 'attention scores',
    mistake: 'q and k are swapped',
  },
  {
    what: 'x and y of a feature map exchanged',
    on: 'segment',
    edit: (file) => {
      const grown = gemmOf(file, 'backbone.fpn2.0.weight');
      attribute(file.producer(grown.input![0]), 'perm').ints = [0, 3, 2, 1];
    },
    step: 'feature map 1',
    mistake: 'the feature map has x and y exchanged',
  },
  {
    what: 'tanh GELU in the pyramid only',
    on: 'segment',
    edit: (file) => {
      const erf = file.ofType('Erf').at(-1)!;
      const [u] = erf.input!;
      const a = file.addFloats('tanh.a', [], Float32Array.of(Math.sqrt(2 / Math.PI) * Math.SQRT2));
      const b = file.addFloats('tanh.b', [], Float32Array.of(0.044715 * 2));
      const one = file.addFloats('tanh.one', [], Float32Array.of(1));
      file.insertBefore(
        erf,
        { opType: 'Mul', input: [u, u], output: ['t1'] },
        { opType: 'Mul', input: ['t1', b], output: ['t2'] },
        { opType: 'Add', input: ['t2', one], output: ['t3'] },
        { opType: 'Mul', input: [u, 't3'], output: ['t4'] },
        { opType: 'Mul', input: ['t4', a], output: ['t5'] },
      );
      erf.opType = 'Tanh';
      erf.input = ['t5'];
    },
    step: 'fpn1, BatchNorm and GELU',
    mistake: 'GELU is the tanh approximation',
  },
  {
    what: 'average pooling',
    on: 'segment',
    edit: (file) => void (file.ofType('MaxPool')[0].opType = 'AveragePool'),
    step: 'feature map 3, halved',
    mistake: 'the average of four patches',
  },
  {
    what: 'epsilon of one BatchNorm',
    on: 'segment',
    edit: (file) => {
      const conv = gemmOf(file, 'decode_head.lateral_convs.1.conv.weight');
      attribute(file.consumer(conv.output![0]), 'epsilon').f = 1e-3;
    },
    step: 'lateral convolution 1',
    mistake: 'BatchNorm has epsilon 0.001',
  },
  {
    what: 'corners aligned',
    on: 'segment',
    edit: (file) => {
      for (const node of file.ofType('Resize'))
        attribute(node, 'coordinate_transformation_mode').s = Buffer.from('align_corners');
    },
    step: 'bottleneck of the pooled cells',
    mistake: 'aligned corners',
  },
  {
    what: 'the coarser level is not added',
    on: 'segment',
    edit: (file) => {
      const conv = gemmOf(file, 'decode_head.fpn_convs.1.conv.weight');
      const sum = file.producer(conv.input![0]);
      file.bypass(sum, sum.input![0]);
    },
    step: 'sum of the levels 1 and 2',
    mistake: 'the coarser level is not added',
  },
  {
    what: 'a ReLU is missing',
    on: 'segment',
    edit: (file) => {
      const conv = gemmOf(file, 'decode_head.fpn_convs.2.conv.weight');
      const relu = file.consumer(file.consumer(conv.output![0]).output![0]);
      file.bypass(relu, relu.input![0]);
    },
    step: 'convolution of level 2',
    mistake: 'there is no ReLU',
  },
  {
    what: 'levels joined in the opposite order',
    on: 'segment',
    edit: (file) => {
      const conv = gemmOf(file, 'decode_head.fpn_bottleneck.conv.weight');
      file.producer(conv.input![0]).input!.reverse();
    },
    step: 'fusion of the levels',
    mistake: 'the maps are joined in the opposite order',
  },
  {
    what: 'the classes have no bias',
    on: 'segment',
    edit: (file) => void gemmOf(file, 'decode_head.conv_seg.weight').input!.pop(),
    step: 'classes',
    mistake: 'the bias of the classes is missing',
  },
  {
    what: 'corners aligned at the end',
    on: 'segment, upsampled',
    edit: (file) => {
      attribute(file.producer('logits'), 'coordinate_transformation_mode').s = Buffer.from('align_corners');
    },
    step: 'logits at the size of the image',
    mistake: 'aligned corners',
  },
  {
    what: 'the mean includes the class token',
    on: 'features',
    edit: (file) => {
      named(file, 'Slice', 'patch_tokens').input![1] = file.addInt64('from', [0]);
    },
    step: 'mean for pooler_output',
    mistake: 'the mean includes the class token',
  },
  {
    what: 'x and y of the output exchanged',
    on: 'features, class token',
    edit: (file) => {
      attribute(file.producer('featmap'), 'perm').ints = [0, 3, 2, 1];
    },
    step: 'output featmap',
    mistake: 'the feature map has x and y exchanged',
  },
  {
    what: 'an output taken before the last norm',
    on: 'features, class token',
    edit: (file) => {
      const norm = file.ofType('LayerNormalization').at(-1)!;
      const reshape = file.producer('last_hidden_state');
      file.replaceInput(reshape, norm.output![0], norm.input![0]);
    },
    step: 'output last_hidden_state',
    mistake: 'the tokens are those without the last norm',
  },
  {
    what: 'the last norm has the weights of another',
    on: 'head dropped',
    edit: (file) => {
      const norm = file.ofType('LayerNormalization').at(-1)!;
      norm.input!.splice(1, 2, 'backbone.layers.0.ln1.weight', 'backbone.layers.0.ln1.bias');
    },
    step: 'norm of pooler_output',
    mistake: 'the norm has the weights of layers.0.ln1',
  },
];

describe('mistakes', () => {
  it.each(MISTAKES)('$on: $what', async ({ on, edit, layer, step, mistake }) => {
    const { path, model, task } = sound.get(on)!;
    const broken = exports.fresh();
    editOnnx(path, broken, edit);
    const { check, report } = await layersOf(broken, model, { task });
    const { divergence, suspects } = report;
    expect({ layer: divergence?.layer, step: divergence?.step }).toEqual({ layer, step });
    expect(suspects[0]?.mistake).toContain(mistake);
    expect(suspects[0].explainsAll).toBe(true);
    expect(check.detail).toContain(layer === undefined ? step : `layer ${layer}, ${step}`);
  });

  it.each<
    [string, CaseName, (model: BeitModel, task: Task) => { model: BeitModel; task: Task }, string, string]
  >([
    [
      'patch tokens taken one block too early',
      'masked, two outputs',
      (model, task) => {
        const clsPretraining = { ...model.config.clsPretraining!, earlyLayer: 1 };
        return { model: { ...model, config: { ...model.config, clsPretraining } }, task };
      },
      'second output, tokens',
      'the patch tokens are those after block 0 instead of those after block 1',
    ],
    [
      'two levels of the pyramid exchanged',
      'segment',
      (model, task) => {
        const { taps } = task as Extract<Task, { name: 'segment' }>;
        return {
          model,
          task: { name: 'segment', taps: [taps[0], taps[2], taps[1], taps[3]], upsample: false },
        };
      },
      'feature map 1',
      'the tokens are those after block 4 instead of those after block 3',
    ],
    [
      'the tokens of another block',
      'features, class token',
      (model, task) => {
        const { outputs } = task as Extract<Task, { name: 'features' }>;
        const moved = outputs.map((output, i) => (i === 0 ? { ...output, layer: 1 } : output));
        return { model, task: { name: 'features', outputs: moved } };
      },
      'output hidden_state_0',
      'the tokens are those after block 1',
    ],
  ])('%s', async (_, on, wrong, step, mistake) => {
    const { path, model, task } = await make(on, 'fp32', wrong);
    const { report } = await layersOf(path, model, { task });
    await model.close();
    expect(report.divergence?.step).toBe(step);
    expect(report.suspects[0].mistake).toContain(mistake);
  });
});

describe('files of other forms', () => {
  it('one for images of any size is looked into at its own', async () => {
    const model = await exports.load('v1_cls');
    const path = exports.fresh();
    const task = resolveTask(model.config);
    await exportFiles(model, [{ path, precision: 'fp32' }], {
      toolVersion: '0.0.0',
      dynamic: 'transformers',
    });
    const found = await layersOf(path, model, { task, wrong: false });
    expect({ passed: found.check.passed, matched: found.report.matched }).toEqual({
      passed: true,
      matched: true,
    });
    const broken = exports.fresh();
    editOnnx(path, broken, (file) => {
      attribute(gemmOf(file, 'backbone.layers.1.attn.proj.weight'), 'transB').i = 0;
    });
    const { report } = await layersOf(broken, model, { task });
    expect(report.divergence).toMatchObject({ layer: 1, step: 'projection' });
    expect(report.suspects[0].mistake).toContain('attn.proj.weight is transposed');
  });

  it('one whose weights stay in the checkpoint', async () => {
    const src = join(exports.folder, 'linked.safetensors');
    copyFileSync(goldenPath('mim_v1', 'official.safetensors'), src);
    const model = join(exports.folder, 'linked.onnx');
    await convert({ src, out: model, link: true, verify: false });
    const { parity } = await verify({ src, model, layers: true });
    expect(parity.checks.at(-1)).toMatchObject({ name: 'layers', passed: true });
    expect(parity.layers!.points).toHaveLength(5);
  });
});

describe('lower precisions', () => {
  const PRECISIONS = ['fp16', 'int8', 'q4', 'q4f16'] as const;

  it.each(
    PRECISIONS.flatMap((precision) =>
      (['features', 'segment'] as const).map((on) => [precision, on] as const),
    ),
  )('%s, %s: no step is worse than its form explains', async (precision, on) => {
    const { path, model, task } = await make(on, precision);
    const { report, check } = await layersOf(path, model, { task, precision, wrong: true });
    expect({ matched: report.matched, divergence: report.divergence }).toEqual({ matched: true });
    expect(check.detail).toContain(`not as good as ${precision} should be, but no single step is worse`);
    for (const { units, name } of report.points) expect(units, name).toBeLessThan(4);
    await model.close();
  });

  // As trained transformers have them: all other inputs of a product then lose most of their eight bits.
  it.each(['int8', 'q8', 'q4'] as const)('%s: two very large channels are no mistake', async (precision) => {
    const { model: plain, task } = sound.get('features')!;
    const tensors = new Map(plain.tensors);
    const scale = async (name: string, factor: number, channels: (i: number) => boolean): Promise<void> => {
      const { shape } = plain.tensors.get(name)!;
      const values = await readFloat32(plain.tensors.get(name)!);
      const scaled = values.map((value, i) =>
        channels(i % plain.config.hiddenSize) ? value * factor : value,
      );
      tensors.set(name, memoryTensor('F32', shape, bytesOf(scaled)));
    };
    const large = (channel: number): boolean => channel === 3 || channel === 17;
    for (let layer = 0; layer < plain.config.depth; layer++) {
      const at = `backbone.layers.${layer}.`;
      for (const name of ['ln1.weight', 'ln1.bias', 'ln2.weight', 'ln2.bias'])
        await scale(at + name, 200, large);
      for (const name of ['attn.qkv.weight', 'ffn.layers.0.0.weight']) await scale(at + name, 1 / 200, large);
    }
    const model = { ...plain, tensors };
    const path = exports.fresh();
    await exportFiles(model, [{ path, precision }], { toolVersion: '0.0.0', task });
    const { report } = await layersOf(path, model, { task, precision, wrong: true });
    expect({ matched: report.matched, divergence: report.divergence }).toEqual({ matched: true });
    expect(Math.max(...report.points.map(({ rms, size }) => rms / size))).toBeGreaterThan(0.1);
  });

  it('int8: a mistake of a few hundredths of the result', async () => {
    const { path, model, task } = await make('features', 'int8');
    const broken = exports.fresh();
    editOnnx(path, broken, (file) => {
      const name = 'backbone.layers.1.ffn.layers.1.bias';
      file.setFloats(
        name,
        file.floats(name).map((value, i) => value + (i % 2 === 0 ? 0.1 : -0.1)),
      );
    });
    const { report } = await layersOf(broken, model, { task, precision: 'int8' });
    await model.close();
    expect(report.divergence).toMatchObject({ layer: 1, step: 'MLP output' });
    expect(report.suspects[0].mistake).toContain('ffn.layers.1.bias has other values');
  });

  it.each(PRECISIONS)('%s: a mistake is found all the same', async (precision) => {
    const { path, model, task } = await make('features', precision);
    const broken = exports.fresh();
    editOnnx(path, broken, (file) => {
      const split = file.ofType('Split')[1];
      const [q, k, v] = split.output!;
      split.output = [k, q, v];
    });
    const { report } = await layersOf(broken, model, { task, precision });
    await model.close();
    expect(report.divergence).toMatchObject({ layer: 1, step: 'attention scores' });
    expect(report.suspects[0].mistake).toContain('q and k are swapped');
  });
});
