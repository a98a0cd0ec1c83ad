/** Exports of other tools that are no classifiers: what they are for is recognised, and mistakes in them found. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadModel } from '../../src/convert/load.js';
import { exportOnnx } from '../../src/export/index.js';
import type { BeitModel } from '../../src/model.js';
import { resolveTask } from '../../src/task.js';
import { asFloat32, readFloat32 } from '../../src/tensor.js';
import { recognise } from '../../src/verify/checks/foreign-task.js';
import { checkLayers } from '../../src/verify/checks/layers.js';
import { openOnnxFile } from '../../src/verify/onnx-file.js';
import { makeInputs } from '../../src/verify/run.js';
import { verifyModel } from '../../src/verify/verify.js';
import { goldenPath } from '../convert/goldens.js';
import { editOnnx, type Node, type OnnxEditor } from '../support/onnx-edit.js';
import { unpackForeign } from './foreign.js';

const FILES = {
  'features-timm': { weights: 'v1_cls_pool/official', gives: 'features: output' },
  'features-transformers': {
    weights: 'v1_cls_pool/official',
    gives: 'features: last_hidden_state, pooler_output',
  },
  'features-transformers-mean': {
    weights: 'v1_shared_rel/official',
    gives: 'features: last_hidden_state, pooler_output',
  },
  'masked-transformers': { weights: 'mim_v1_abs/official', gives: 'masked-image: output' },
  'ort-masked': { weights: 'mim_v1_abs/official', gives: 'masked-image: output' },
  'segment-transformers': {
    weights: 'segmentation/hf',
    gives: 'segment of the tokens after 1, 2, 3, 4 blocks: output',
  },
} as const;
type File = keyof typeof FILES;
const NAMES = Object.keys(FILES) as File[];

const folder = mkdtempSync(join(tmpdir(), 'convert-beit-foreign-tasks-'));
const models = new Map<string, BeitModel>();
/** fpn1's first half without BatchNorm. */
let unfolded: { readonly weight: Float32Array; readonly bias: Float32Array };
const pathOf = (name: string): string => join(folder, `${name}.onnx`);
const modelOf = (file: File): BeitModel => models.get(FILES[file].weights)!;

beforeAll(async () => {
  for (const file of NAMES) {
    unpackForeign(file, pathOf(file));
    const { weights } = FILES[file];
    const hints = { heads: weights === 'segmentation/hf' ? undefined : 4 };
    if (models.has(weights)) continue;
    const [golden, name] = weights.split('/');
    models.set(weights, await loadModel(goldenPath(golden, `${name}.safetensors`), { hints }));
  }
  const { tensors } = modelOf('segment-transformers');
  const [weight, bias] = ['weight', 'bias'].map((name) => tensors.get(`backbone.fpn1.0.${name}`)!);
  unfolded = { weight: await readFloat32(asFloat32(weight)), bias: await readFloat32(asFloat32(bias)) };
});
afterAll(async () => {
  await Promise.all([...models.values()].map((model) => model.close()));
  rmSync(folder, { recursive: true });
});

/** Every step of the file, as if its outputs were known to be wrong. */
async function everyStep(path: string, model: BeitModel): Promise<string> {
  const file = await openOnnxFile(path);
  try {
    const recognised = recognise(file, model.config);
    if (typeof recognised === 'string') return recognised;
    const { check } = await checkLayers(path, file, model, makeInputs(model, { samples: 2 }), {
      ...recognised,
      precision: 'fp32',
      wrong: true,
      altered: false,
      unexplained: [],
    });
    return check.detail;
  } finally {
    await file.close();
  }
}

