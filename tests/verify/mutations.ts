/** Ways to get a BEiT file wrong, each as an edit of a right one. */
import type { BeitConfig } from '../../src/beit.js';
import { WEIGHTS, weight, type Mutation } from './mutations-weights.js';
import { only, type Node, type OnnxEditor } from '../support/onnx-edit.js';

const INDEX = 'relative_position_index';

function changeIndex(change: (index: Int32Array, config: BeitConfig) => Int32Array) {
  return (file: OnnxEditor, config: BeitConfig): void => {
    const tensor = file.initializer(INDEX);
    const changed = change(new Int32Array(tensor.rawData!.slice().buffer), config);
    tensor.rawData = new Uint8Array(changed.buffer);
  };
}

/** The Split of layer 1's qkv. */
function split(file: OnnxEditor): Node {
  const gemm = file.consumer(weight('attn.qkv.weight'));
  return file.consumer(gemm.output![0]);
}

function biasConcat(file: OnnxEditor): Node {
  return file.consumer(weight('attn.v_bias'));
}

/** erf(u) replaced by tanh(sqrt(2/pi) (x + 0.044715 x^3)) with x = u sqrt 2. */
function tanhGelu(file: OnnxEditor): void {
  const a = file.addFloats('tanh.a', [], Float32Array.of(Math.sqrt(2 / Math.PI) * Math.SQRT2));
  const b = file.addFloats('tanh.b', [], Float32Array.of(0.044715 * 2));
  const one = file.addFloats('tanh.one', [], Float32Array.of(1));
  for (const erf of file.ofType('Erf')) {
    const [u] = erf.input!;
    const [out] = erf.output!;
    file.insertBefore(
      erf,
      { opType: 'Mul', input: [u, u], output: [`${out}.square`] },
      { opType: 'Mul', input: [`${out}.square`, b], output: [`${out}.scaled`] },
      { opType: 'Add', input: [`${out}.scaled`, one], output: [`${out}.cubic`] },
      { opType: 'Mul', input: [u, `${out}.cubic`], output: [`${out}.inner`] },
      { opType: 'Mul', input: [`${out}.inner`, a], output: [`${out}.argument`] },
    );
    erf.opType = 'Tanh';
    erf.input = [`${out}.argument`];
  }
}

function epsilon(value: number): (file: OnnxEditor) => void {
  return (file) => {
    for (const node of file.ofType('LayerNormalization')) {
      only(
        node.attribute!.filter(({ name }) => name === 'epsilon'),
        'epsilon',
      ).f = value;
    }
  };
}

/** The class token takes part in the mean. */
function poolEverything(file: OnnxEditor, { window, hiddenSize, mlpSize }: BeitConfig): void {
  const patches = window[0] * window[1];
  const slice = only(
    file.ofType('Slice').filter(({ name }) => name!.includes('patch_tokens')),
    'patch_tokens',
  );
  slice.input![1] = file.addInt64('pool.start', [0]);
  for (const node of file.ofType('Reshape')) {
    const shape = file.int64(node.input![1]);
    if (String(shape) !== String([-1, patches, mlpSize])) continue;
    // The mean over patches of the embedding has the same shape where M = E; the goldens have not.
    if (mlpSize === hiddenSize) throw new Error('ambiguous');
    node.input![1] = file.addInt64('pool.shape', [-1, patches + 1, mlpSize]);
  }
}

function withoutGamma(file: OnnxEditor): Node {
  const mul = file.consumer(weight('gamma_1'));
  file.bypass(
    mul,
    mul.input!.find((name) => name !== weight('gamma_1'))!,
  );
  return mul;
}

const softmaxOf = (file: OnnxEditor): Node => file.ofType('Softmax')[0];

