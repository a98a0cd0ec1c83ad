/** Exports of timm's and transformers' BEiT by torch.onnx.export, also optimised: verified, and mistakes in them found. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { BeitModel } from '../../src/model.js';
import { verifyModel } from '../../src/verify/verify.js';
import { editOnnx, type Node, type OnnxEditor } from '../support/onnx-edit.js';
import { Exports } from './exported.js';
import { FOREIGN, unpackForeign, type Foreign } from './foreign.js';

const exports = new Exports();
const folder = mkdtempSync(join(tmpdir(), 'convert-beit-foreign-'));
const models = new Map<string, BeitModel>();
const pathOf = (file: string): string => join(folder, `${file}.onnx`);

beforeAll(async () => {
  for (const { file, golden } of FOREIGN) {
    unpackForeign(file, pathOf(file));
    if (!models.has(golden)) models.set(golden, await exports.load(golden));
  }
});
afterAll(async () => {
  await exports.close();
  rmSync(folder, { recursive: true });
});

describe('sound files', () => {
  it.each<Foreign>(FOREIGN)('$what', async ({ file, golden, by = 'pytorch 2.13', closed }) => {
    const before = readFileSync(pathOf(file));
    const model = models.get(golden)!;
    const report = await verifyModel(pathOf(file), model, { layers: true });
    expect(report.checks.filter(({ passed }) => !passed)).toEqual([]);
    const outcome = Object.fromEntries(
      report.checks.map(({ name, notApplicable }) => [name, notApplicable ?? false]),
    );
    expect(outcome).toEqual({
      structure: false,
      inventory: true,
      provenance: false,
      logits: false,
      layers: false,
    });
    expect(report.checks[0].detail).toContain(`written by ${by}`);
    // Every tensor is there, transposed, joined or looked up as it may be.
    expect(report.checks[2].detail).toBe(
      `${model.tensors.size} of ${model.tensors.size} tensors of the source found by value, whatever they are called`,
    );
    expect(report.logits!.noiseUnits).toBeLessThan(8);
    expect(report.layers).toMatchObject({ matched: true, suspects: [] });
    // Unlike ours, these show the tokens of every block.
    expect(report.layers!.points.filter(({ layer }) => layer !== undefined)).toHaveLength(model.config.depth);
    for (const { units } of report.layers!.points) expect(units).toBeLessThan(3);
    expect(report.layers!.hidden ?? 'all is seen').toMatch(
      closed ? /Attention node in every block: its scores and probabilities cannot be seen/ : /^all is seen$/,
    );
    expect(readFileSync(pathOf(file)).equals(before)).toBe(true);
  });

  it('leaves nothing beside the file', () => {
    expect(readdirSync(folder).sort()).toEqual(FOREIGN.map(({ file }) => `${file}.onnx`).sort());
  });
});

/** The matrix products of one layer that have a weight, by the weight's place in the graph: qkv (or q, k, v), proj, fc1, fc2. */
function weightProducts(file: OnnxEditor): Node[] {
  const constants = new Set(file.initializers.map(({ name }) => name!));
  return file.nodes.filter(({ opType, input }) => opType === 'MatMul' && constants.has(input![1]));
}

function changeFloats(file: OnnxEditor, name: string, change: (values: Float32Array) => void): void {
  const values = file.floats(name);
  change(values);
  file.setFloats(name, values);
}

interface Row {
  readonly what: string;
  readonly on: (typeof FOREIGN)[number]['file'];
  readonly edit: (file: OnnxEditor) => void;
  readonly layer: number | undefined;
  readonly step: string;
  readonly mistake: string;
}

