/**
 * The two ends: pixels to tokens, tokens to logits; each with the mistakes that are made there.
 */
import { tokenCount, type BeitConfig } from '../../beit.js';
import { join, linear, meanRows, pickRows, type Values } from './arithmetic.js';
import { linearVariances, meanNoise, rmsOf } from './noise-steps.js';
import { fitRows, wide, type BlockCase } from './steps-attention.js';
import { residualMistakes } from './steps-mlp.js';
import type { Mistake, Step } from './step.js';
import type { Weights } from './weights.js';

const PATCH = 'backbone.patch_embed.projection';

/** How the values of a patch are laid out, given its pixel `[channel, y, x]`; and which patch comes when. */
interface Unfolding {
  readonly columnMajor?: boolean;
  /** channels in the opposite order: BGR */
  readonly reversed?: boolean;
  /** a pixel as the file would see it */
  readonly pixel?: (value: number, channel: number) => number;
}

function unfold(pixels: Values, config: BeitConfig, images: number, how: Unfolding = {}): Values {
  const { channels, patchSize: P, imageSize, window } = config;
  const [height, width] = imageSize;
  const [rows, columns] = window;
  const length = channels * P * P;
  const out = new Float64Array(images * rows * columns * length);
  let to = 0;
  for (let image = 0; image < images; image++) {
    for (let patch = 0; patch < rows * columns; patch++) {
      const [down, across] = how.columnMajor
        ? [patch % rows, Math.floor(patch / rows)]
        : [Math.floor(patch / columns), patch % columns];
      for (let c = 0; c < channels; c++) {
        const channel = how.reversed ? channels - 1 - c : c;
        for (let y = 0; y < P; y++) {
          const from = ((image * channels + channel) * height + down * P + y) * width + across * P;
          for (let x = 0; x < P; x++) {
            const value = pixels[from + x];
            out[to] = how.pixel ? how.pixel(value, channel) : value;
            to += 1;
          }
        }
      }
    }
  }
  return out;
}

/** What a file may do to pixels that are normalised already. */
const NORMALISATIONS: readonly {
  readonly what: string;
  readonly mean: readonly number[];
  readonly std: readonly number[];
}[] = [
  {
    what: 'the graph normalises the pixels once more, with mean 0.5 and std 0.5 (those of v1)',
    mean: [0.5, 0.5, 0.5],
    std: [0.5, 0.5, 0.5],
  },
  {
    what: "the graph normalises the pixels once more, with ImageNet's mean and std (those of v2)",
    mean: [0.485, 0.456, 0.406],
    std: [0.229, 0.224, 0.225],
  },
  { what: 'the graph divides the pixels by 255', mean: [0, 0, 0], std: [255, 255, 255] },
  {
    what: 'the graph normalises the pixels twice: by 255 and then with mean 0.5 and std 0.5',
    mean: [127.5, 127.5, 127.5],
    std: [127.5, 127.5, 127.5],
  },
];

export interface EmbeddingCase {
  readonly weights: Weights;
  readonly images: number;
  readonly pixels: Float32Array;
  readonly found: Float32Array;
}

