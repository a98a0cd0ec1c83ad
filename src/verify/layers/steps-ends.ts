/**
 * Tokens to logits, with the mistakes that are made there.
 */
import { tokenCount } from '../../beit.js';
import { join, linear, meanRows, pickRows, type Values } from './arithmetic.js';
import { fitRows, wide, type BlockCase } from './block-case.js';
import { rmsLost } from './narrowing.js';
import { linearVariances, meanNoise, rmsOf, scaleOf } from './noise-steps.js';
import { residualMistakes } from './steps-mlp.js';
import type { Mistake, Step } from './step.js';
import type { Weights } from './weights.js';

/**
 * From the last block to what enters the last norm. Where the file pools before fc2 (the mean of a linear layer is the
 * linear layer of the mean), its last block shows no tokens: then this step begins at the MLP's activation.
 */
export function poolingStep(of: BlockCase, found: Float32Array, mean: boolean): Step | undefined {
  const { config, images, block, values, weights } = of;
  const { hiddenSize: E, mlpSize: M } = config;
  const tokens = tokenCount(config);
  const { at } = block;
  let rows: Values;
  let branch: Values | undefined;
  const attended = values.attended && wide(values.attended);
  if (values.output) rows = wide(values.output);
  else if (attended && values.activation) {
    branch = linear(wide(values.activation), block.fc2, block.fc2Bias, M);
    if (branch.length !== attended.length) return undefined;
    rows = join(attended, branch, block.gamma2, E);
  } else return undefined;

  const group = rows.length / (images * E);
  const whole = group === tokens;
  const pool = (of: Values, width = E): Values => {
    if (mean) return meanRows(of, width, group, whole ? 1 : 0);
    return group === 1 ? of : pickRows(of, width, group, 0, 1);
  };
  // The norm before the pooling: tokens pass as they are.
  const passes = found.length === rows.length && group > 1;
  const right = passes ? rows : pool(rows);
  if (right.length !== found.length) return undefined;
  const noise = mean && !passes ? meanNoise(rows, right, group) : 0;
  const carried = branch
    ? rmsOf(linearVariances(wide(values.activation!), block.fc2, branch, M)) * scaleOf(block.gamma2)
    : 0;
  // fc2 comes after the pooling there.
  const lost =
    branch &&
    rmsLost(
      weights.narrowing?.loss(`${at}ffn.layers.1.weight`, pool(wide(values.activation!), M), block.fc2, M),
    );
  return {
    name: 'pooling',
    tensors: branch
      ? [`${at}ffn.layers.1.weight`, `${at}ffn.layers.1.bias`, ...(block.gamma2 ? [`${at}gamma_2`] : [])]
      : [],
    found,
    right,
    noise: Math.max(
      noise,
      carried,
      2 ** -24 * Math.sqrt(0.18 * (right.reduce((s, v) => s + v * v, 0) / right.length)),
    ),
    narrowed: lost && lost * scaleOf(block.gamma2),
    *mistakes() {
      if (whole) {
        yield {
          what: 'the mean includes the class token',
          tensors: [],
          compute: () => meanRows(rows, E, group),
        };
        yield {
          what: 'the class token is used instead of the mean over the patches',
          tensors: [],
          compute: () => pickRows(rows, E, group, 0, 1),
        };
        yield {
          what: 'the mean over the patches is used instead of the class token',
          tensors: [],
          compute: () => meanRows(rows, E, group, 1),
        };
      }
      yield {
        what: 'the first patch is used instead of the pooled tokens',
        tensors: [],
        compute: () => (group > 1 ? pickRows(rows, E, group, whole ? 1 : 0, whole ? 2 : 1) : undefined),
      };
      yield {
        what: 'the largest value over the patches is used instead of the mean',
        tensors: [],
        compute: () => largest(rows, E, group, whole ? 1 : 0),
      };
      if (!branch || !attended || !values.ln2) return;
      const own = branch;
      const all = function* (): Generator<Mistake> {
        yield* residualMistakes(of, { attended, ln2: wide(values.ln2!), branch: own });
        yield {
          what: 'the bias of fc2 is missing',
          tensors: [`${at}ffn.layers.1.bias`],
          compute: () =>
            join(attended, linear(wide(values.activation!), block.fc2, undefined, M), block.gamma2, E),
        };
      };
      for (const mistake of all()) {
        yield { ...mistake, compute: async () => pool((await mistake.compute())!) };
      }
    },
  };
}