/** All weights are the source's bytes: what is done with them is wrong. */
const GRAPH: readonly Mutation[] = [
  {
    what: 'q and k change places after the split',
    cases: ['v1_cls', 'v2_no_qkv_bias', 'v1_no_pos'],
    edit: (file) => {
      const node = split(file);
      const [q, k, v] = node.output!;
      node.output = [k, q, v];
    },
    caughtBy: ['logits'],
    finding: 'noise units',
  },
  {
    what: "v's bias is put on k",
    cases: ['v1_cls', 'v2_cls', 'v1_no_layerscale'],
    edit: (file) => {
      const node = biasConcat(file);
      const [q, none, v] = node.input!;
      node.input = [q, v, none];
    },
    caughtBy: ['logits'],
    finding: 'noise units',
  },
  {
    what: 'tanh GELU',
    cases: ['v1_cls', 'v1_stress', 'v1_eps', 'v1_cls_pool'],
    edit: tanhGelu,
    caughtBy: ['structure', 'logits'],
    finding: "a tanh GELU; BEiT's is the exact erf form",
  },
  {
    what: 'epsilon 1e-12',
    cases: ['v1_cls'],
    edit: epsilon(1e-12),
    caughtBy: ['structure'],
    finding: 'LayerNormalization has epsilon 1e-12 instead of 0.000001',
  },
  {
    what: 'epsilon 1e-12 where activations are small',
    cases: ['v1_eps'],
    edit: epsilon(1e-12),
    caughtBy: ['structure', 'logits'],
    finding: 'noise units',
  },
  {
    what: 'epsilon 1e-5, as torch.nn.LayerNorm has by itself',
    cases: ['v1_cls', 'v1_patch14', 'v1_eps'],
    edit: epsilon(1e-5),
    caughtBy: ['structure', 'logits'],
    finding: 'LayerNormalization has epsilon 0.00001 instead of 0.000001',
  },
  {
    what: 'the window is transposed',
    cases: ['v1_cls', 'v1_nonsquare', 'v1_shared_rel'],
    edit: changeIndex((_, { window: [rows, columns] }) => {
      // As if the window were [columns, rows]: x and y change roles everywhere, the patches stay in their order.
      const tokens = rows * columns + 1;
      const last = (2 * rows - 1) * (2 * columns - 1) + 3;
      return Int32Array.from({ length: tokens * tokens }, (_each, i) => {
        const [query, key] = [Math.floor(i / tokens), i % tokens];
        if (query === 0 || key === 0) return query === 0 ? (key === 0 ? last - 1 : last - 3) : last - 2;
        const at = (patch: number): [number, number] => [Math.floor(patch / rows), patch % rows];
        const [a, b] = [at(query - 1), at(key - 1)];
        return (a[1] - b[1] + rows - 1) * (2 * columns - 1) + (a[0] - b[0] + columns - 1);
      });
    }),
    caughtBy: ['inventory', 'logits'],
    finding: 'relative_position_index is not that of a window of',
  },
  {
    what: 'the index is read along its columns',
    cases: ['v1_cls', 'v1_nonsquare'],
    edit: changeIndex((index) => {
      const tokens = Math.sqrt(index.length);
      return index.map((_, i) => index[(i % tokens) * tokens + Math.floor(i / tokens)]);
    }),
    caughtBy: ['inventory', 'logits'],
    finding: 'relative_position_index is not that of a window of',
  },
  {
    what: 'the index is off by one',
    cases: ['v1_cls', 'v1_patch16'],
    edit: changeIndex((index, { window: [rows, columns] }) => {
      const last = (2 * rows - 1) * (2 * columns - 1) + 2;
      return index.map((row) => Math.min(row + 1, last));
    }),
    caughtBy: ['inventory', 'logits'],
    finding: 'relative_position_index is not that of a window of',
  },
  {
    what: 'proj is used the other way round',
    cases: ['v1_cls', 'v1_cls_pool'],
    edit: (file) => {
      const gemm = file.consumer(weight('attn.proj.weight'));
      only(
        gemm.attribute!.filter(({ name }) => name === 'transB'),
        'transB',
      ).i = 0;
    },
    caughtBy: ['logits'],
    finding: 'noise units',
  },
  {
    what: 'the mean includes the class token',
    cases: ['v1_cls', 'v1_gray', 'v1_indivisible', 'v1_no_layerscale'],
    edit: poolEverything,
    caughtBy: ['logits'],
    finding: 'noise units',
  },
  {
    what: 'gamma_1 and gamma_2 are used in each other’s place',
    cases: ['v1_cls'],
    edit: (file) => {
      const [one, two] = [file.consumer(weight('gamma_1')), file.consumer(weight('gamma_2'))];
      file.replaceInput(one, weight('gamma_1'), weight('gamma_2'));
      file.replaceInput(two, weight('gamma_2'), weight('gamma_1'));
    },
    caughtBy: ['logits'],
    finding: 'noise units',
  },
  {
    what: 'LayerScale is left out, its tensor stays',
    cases: ['v1_cls', 'v2_cls'],
    edit: (file) => void withoutGamma(file),
    caughtBy: ['inventory', 'logits'],
    finding: 'backbone.layers.1.gamma_1 is in the file, but the logits do not depend on it',
  },
  {
    what: 'LayerScale is left out with its tensor',
    cases: ['v1_cls'],
    edit: (file) => {
      withoutGamma(file);
      file.removeInitializer(weight('gamma_1'));
    },
    caughtBy: ['inventory', 'logits'],
    finding: 'backbone.layers.1.gamma_1 is missing',
  },
  {
    what: 'scores are not scaled',
    cases: ['v1_cls', 'v1_stress'],
    edit: (file) => {
      const reshape = file.consumer(split(file).output![0]);
      const transpose = file.consumer(reshape.output![0]);
      const mul = file.consumer(transpose.output![0]);
      file.bypass(mul, transpose.output![0]);
    },
    caughtBy: ['logits'],
    finding: 'noise units',
  },
  {
    what: 'softmax over the queries',
    cases: ['v1_cls'],
    edit: (file) => {
      only(
        softmaxOf(file).attribute!.filter(({ name }) => name === 'axis'),
        'axis',
      ).i = -2;
    },
    caughtBy: ['logits'],
    finding: 'noise units',
  },
  {
    what: 'one Softmax is gone',
    cases: ['v1_cls'],
    edit: (file) => file.bypass(softmaxOf(file), softmaxOf(file).input![0]),
    caughtBy: ['structure', 'logits'],
    finding: '2 Softmax nodes; this config needs 3',
  },
  {
    what: 'the bias of proj is left out',
    cases: ['v1_cls'],
    edit: (file) => {
      const name = weight('attn.proj.bias');
      file.consumer(name).input!.pop();
      file.removeInitializer(name);
    },
    caughtBy: ['inventory', 'logits'],
    finding: 'backbone.layers.1.attn.proj.bias is missing',
  },
  {
    what: 'a tensor that the source has not',
    cases: ['v1_cls'],
    edit: (file) => void file.addFloats('extra', [100], new Float32Array(100)),
    caughtBy: ['inventory'],
    finding: 'extra f32[100] is no tensor of the source',
  },
  {
    what: 'images of a batch are mixed',
    cases: ['v1_cls'],
    edit: (file) => {
      // Nothing changes as long as an image is alone.
      file.producer('logits').output = ['own'];
      file.append(
        {
          opType: 'ReduceMean',
          input: ['own'],
          output: ['mean'],
          attribute: [{ name: 'axes', type: 7, ints: [0] }],
        },
        { opType: 'Sub', input: ['own', 'mean'], output: ['difference'] },
        { opType: 'Add', input: ['own', 'difference'], output: ['logits'] },
      );
    },
    caughtBy: ['logits'],
    finding: 'noise units',
  },
];

export const MUTATIONS: readonly Mutation[] = [...WEIGHTS, ...GRAPH];
