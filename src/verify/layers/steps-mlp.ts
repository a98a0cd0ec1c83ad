/**
 * The MLP half of a block, step by step, each with the mistakes that are made there.
 */
import { tokenCount } from '../../beit.js';
import { erf, gelu } from '../erf.js';
import { join, linear, transpose, type Values } from './arithmetic.js';
import { rmsLost } from './narrowing.js';
import { activationNoise, joinNoise, linearVariances, rmsOf, scaleOf } from './noise-steps.js';
import { fitRows, wide, type BlockCase } from './block-case.js';
import { normStep } from './steps-norm.js';
import type { Mistake, Step } from './step.js';

/** Activations that stand in for the exact GELU. */
const ACTIVATIONS: readonly { readonly what: string; readonly of: (z: number) => number }[] = [
  {
    what: 'GELU is the tanh approximation instead of the exact erf form',
    of: (z) => 0.5 * z * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (z + 0.044715 * z ** 3))),
  },
  { what: 'GELU is the sigmoid approximation (quick GELU)', of: (z) => z / (1 + Math.exp(-1.702 * z)) },
  { what: 'the activation is ReLU instead of GELU', of: (z) => Math.max(0, z) },
  { what: 'the activation is SiLU instead of GELU', of: (z) => z / (1 + Math.exp(-z)) },
  { what: 'GELU lacks the division by sqrt(2)', of: (z) => 0.5 * z * (1 + erf(z)) },
  { what: 'GELU lacks the factor 1/2', of: (z) => 2 * gelu(z) },
  { what: 'there is no activation', of: (z) => z },
];

/** Steps of the MLP half in their order, as far as the file shows them. */
export function* mlpSteps(of: BlockCase): Generator<Step> {
  const { config, block, weights, values } = of;
  const { hiddenSize: E, mlpSize: M } = config;
  const { at } = block;
  if (!values.attended || !values.ln2) return;
  const attended = wide(values.attended);
  const ln2 = wide(values.ln2);
  yield normStep({
    name: 'LN2',
    of: weights,
    tensor: `${at}ln2`,
    x: attended,
    found: values.ln2,
    affine: block.ln2,
  });

  const z = linear(ln2, block.fc1, block.fc1Bias, E);
  const right = z.map(gelu);
  const fc1Tensors = [`${at}ffn.layers.0.0.weight`, `${at}ffn.layers.0.0.bias`];
  const activationMistakes = function* (): Generator<Mistake> {
    for (const { what, of: f } of ACTIVATIONS) yield { what, tensors: [], compute: () => z.map(f) };
    const from = (
      what: string,
      names: readonly string[],
      weight: Values,
      bias: Values | undefined,
    ): Mistake => ({
      what,
      tensors: names,
      compute: () => linear(ln2, weight, bias, E).map(gelu),
    });
    yield from('the bias of fc1 is missing', fc1Tensors.slice(1), block.fc1, undefined);
    yield from('fc1.weight is transposed', fc1Tensors.slice(0, 1), transpose(block.fc1, E), block.fc1Bias);
    for (const { where, name, read } of weights.others(at, 'ffn.layers.0.0.weight').slice(0, 4)) {
      yield {
        what: `fc1.weight is that of ${where}`,
        tensors: [fc1Tensors[0], name],
        compute: async () => linear(ln2, await read(), block.fc1Bias, E).map(gelu),
      };
    }
  };
  if (values.activation?.length === right.length) {
    yield {
      name: 'MLP activation',
      tensors: fc1Tensors,
      found: values.activation,
      right,
      noise: activationNoise(ln2, block.fc1, z, right, E),
      narrowed: rmsLost(weights.narrowing?.loss(fc1Tensors[0], ln2, block.fc1, E)),
      mistakes: activationMistakes,
    };
  }

  const activation = values.activation?.length === right.length ? wide(values.activation) : right;
  const mlp = linear(activation, block.fc2, block.fc2Bias, M);
  const mlpNoise = rmsOf(linearVariances(activation, block.fc2, mlp, M));
  const mlpLost = rmsLost(weights.narrowing?.loss(`${at}ffn.layers.1.weight`, activation, block.fc2, M));
  const fc2Tensors = [`${at}ffn.layers.1.weight`, `${at}ffn.layers.1.bias`];
  const mlpMistakes = function* (): Generator<Mistake> {
    yield {
      what: 'the bias of fc2 is missing',
      tensors: fc2Tensors.slice(1),
      compute: () => linear(activation, block.fc2, undefined, M),
    };
    yield {
      what: 'fc2.weight is transposed',
      tensors: fc2Tensors.slice(0, 1),
      compute: () => linear(activation, transpose(block.fc2, M), block.fc2Bias, M),
    };
    if (!values.activation) {
      for (const { what, of: f } of ACTIVATIONS)
        yield { what, tensors: [], compute: () => linear(z.map(f), block.fc2, block.fc2Bias, M) };
    }
    for (const { where, name, read } of weights.others(at, 'ffn.layers.1.weight').slice(0, 4)) {
      yield {
        what: `fc2.weight is that of ${where}`,
        tensors: [fc2Tensors[0], name],
        compute: async () => linear(activation, await read(), block.fc2Bias, M),
      };
    }
  };
  // Pooled before fc2, the file has one row per image here: then the pooling step shows what is wrong.
  const shown = values.mlp?.length === mlp.length;
  if (values.mlp && shown) {
    yield {
      name: 'MLP output',
      tensors: fc2Tensors,
      found: values.mlp,
      right: mlp,
      noise: mlpNoise,
      narrowed: mlpLost,
      mistakes: mlpMistakes,
    };
  }
  if (values.output?.length !== mlp.length) return;
  const branch = values.mlp && shown ? wide(values.mlp) : mlp;
  const output = join(attended, branch, block.gamma2, E);
  yield {
    name: 'second residual',
    tensors: block.gamma2 ? [`${at}gamma_2`] : [],
    found: values.output,
    right: output,
    noise: Math.max(joinNoise(branch, block.gamma2, output), shown ? 0 : mlpNoise * scaleOf(block.gamma2)),
    narrowed: shown ? undefined : mlpLost && mlpLost * scaleOf(block.gamma2),
    *mistakes() {
      yield* residualMistakes(of, { attended, ln2, branch });
      if (!shown) yield* carried(mlpMistakes(), (rows) => join(attended, rows, block.gamma2, E));
    },
  };
}