function largest(rows: Values, width: number, group: number, skip: number): Values {
  const out = new Float64Array(rows.length / group).fill(-Infinity);
  rows.forEach((value, i) => {
    const row = Math.floor(i / width) % group;
    const at = Math.floor(i / (width * group)) * width + (i % width);
    if (row >= skip) out[at] = Math.max(out[at], value);
  });
  return out;
}

export interface HeadCase {
  readonly weights: Weights;
  readonly images: number;
  readonly features: Float32Array;
  readonly found: Float32Array;
}

export async function headStep({ weights, images, features, found }: HeadCase): Promise<Step | undefined> {
  const { config } = weights;
  const { hiddenSize: E, classes } = config;
  const weight = await weights.tensor('head.fc.weight');
  const bias = await weights.tensor('head.fc.bias');
  const group = features.length / (images * E);
  const all = wide(features);
  // All tokens normalised: mean pooling after the norm, or the class token of them.
  const pooled =
    group === 1
      ? all
      : config.pooling === 'mean'
        ? meanRows(all, E, group, 1)
        : fitRows(all, images * E, E, group)!;
  const right = linear(pooled, weight, bias, E);
  if (found.length !== right.length) return undefined;
  const tensors = ['head.fc.weight', 'head.fc.bias'];
  const each = (f: (row: Values) => Values): Values => {
    const out = new Float64Array(right.length);
    for (let at = 0; at < right.length; at += classes) out.set(f(right.subarray(at, at + classes)), at);
    return out;
  };
  const exponentials = (row: Values): Values => {
    const top = row.reduce((a, b) => Math.max(a, b), -Infinity);
    const powers = row.map((value) => Math.exp(value - top));
    const total = powers.reduce((a, b) => a + b, 0);
    return powers.map((value) => value / total);
  };
  return {
    name: 'logits',
    tensors,
    found,
    right,
    noise: rmsOf(linearVariances(pooled, weight, right, E)),
    narrowed: rmsLost(weights.narrowing?.loss(tensors[0], pooled, weight, E)),
    *mistakes() {
      yield {
        what: 'the output is a softmax of the logits, not the logits',
        tensors: [],
        compute: () => each(exponentials),
      };
      yield {
        what: 'the output is the logarithm of a softmax, not the logits',
        tensors: [],
        compute: () => each((row) => exponentials(row).map(Math.log)),
      };
      yield {
        what: 'the output is a sigmoid of the logits, not the logits',
        tensors: [],
        compute: () => right.map((value) => 1 / (1 + Math.exp(-value))),
      };
      yield {
        what: 'the bias of the head is missing',
        tensors: tensors.slice(1),
        compute: () => linear(pooled, weight, undefined, E),
      };
      yield {
        what: 'the classes are in the opposite order',
        tensors,
        compute: () => each((row) => row.slice().reverse()),
      };
      if (group > 1) {
        yield {
          what: 'the class token is used instead of the mean over the patches',
          tensors: [],
          compute: () => linear(pickRows(all, E, group, 0, 1), weight, bias, E),
        };
        yield {
          what: 'the mean over the patches is used instead of the class token',
          tensors: [],
          compute: () => linear(meanRows(all, E, group, 1), weight, bias, E),
        };
        yield {
          what: 'the mean includes the class token',
          tensors: [],
          compute: () => linear(meanRows(all, E, group), weight, bias, E),
        };
      }
    },
  };
}