export async function embeddingStep({
  weights,
  images,
  pixels,
  found,
}: EmbeddingCase): Promise<Step | undefined> {
  const { config } = weights;
  const { hiddenSize: E, channels, patchSize: P } = config;
  const tokens = tokenCount(config);
  const kernel = await weights.tensor(`${PATCH}.weight`);
  const bias = await weights.tensor(`${PATCH}.bias`);
  const classToken = await weights.tensor('backbone.cls_token');
  const positions = config.absolutePosition ? await weights.tensor('backbone.pos_embed') : undefined;
  const inputs = channels * P * P;
  const source = wide(pixels);

  interface Assembly {
    readonly patches?: Values;
    readonly token?: Values;
    readonly positions?: Values | undefined;
    readonly last?: boolean;
  }
  const patches = unfold(source, config, images);
  const projected = linear(patches, kernel, bias, inputs);
  const assemble = (how: Assembly = {}): Values => {
    const from = how.patches ?? projected;
    const shift = 'positions' in how ? how.positions : positions;
    const out = new Float64Array(images * tokens * E);
    for (let image = 0; image < images; image++) {
      const at = image * tokens * E;
      const own = from.subarray(image * (tokens - 1) * E, (image + 1) * (tokens - 1) * E);
      out.set(own, how.last ? at : at + E);
      out.set(how.token ?? classToken, how.last ? at + (tokens - 1) * E : at);
      if (shift) for (let i = 0; i < tokens * E; i++) out[at + i] += shift[i];
    }
    return out;
  };
  const right = assemble();
  if (found.length !== right.length) return undefined;
  const tensors = [
    `${PATCH}.weight`,
    `${PATCH}.bias`,
    'backbone.cls_token',
    ...(positions ? ['backbone.pos_embed'] : []),
  ];
  const unfolded = (what: string, how: Unfolding, names: readonly string[] = []): Mistake => ({
    what,
    tensors: names,
    compute: () => assemble({ patches: linear(unfold(source, config, images, how), kernel, bias, inputs) }),
  });
  return {
    name: 'embedding',
    tensors,
    found,
    right,
    noise: rmsOf(linearVariances(patches, kernel, projected, inputs)),
    *mistakes() {
      for (const { what, mean, std } of NORMALISATIONS) {
        yield unfolded(what, { pixel: (value, c) => (value - mean[c % 3]) / std[c % 3] });
      }
      for (const { what, mean, std } of NORMALISATIONS.slice(0, 2)) {
        yield unfolded(
          what.replace('normalises the pixels once more', 'takes the normalisation of the pixels back'),
          {
            pixel: (value, c) => value * std[c % 3] + mean[c % 3],
          },
        );
      }
      yield unfolded('the channels are in the opposite order (BGR instead of RGB)', { reversed: true });
      yield unfolded('the patches are in column-major order: x and y of the window change roles', {
        columnMajor: true,
      });
      yield {
        what: 'the patch kernel is transposed: x and y of a patch change roles',
        tensors: [tensors[0]],
        compute: () => assemble({ patches: linear(patches, turnedKernel(kernel, P), bias, inputs) }),
      };
      yield {
        what: 'the patch kernel is read as [P, P, channels]',
        tensors: [tensors[0]],
        compute: () =>
          assemble({ patches: linear(patches, channelsLast(kernel, channels, P), bias, inputs) }),
      };
      yield {
        what: 'the bias of the patch projection is missing',
        tensors: [tensors[1]],
        compute: () => assemble({ patches: linear(patches, kernel, undefined, inputs) }),
      };
      yield {
        what: 'the class token is zero',
        tensors: ['backbone.cls_token'],
        compute: () => assemble({ token: new Float64Array(E) }),
      };
      yield {
        what: 'the class token comes last instead of first',
        tensors: ['backbone.cls_token'],
        compute: () => assemble({ last: true }),
      };
      if (!positions) return;
      const place = (what: string, other: Values | undefined): Mistake => ({
        what,
        tensors: ['backbone.pos_embed'],
        compute: () => assemble({ positions: other }),
      });
      yield place('pos_embed is missing or zero', undefined);
      const withoutClass = positions.slice().fill(0, 0, E);
      yield place('pos_embed is not added to the class token', withoutClass);
      const shifted = new Float64Array(positions.length);
      shifted.set(positions.subarray(0, -E), E);
      yield place('pos_embed is shifted by one row', shifted);
    },
  };
}

/** `[out, C, P, P]` with the two sides of a patch exchanged. */
function turnedKernel(kernel: Values, P: number): Values {
  return kernel.map((_, i) => {
    const x = i % P;
    const y = Math.floor(i / P) % P;
    return kernel[i - x - y * P + x * P + y];
  });
}

function channelsLast(kernel: Values, channels: number, P: number): Values {
  const size = channels * P * P;
  return kernel.map((_, i) => {
    const [row, rest] = [Math.floor(i / size) * size, i % size];
    const [c, pixel] = [Math.floor(rest / (P * P)), rest % (P * P)];
    return kernel[row + pixel * channels + c];
  });
}

/**
 * From the last block to what enters the last norm. Where the file pools before fc2 (the mean of a linear layer is the
 * linear layer of the mean), its last block shows no tokens: then this step begins at the MLP's activation.
 */
export function poolingStep(of: BlockCase, found: Float32Array): Step | undefined {
  const { config, images, block, values } = of;
  const { hiddenSize: E, mlpSize: M } = config;
  const tokens = tokenCount(config);
  const at = `backbone.layers.${block.layer}.`;
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
  const mean = config.pooling === 'mean';
  const pool = (of: Values): Values | undefined => {
    if (mean) return meanRows(of, E, group, whole ? 1 : 0);
    return group === 1 ? of : pickRows(of, E, group, 0, 1);
  };
  // The norm before the pooling: tokens pass as they are.
  const passes = found.length === rows.length && group > 1;
  const right = passes ? rows : pool(rows);
  if (right?.length !== found.length) return undefined;
  const noise = mean && !passes ? meanNoise(rows, right, group) : 0;
  const carried = branch
    ? rmsOf(linearVariances(wide(values.activation!), block.fc2, branch, M)) *
      Math.sqrt(block.gamma2 ? rmsOf(block.gamma2.map((g) => g * g)) : 1)
    : 0;
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