describe('sound files', () => {
  it.each(NAMES)('%s', async (file) => {
    const model = modelOf(file);
    const report = await verifyModel(pathOf(file), model, { layers: true });
    expect(report.checks.filter(({ passed }) => !passed)).toEqual([]);
    expect(report.checks.map(({ name }) => name)).toEqual([
      'structure',
      'inventory',
      'provenance',
      'outputs',
      'layers',
    ]);
    expect(report.checks[0].detail).toMatch(new RegExp(`ends found by their shapes; ${FILES[file].gives}$`));
    for (const { noiseUnits } of report.outputs!) expect(noiseUnits).toBeLessThan(10);
    expect(report.layers).toMatchObject({ matched: true, suspects: [] });
    expect(report.layers!.points.length).toBeGreaterThan(model.config.depth - 2);
    for (const { units } of report.layers!.points) expect(units).toBeLessThan(3);
    expect(await everyStep(pathOf(file), model)).toBe(
      'the outputs are wrong, but every step agrees with its own inputs',
    );
  });

  /** Graphs that no exporter at hand makes: ours, which then does not say so, nor what its ports are. */
  it.each([
    {
      what: "unilm's taps, at the size of the image",
      weights: 'segmentation/hf',
      task: { outIndices: [2, 3, 4, 5], upsample: true },
      gives: 'segment of the tokens after 3, 4, 5, 6 blocks: output 0',
    },
    { what: 'two outputs', weights: 'mim_v2_cls_pt/official', gives: 'masked-image: output 0, output 1' },
    {
      what: 'a backbone',
      weights: 'mm_out_types/mmpretrain',
      task: { outTypes: ['raw', 'avg_featmap', 'featmap'] as const },
      gives: 'features: output 0, output 1, output 2',
    },
  ])('$what', async ({ weights, task, gives }) => {
    const [golden, name] = weights.split('/');
    const model = await loadModel(goldenPath(golden, `${name}.safetensors`), { hints: { earlyLayer: 2 } });
    try {
      const [own, path] = [pathOf(`${golden} own`), pathOf(golden)];
      await exportOnnx(model, own, { toolVersion: '0.0.0', task: resolveTask(model.config, task) });
      editOnnx(own, path, (file) => {
        file.model.producerName = 'somebody';
        file.model.metadataProps = [];
        file.model.graph!.output!.forEach((port, i) => {
          end(file, port.name!).output = [`output ${i}`];
          for (const user of file.consumers(port.name!)) file.replaceInput(user, port.name!, `output ${i}`);
          port.name = `output ${i}`;
        });
        for (const port of file.model.graph!.input!) {
          for (const user of file.consumers(port.name!))
            file.replaceInput(user, port.name!, `of ${port.name}`);
          port.name = `of ${port.name}`;
        }
      });
      const report = await verifyModel(path, model, { layers: true });
      expect(report.checks.filter(({ passed }) => !passed)).toEqual([]);
      expect(report.checks[0].detail).toMatch(new RegExp(`^written by somebody 0.0.0: .*; ${gives}$`));
      expect(report.layers).toMatchObject({ matched: true, suspects: [] });
      expect(await everyStep(path, model)).toContain('every step agrees with its own inputs');
    } finally {
      await model.close();
    }
  });

  it('a linear layer whose bias is in SkipLayerNormalization', async () => {
    const path = pathOf('biased');
    editOnnx(pathOf('ort-masked'), path, biasInside);
    const report = await verifyModel(path, modelOf('ort-masked'), { layers: true });
    expect(report.checks.filter(({ passed }) => !passed)).toEqual([]);
    expect(report.layers).toMatchObject({ matched: true, suspects: [] });
    expect(await everyStep(path, modelOf('ort-masked'))).toContain('every step agrees with its own inputs');
  });

  it('a masked-image model that was exported without its mask', async () => {
    const path = pathOf('unmasked');
    editOnnx(pathOf('masked-transformers'), path, (file) => {
      const [hidden, seen] = ['Cast', 'Sub'].map((type) =>
        file.nodes.find(({ opType, output }) => opType === type && output![0].includes('/embeddings/'))!,
      );
      const shown = file.consumer(seen.output![0]);
      const sum = file.consumer(shown.output![0]);
      file.bypass(sum, shown.input![0]);
      const masked = file.consumers(hidden.output![0]);
      const gone = [file.consumer('mask'), hidden, shown, ...masked];
      file.nodes = file.nodes.filter((node) => !gone.includes(node));
      file.model.graph!.input = file.model.graph!.input!.filter(({ name }) => name !== 'mask');
    });
    const report = await verifyModel(path, modelOf('masked-transformers'), { layers: true });
    expect(report.checks.filter(({ passed }) => !passed)).toEqual([]);
    expect(report.checks[0].detail).toContain('; masked-image: output');
    expect(report.layers).toMatchObject({ matched: true, suspects: [] });
  });

  it.each([
    ['float32', 1],
    ['uint8', 2],
    ['int32', 6],
    ['int64', 7],
  ])('a mask of %s', async (type, elemType) => {
    const path = pathOf(`mask ${type}`);
    editOnnx(pathOf('masked-transformers'), path, (file) => {
      file.model.graph!.input![1].type!.tensorType!.elemType = elemType;
    });
    const report = await verifyModel(path, modelOf('masked-transformers'), { samples: 2, layers: true });
    expect(report.checks.filter(({ passed }) => !passed)).toEqual([]);
  });

  it.each([
    [
      'no image',
      (file: OnnxEditor) => (file.model.graph!.input![0].type!.tensorType!.elemType = 10),
      'inputs',
    ],
    [
      'a mask of float16',
      (file: OnnxEditor) => (file.model.graph!.input![1].type!.tensorType!.elemType = 10),
      'inputs',
    ],
    [
      'no logits',
      (file: OnnxEditor) => (file.model.graph!.output![0].type!.tensorType!.elemType = 10),
      'outputs',
    ],
  ])('%s is no file of this model', async (what, edit, which) => {
    const path = pathOf(what);
    editOnnx(pathOf('masked-transformers'), path, edit);
    const report = await verifyModel(path, modelOf('masked-transformers'), { layers: true });
    expect(report.checks[0]).toMatchObject({ name: 'structure', passed: false });
    expect(report.checks[0].detail).toMatch(
      which === 'inputs'
        ? /^the graph has the inputs images .*; needed is one float32 \[batch, 3, 32, 32\], and of a pre-training model one of booleans \[batch, 64\]$/
        : /^the graph has the outputs output .*; needed is one float32 \[batch, 64, 50\] \(or, without a mask, one float32 \[batch, 65, 32\] or \[batch, 32\] of its features\)$/,
    );
    expect(report.checks.slice(3)).toMatchObject([{ notRun: true }, { notRun: true }]);
  });

  it('outputs that cannot be told are named, the others compared', async () => {
    const path = pathOf('more');
    editOnnx(pathOf('features-transformers'), path, (file) => {
      // Tokens after block 0 are known by their place in the graph; those before it are no features, LN1 even less.
      const [ln1, , second] = file.ofType('LayerNormalization');
      const [tokens] = file.model.graph!.output!;
      const output = (name: string, from: string): void => {
        file.append({ opType: 'Identity', input: [from], output: [name] });
        file.model.graph!.output!.push({ ...tokens, name });
      };
      output('odd', ln1.output![0]);
      output('state', second.input![0]);
      output('first', ln1.input![0]);
    });
    const report = await verifyModel(path, modelOf('features-transformers'), { layers: true });
    expect(report.checks.filter(({ passed }) => !passed)).toEqual([]);
    expect(report.outputs!.map(({ name }) => name)).toEqual(['last_hidden_state', 'pooler_output', 'state']);
    expect(report.checks[0].detail).toMatch(
      /; features: last_hidden_state, pooler_output, state; not compared, as nothing tells what they are: odd, first$/,
    );
    expect(report.layers).toMatchObject({ matched: true, suspects: [] });
  });
});