export function* carried(mistakes: Iterable<Mistake>, carry: (rows: Values) => Values): Generator<Mistake> {
  for (const mistake of mistakes)
    yield { ...mistake, compute: async () => carry((await mistake.compute())!) };
}

/** What can go wrong where the MLP's branch joins the stream. */
export function* residualMistakes(
  { config, block, weights, values }: BlockCase,
  { attended, ln2, branch }: { attended: Values; ln2: Values; branch: Values },
): Generator<Mistake> {
  const { hiddenSize: E } = config;
  const { at } = block;
  const joined = (
    what: string,
    tensors: readonly string[],
    gamma: () => Values | Promise<Values>,
  ): Mistake => ({
    what,
    tensors,
    compute: async () => join(attended, branch, await gamma(), E),
  });
  const { gamma1, gamma2 } = block;
  if (gamma1 && gamma2) {
    yield joined('LayerScale is missing (gamma_2 is not applied)', [`${at}gamma_2`], () =>
      new Float64Array(E).fill(1),
    );
    yield joined('gamma_1 is used in the place of gamma_2', [`${at}gamma_1`, `${at}gamma_2`], () => gamma1);
    yield joined('gamma_2 is applied twice', [`${at}gamma_2`], () => gamma2.map((value) => value * value));
    for (const { where, name, read } of weights.others(at, 'gamma_2')) {
      yield joined(`gamma_2 is that of ${where}`, [`${at}gamma_2`, name], read);
    }
  }
  yield joined('the MLP branch is missing', [], () => new Float64Array(E));
  yield {
    what: 'the residual connection is missing',
    tensors: [],
    compute: () => join(new Float64Array(branch.length), branch, gamma2, E),
  };
  yield {
    what: 'the residual is taken after LN2 instead of before it',
    tensors: [],
    compute: () => join(ln2, branch, gamma2, E),
  };
  const stream = values.input && fitRows(wide(values.input), branch.length, E, tokenCount(config));
  if (stream?.length === branch.length) {
    yield {
      what: 'the residual is taken before the attention instead of after it',
      tensors: [],
      compute: () => join(stream, branch, gamma2, E),
    };
  }
  yield {
    what: "the MLP adds its own input once more (as OpenMMLab's first commit of this backbone did)",
    tensors: [],
    compute: () => join(attended, join(branch, ln2, undefined, E), gamma2, E),
  };
}