/** Every file has four products with weights a layer (timm), or six (transformers: q, k and v apart). */
const MISTAKES: readonly Row[] = [
  {
    what: 'proj of layer 1 transposed',
    on: 'timm',
    edit: (file) => {
      const name = weightProducts(file)[5].input![1];
      changeFloats(file, name, (values) => {
        const copy = values.slice();
        for (let r = 0; r < 32; r++) for (let c = 0; c < 32; c++) values[c * 32 + r] = copy[r * 32 + c];
      });
    },
    layer: 1,
    step: 'projection',
    mistake: 'attn.proj.weight is transposed',
  },
  {
    what: 'position bias of layer 2 left out',
    on: 'timm',
    edit: (file) => {
      const softmax = file.ofType('Softmax')[2];
      const add = file.producer(softmax.input![0]);
      file.bypass(add, add.input![0]);
    },
    layer: 2,
    step: 'attention scores',
    mistake: 'the position table is missing or zero',
  },
  {
    what: 'q and k exchanged',
    on: 'transformers-dynamo',
    edit: (file) => {
      const products = weightProducts(file);
      const [q, k] = [products[6], products[7]];
      [q.input![1], k.input![1]] = [k.input![1], q.input![1]];
    },
    layer: 1,
    step: 'attention scores',
    mistake: 'q and k are swapped in the rows of attn.qkv.weight',
  },
  {
    what: 'LayerScale of the last MLP left out',
    on: 'transformers',
    edit: (file) => {
      const mul = file.nodes.filter(
        ({ opType, input }) => opType === 'Mul' && input![0].endsWith('layers.1.lambda_2'),
      )[0];
      file.bypass(mul, mul.input![1]);
    },
    layer: 1,
    step: 'second residual',
    mistake: 'LayerScale is missing (gamma_2 is not applied)',
  },
  {
    what: 'scores of layer 0 not scaled',
    on: 'transformers-dynamo',
    edit: (file) => {
      const add = file.producer(file.ofType('Softmax')[0].input![0]);
      const mul = file.producer(add.input![0]);
      file.bypass(mul, mul.input![0]);
    },
    layer: 0,
    step: 'attention scores',
    mistake: 'scores are not scaled by 1/sqrt(d)',
  },
  {
    what: 'epsilon 1e-5 spelled out',
    on: 'timm-fused-opset14',
    edit: (file) => {
      for (const sqrt of file.ofType('Sqrt')) {
        const add = file.nodes.find(({ output }) => output!.includes(sqrt.input![0]));
        if (add?.opType !== 'Add') continue;
        add.input![1] = file.addFloats(`${sqrt.output![0]}.eps`, [], Float32Array.of(1e-5));
      }
    },
    layer: 0,
    step: 'LN1',
    mistake: 'epsilon is 0.00001 instead of 0.000001',
  },
  {
    what: 'the mean over the patches instead of the class token',
    on: 'timm-fused-opset14',
    edit: (file) => {
      const gather = file.nodes.find(
        ({ opType, output }) =>
          opType === 'Gather' && file.consumers(output![0]).some((node) => node.opType === 'Gemm'),
      )!;
      gather.opType = 'ReduceMean';
      gather.input = [gather.input![0]];
      gather.attribute = [
        { name: 'axes', type: 7, ints: [1] },
        { name: 'keepdims', type: 2, i: 0 },
      ];
    },
    layer: undefined,
    step: 'logits',
    mistake: 'the mean includes the class token',
  },
  {
    what: 'ReLU instead of GELU',
    on: 'timm-dynamo',
    edit: (file) => {
      const fc2 = weightProducts(file)[3];
      const fc1 = weightProducts(file)[2];
      const shifted = file.consumer(fc1.output![0]);
      const gelu = file.producer(fc2.input![0]);
      gelu.opType = 'Relu';
      gelu.input = [shifted.output![0]];
    },
    layer: 0,
    step: 'MLP activation',
    mistake: 'the activation is ReLU instead of GELU',
  },
  {
    what: 'pos_embed left out',
    on: 'timm-dynamo',
    edit: (file) => {
      const add = file.consumer('pos_embed');
      file.bypass(
        add,
        add.input!.find((name) => name !== 'pos_embed')!,
      );
    },
    layer: undefined,
    step: 'embedding',
    mistake: 'pos_embed is missing or zero',
  },
  {
    what: 'pixels normalised once more, with ImageNet constants',
    on: 'timm',
    edit: (file) => {
      const conv = file.ofType('Conv')[0];
      const mean = file.addFloats('mean', [3, 1, 1], Float32Array.of(0.485, 0.456, 0.406));
      const std = file.addFloats('std', [3, 1, 1], Float32Array.of(0.229, 0.224, 0.225));
      const [pixels] = conv.input!;
      file.insertBefore(
        conv,
        { opType: 'Sub', input: [pixels, mean], output: ['centred'] },
        { opType: 'Div', input: ['centred', std], output: ['normalised'] },
      );
      file.replaceInput(conv, pixels, 'normalised');
    },
    layer: undefined,
    step: 'embedding',
    mistake: "the graph normalises the pixels once more, with ImageNet's mean and std",
  },
  {
    what: 'mean pooling over all tokens',
    on: 'transformers-dynamo',
    edit: (file) => {
      const reduce = file.ofType('ReduceMean')[0];
      const slice = file.producer(reduce.input![0]);
      file.bypass(slice, slice.input![0]);
    },
    layer: undefined,
    step: 'pooling',
    mistake: 'the mean includes the class token',
  },
  {
    what: 'the residual of the attention taken after LN1',
    on: 'timm',
    edit: (file) => {
      const [, , ln1] = file.ofType('LayerNormalization');
      const [before] = ln1.input!;
      const add = file.consumers(before).find(({ opType }) => opType === 'Add')!;
      file.replaceInput(add, before, ln1.output![0]);
    },
    layer: 1,
    step: 'first residual',
    mistake: 'the residual is taken after LN1 instead of before it',
  },
  {
    what: 'epsilon of a fused LN2',
    on: 'ort-timm',
    edit: (file) => {
      file.ofType('SkipLayerNormalization')[2].attribute![0].f = 1e-5;
    },
    layer: 1,
    step: 'LN2',
    mistake: 'epsilon is 0.00001 instead of 0.000001',
  },
  {
    what: 'LayerScale of a fused residual left out',
    on: 'ort-timm',
    edit: (file) => {
      const fused = file.ofType('SkipLayerNormalization')[0];
      const scaled = file.producer(fused.input![1]);
      file.bypass(scaled, scaled.input![1]);
    },
    layer: 0,
    step: 'first residual',
    mistake: 'LayerScale is missing (gamma_1 is not applied)',
  },
  {
    what: 'the last residual, which only its norm sees, without the MLP',
    on: 'ort-timm',
    edit: (file) => {
      const last = file.ofType('SkipLayerNormalization')[3];
      const zero = file.producer(last.input![1]);
      const zeros = file.addFloats('zeros', [32], new Float32Array(32));
      zero.input = zero.input!.map((name) => (name.endsWith('gamma_2') ? zeros : name));
    },
    layer: 1,
    step: 'second residual',
    mistake: 'the MLP branch is missing',
  },
  {
    what: 'the residual of a fused norm taken after LN1',
    on: 'ort-attention',
    edit: (file) => {
      const [first, , third] = file.ofType('SkipLayerNormalization');
      const ln1 = file.ofType('SkipLayerNormalization')[1].output![0];
      expect(first.input).not.toContain(ln1);
      third.input = [ln1, ...third.input!.slice(1)];
    },
    layer: 1,
    step: 'first residual',
    mistake: 'the residual is taken after LN1 instead of before it',
  },
  {
    what: 'FastGelu for BiasGelu',
    on: 'ort-timm',
    edit: (file) => {
      file.ofType('BiasGelu')[1].opType = 'FastGelu';
    },
    layer: 1,
    step: 'MLP activation',
    mistake: 'GELU is the tanh approximation instead of the exact erf form',
  },
  {
    what: 'the bias of a fused GELU is zero',
    on: 'ort-transformers-dynamo',
    edit: (file) => {
      const fused = file.ofType('BiasGelu')[0];
      fused.input![1] = file.addFloats('zeros', [64], new Float32Array(64));
    },
    layer: 0,
    step: 'MLP activation',
    mistake: 'the bias of fc1 is missing',
  },
  {
    what: 'another scale in com.microsoft.Attention',
    on: 'ort-attention',
    edit: (file) => {
      file.ofType('Attention')[0].attribute!.push({ name: 'scale', type: 1, f: 1 });
    },
    layer: 0,
    step: 'attention output',
    mistake: 'scores are not scaled by 1/sqrt(d)',
  },
  {
    what: 'com.microsoft.MultiHeadAttention without positions',
    on: 'ort-attention',
    edit: (file) => {
      const [fused] = file.ofType('MultiHeadAttention');
      fused.input = fused.input!.slice(0, 3);
    },
    layer: 1,
    step: 'attention output',
    mistake: 'the position table is missing or zero',
  },
  {
    what: 'q, k and v of com.microsoft.MultiHeadAttention in another order',
    on: 'ort-attention',
    edit: (file) => {
      const [fused] = file.ofType('MultiHeadAttention');
      const [q, k, v, ...rest] = fused.input!;
      fused.input = [q, v, k, ...rest];
    },
    layer: 1,
    step: 'attention output',
    mistake: 'q, k and v are taken in the order q | v | k',
  },
  {
    what: 'proj after com.microsoft.Attention transposed',
    on: 'ort-attention',
    edit: (file) => {
      const [fused] = file.ofType('Attention');
      const proj = file.consumer(fused.output![0]).input![1];
      changeFloats(file, proj, (values) => {
        const copy = values.slice();
        for (let r = 0; r < 32; r++) for (let c = 0; c < 32; c++) values[c * 32 + r] = copy[r * 32 + c];
      });
    },
    layer: 0,
    step: 'projection',
    mistake: 'attn.proj.weight is transposed',
  },
  {
    what: 'Attention of opset 23 with another scale',
    on: 'timm-dynamo-opset23',
    edit: (file) => {
      file.ofType('Attention')[1].attribute!.push({ name: 'scale', type: 1, f: 1 / Math.sqrt(32) });
    },
    layer: 1,
    step: 'attention output',
    mistake: 'scores are scaled by 1/sqrt(E) instead of 1/sqrt(d)',
  },
  {
    what: 'Attention of opset 23 without positions',
    on: 'timm-dynamo-opset23',
    edit: (file) => {
      const [fused] = file.ofType('Attention');
      fused.input = fused.input!.slice(0, 3);
    },
    layer: 0,
    step: 'attention output',
    mistake: 'the position table is missing or zero',
  },
  {
    what: 'q and k of Attention of opset 23 exchanged',
    on: 'transformers-dynamo-opset23',
    edit: (file) => {
      const fused = file.ofType('Attention')[1];
      const [q, k, ...rest] = fused.input!;
      fused.input = [k, q, ...rest];
    },
    layer: 1,
    step: 'attention output',
    mistake: 'q and k are swapped',
  },
  {
    what: "v's bias left out",
    on: 'transformers-dynamo-opset23',
    edit: (file) => {
      const add = file.consumer(weightProducts(file)[2].output![0]);
      file.bypass(add, add.input![0]);
    },
    layer: 0,
    step: 'attention output',
    mistake: "v's bias is missing",
  },
  {
    what: 'tanh in Gelu of opset 20',
    on: 'timm-dynamo-opset20',
    edit: (file) => {
      file.ofType('Gelu')[0].attribute = [{ name: 'approximate', type: 3, s: Buffer.from('tanh') }];
    },
    layer: 0,
    step: 'MLP activation',
    mistake: 'GELU is the tanh approximation instead of the exact erf form',
  },
  {
    what: 'the position table of the other block',
    on: 'transformers-dynamo-opset20',
    edit: (file) => {
      const [first, second] = file.ofType('Softmax').map((softmax) => file.producer(softmax.input![0]));
      second.input = [second.input![0], first.input![1]];
    },
    layer: 1,
    step: 'attention scores',
    mistake: 'the position table is that of layer 0',
  },
  {
    what: 'proj of layer 0 transposed',
    on: 'timm-dynamo-opset20',
    edit: (file) => {
      changeFloats(file, weightProducts(file)[1].input![1], (values) => {
        const copy = values.slice();
        for (let r = 0; r < 32; r++) for (let c = 0; c < 32; c++) values[c * 32 + r] = copy[r * 32 + c];
      });
    },
    layer: 0,
    step: 'projection',
    mistake: 'attn.proj.weight is transposed',
  },
  {
    what: 'FusedMatMul with another alpha',
    on: 'ort-session',
    edit: (file) => {
      const alpha = file.ofType('FusedMatMul')[1].attribute!.find(({ name }) => name === 'alpha')!;
      alpha.f = 1;
    },
    layer: 1,
    step: 'attention scores',
    mistake: 'scores are not scaled by 1/sqrt(d)',
  },
];