/** As the optimiser does it where there is no LayerScale: `MatMul`, `Add`, `Mul` by 1 go into the norm that follows. */
function biasInside(file: OnnxEditor): void {
  for (const fused of file.ofType('SkipLayerNormalization').slice(1)) {
    const scaled = file.producer(fused.input![0]);
    const shifted = file.producer(scaled.input![0]);
    const [bias, product] = shifted.input!;
    file.bypass(scaled, scaled.input![0]);
    file.bypass(shifted, product);
    fused.input!.push(bias);
  }
}

interface Row {
  readonly what: string;
  readonly on: File;
  readonly edit: (file: OnnxEditor) => void;
  readonly layer?: number;
  readonly step: string;
  readonly mistake: string;
}

function zeros(file: OnnxEditor, ...dims: number[]): string {
  return file.addFloats('zeros', dims, new Float32Array(dims.reduce((a, b) => a * b, 1)));
}

const end = (file: OnnxEditor, name: string): Node => file.producer(name);

const MISTAKES: readonly Row[] = [
  {
    what: 'another token than the class token',
    on: 'features-transformers',
    edit: (file) => {
      end(file, 'pooler_output').input![1] = file.addInt64('first patch', [1]);
      file.initializer('first patch').dims = [];
    },
    step: 'output pooler_output',
    mistake: 'the first patch is given instead of the class token',
  },
  {
    what: 'LayerScale of an MLP left out',
    on: 'features-timm',
    edit: (file) => {
      const scaled = file.nodes.find(
        ({ opType, input }) => opType === 'Mul' && /1\.gamma_2$/.test(input![0]),
      )!;
      file.bypass(scaled, scaled.input![1]);
    },
    layer: 1,
    step: 'second residual',
    mistake: 'LayerScale is missing (gamma_2 is not applied)',
  },
  {
    what: 'the mean over all tokens',
    on: 'features-transformers-mean',
    edit: (file) => {
      const mean = file.producer(end(file, 'pooler_output').input![0]);
      const slice = file.producer(mean.input![0]);
      expect(slice.opType).toBe('Slice');
      mean.input![0] = 'last_hidden_state';
    },
    step: 'mean for pooler_output',
    mistake: 'the mean includes the class token',
  },
  {
    what: 'tokens of an earlier block',
    on: 'features-transformers-mean',
    edit: (file) => {
      const [, , second] = file.ofType('LayerNormalization');
      end(file, 'last_hidden_state').output = ['the last tokens'];
      for (const user of file.consumers('last_hidden_state'))
        file.replaceInput(user, 'last_hidden_state', 'the last tokens');
      file.append({ opType: 'Identity', input: [second.input![0]], output: ['last_hidden_state'] });
    },
    step: 'output last_hidden_state',
    mistake: 'the tokens are those after block 0',
  },
  {
    what: 'the mask the wrong way round',
    on: 'masked-transformers',
    edit: (file) => {
      const user = file.consumer('mask');
      file.insertBefore(user, { opType: 'Not', input: ['mask'], output: ['seen'] });
      file.replaceInput(user, 'mask', 'seen');
    },
    step: 'embedding',
    mistake: 'the mask is the wrong way round: what should be seen is hidden',
  },
  {
    what: 'the mask is not used',
    on: 'masked-transformers',
    edit: (file) => {
      const mask = file.nodes.find(
        ({ opType, input }) => opType === 'Cast' && input![0].includes('Unsqueeze'),
      )!;
      file.replaceInput(file.consumers(mask.output![0])[0], mask.output![0], zeros(file, 1));
      for (const user of file.consumers(mask.output![0])) file.replaceInput(user, mask.output![0], 'zeros');
    },
    step: 'embedding',
    mistake: 'the mask is not used: hidden patches are seen',
  },
  {
    what: 'the bias of the head left out',
    on: 'masked-transformers',
    edit: (file) => {
      end(file, 'output').input![0] = zeros(file, 50);
    },
    step: 'logits',
    mistake: 'the bias of the head is missing',
  },
  {
    what: 'positions left out, which a SkipLayerNormalization adds',
    on: 'ort-masked',
    edit: (file) => {
      file.ofType('SkipLayerNormalization')[0].input![1] = zeros(file, 1, 65, 32);
    },
    step: 'embedding',
    mistake: 'pos_embed is missing or zero',
  },
  {
    what: 'no epsilon stated: that of SkipLayerNormalization is 1e-12',
    on: 'ort-masked',
    edit: (file) => {
      file.ofType('SkipLayerNormalization')[3].attribute = [];
    },
    layer: 1,
    step: 'LN2',
    mistake: 'epsilon is 1e-12 instead of 0.000001',
  },
  {
    what: 'the bias of proj, in the norm that follows, left out',
    on: 'ort-masked',
    edit: (file) => {
      biasInside(file);
      file.ofType('SkipLayerNormalization')[3].input!.pop();
    },
    layer: 1,
    step: 'projection',
    mistake: 'the bias of attn.proj is missing',
  },
  {
    what: 'tokens of another block for one map',
    on: 'segment-transformers',
    edit: (file) => {
      const norms = file.ofType('LayerNormalization');
      const slice = file.nodes.find(
        ({ opType, input }) => opType === 'Slice' && input![0] === norms[4].input![0],
      )!;
      slice.input![0] = norms[6].input![0];
    },
    step: 'feature map 1',
    mistake: 'the tokens are those after block 2 instead of those after block 1',
  },
  {
    what: 'ReLU left out',
    on: 'segment-transformers',
    edit: (file) => {
      const relu = file.ofType('Relu')[8];
      file.bypass(relu, relu.input![0]);
    },
    step: 'convolution of level 0',
    mistake: 'there is no ReLU',
  },
  {
    what: 'the mean of four patches',
    on: 'segment-transformers',
    edit: (file) => {
      const [pool] = file.ofType('MaxPool');
      pool.opType = 'AveragePool';
      pool.attribute = pool.attribute!.filter(({ name }) => !['dilations', 'storage_order'].includes(name!));
    },
    step: 'feature map 3, halved',
    mistake: 'the average of four patches is taken instead of the largest value',
  },
  {
    what: 'scores of block 2 not scaled',
    on: 'segment-transformers',
    edit: (file) => {
      const add = file.producer(file.ofType('Softmax')[2].input![0]);
      const scaled = file.producer(add.input![0]);
      file.bypass(scaled, scaled.input![0]);
    },
    layer: 2,
    step: 'attention scores',
    mistake: 'scores are not scaled by 1/sqrt(d)',
  },
  {
    what: 'BatchNorm, which is folded into fpn1, left out',
    on: 'segment-transformers',
    edit: (file) => {
      const [, weight, bias] = file.ofType('ConvTranspose')[0].input!;
      file.setFloats(weight, unfolded.weight);
      file.setFloats(bias, unfolded.bias);
    },
    step: 'fpn1, first half',
    mistake: 'BatchNorm is missing',
  },
];

describe('mistakes', () => {
  it.each(MISTAKES)('$what ($on)', async ({ on, what, edit, layer, step, mistake }) => {
    const broken = pathOf(what);
    editOnnx(pathOf(on), broken, edit);
    const report = await verifyModel(broken, modelOf(on), { samples: 2, layers: true });
    expect(report.verdict).toBe('failed');
    const { divergence, suspects } = report.layers!;
    expect({ layer: divergence?.layer, step: divergence?.step }).toEqual({ layer, step });
    expect(suspects[0]?.mistake).toContain(mistake);
    expect(suspects[0].explainsAll).toBe(true);
  });
});