it('a fused norm without its inputs is refused by the runtime, and read no further', async () => {
  const broken = exports.fresh();
  editOnnx(pathOf('ort-timm'), broken, (file) => {
    const [fused] = file.ofType('SkipLayerNormalization');
    fused.input = fused.input!.slice(0, 1);
  });
  const report = await verifyModel(broken, models.get('v1_cls_pool')!, { samples: 2, layers: true });
  expect(report.checks.at(-1)).toMatchObject({ name: 'layers', passed: false, notRun: true });
  expect(report.checks.at(-1)!.detail).toContain('4 com.microsoft.SkipLayerNormalization');
  expect(report.layers).toMatchObject({ matched: false });
});

it("our own file that a session optimised and saved is read like any other tool's", async () => {
  const { path, model } = await exports.export('v1_cls');
  const saved = exports.fresh();
  editOnnx(path, saved, (file) => {
    file.model.opsetImport.push(
      { domain: 'ai.onnx.ml', version: 5 },
      { domain: 'com.microsoft', version: 1 },
    );
    const renamed = file.model.graph!.initializer!.find(({ name }) => name === 'head.fc.weight')!;
    for (const node of file.model.graph!.node!)
      node.input = node.input?.map((name) => (name === 'head.fc.weight' ? 'head_transposed' : name));
    renamed.name = 'head_transposed';
  });
  const report = await verifyModel(saved, model, { samples: 2, layers: true });
  expect(report.verdict).toBe('passed');
  expect(report.checks[0].detail).toMatch(
    /^written by convert-beit 0\.0\.0 and saved again by ONNX Runtime: /,
  );
  const broken = exports.fresh();
  editOnnx(saved, broken, (file) => changeFloats(file, 'head_transposed', (values) => values.reverse()));
  expect((await verifyModel(broken, model, { samples: 1 })).verdict).toBe('failed');
});

describe('mistakes', () => {
  it.each(MISTAKES)('$what ($on)', async ({ on, edit, layer, step, mistake }) => {
    const broken = exports.fresh();
    editOnnx(pathOf(on), broken, edit);
    const { golden } = FOREIGN.find(({ file }) => file === on)!;
    const report = await verifyModel(broken, models.get(golden)!, { samples: 2, layers: true });
    expect(report.verdict).toBe('failed');
    const { divergence, suspects } = report.layers!;
    expect({ layer: divergence?.layer, step: divergence?.step }).toEqual({ layer, step });
    expect(suspects[0].mistake).toContain(mistake);
    expect(suspects[0].explainsAll).toBe(true);
  });
});
