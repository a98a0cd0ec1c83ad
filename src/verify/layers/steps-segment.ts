/**
 * UPerNet's parts one by one, each from what the file itself computed before it, with the mistakes that are made there.
 *
 * @see mmsegmentation `models/decode_heads/uper_head.py`, `psp_head.py`
 */
import type { Task } from '../../task.js';
import { asFloat32, readFloat32 } from '../../tensor.js';
import { gelu } from '../erf.js';
import { Conv3x3, bilinear, pointwise, type Readable, type Size } from '../oracle-grid.js';
import { BATCH_NORM_EPS, averages, choosePlaces, transposed } from '../oracle-segment.js';
import { ROUND, UNIT, dotNoise } from '../noise.js';
import type { Values } from './arithmetic.js';
import { wide } from './block-case.js';
import { Maps, atPlaces, foundAt } from './maps.js';
import { carriedNoise, meanSquare } from './noise-steps.js';
import type { SegmentProbes } from './probes-segment.js';
import { mapMistakes, mapOf, type OtherTokens } from './steps-tokens.js';
import type { Mistake, Step } from './step.js';
import type { Weights } from './weights.js';

export interface SegmentCase {
  readonly weights: Weights;
  readonly images: number;
  readonly task: Extract<Task, { name: 'segment' }>;
  readonly probes: SegmentProbes;
  readonly logits: string;
  /** `[images, T, E]` of the file: [0] tokens entering block 0, [k] after block k */
  tokens(state: number): Values | undefined;
  fetch(names: readonly string[]): Promise<Map<string, Float32Array>>;
}

type Place = (image: number, place: number) => Float64Array;

/** The parts in the order of the computation. */
export async function* segmentSteps(of: SegmentCase): AsyncGenerator<Step> {
  const { weights, images, task, probes, fetch } = of;
  const { config } = weights;
  const [h, w] = config.window;
  const sizes: readonly Size[] = [
    [4 * h, 4 * w],
    [2 * h, 2 * w],
    [h, w],
    [Math.floor(h / 2), Math.floor(w / 2)],
  ];
  const maps = async (name: string, size: Size): Promise<Maps> =>
    new Maps((await fetch([name])).get(name)!, images, size);
  const { grown, halved, laterals, cells, bottleneck, levels, fusion, classes } = probes;

  const taken = [grown[0].input, grown[2].input, laterals[2].input, halved.input];
  for (const [level, name] of taken.entries()) {
    const found = (await fetch([name])).get(name)!;
    const step = featureMapStep(of, level, found);
    if (step) yield step;
  }
  const first = await maps(grown[0].input, sizes[2]);
  const double = await maps(grown[0].output, sizes[1]);
  yield await grownStep(of, 'fpn1, first half', 'backbone.fpn1.0', first, double);
  const activated = await maps(grown[1].input, sizes[1]);
  yield await activatedStep(of, double, activated);
  yield await grownStep(
    of,
    'fpn1, second half',
    'backbone.fpn1.3',
    activated,
    await maps(grown[1].output, sizes[0]),
  );
  yield await grownStep(
    of,
    'fpn2',
    'backbone.fpn2.0',
    await maps(grown[2].input, sizes[2]),
    await maps(grown[2].output, sizes[1]),
  );
  const pooled = await maps(halved.output, sizes[3]);
  yield halvedStep(await maps(halved.input, sizes[2]), pooled);

  for (const [i, part] of laterals.entries()) {
    yield await convStep(of, {
      name: `lateral convolution ${i}`,
      tensor: `decode_head.lateral_convs.${i}`,
      size: sizes[i],
      kernel: 1,
      input: await maps(part.input, sizes[i]),
      output: await maps(part.output, sizes[i]),
    });
  }
  const { poolScales } = config.segmentation!;
  const grown4: Maps[] = [];
  for (const [i, part] of cells.entries()) {
    const size: Size = [poolScales[i], poolScales[i]];
    const input = await maps(part.input, size);
    const output = await maps(part.output, size);
    yield cellsStep(`averages over ${poolScales[i]}×${poolScales[i]} cells`, pooled, input);
    yield await convStep(of, {
      name: `convolution of the ${poolScales[i]}×${poolScales[i]} cells`,
      tensor: `decode_head.psp_modules.${i}.1`,
      size,
      kernel: 1,
      input,
      output,
    });
    grown4.push(output);
  }
  const coarsest = await maps(bottleneck.output, sizes[3]);
  yield await joinedStep(of, {
    name: 'bottleneck of the pooled cells',
    tensor: 'decode_head.bottleneck',
    size: sizes[3],
    parts: [pooled, ...grown4],
    output: coarsest,
  });

  let above = coarsest;
  const sums: Maps[] = [];
  for (let i = 2; i >= 0; i--) {
    const own = await maps(laterals[i].output, sizes[i]);
    sums[i] = await maps(levels[i].input, sizes[i]);
    yield sumStep(`sum of the levels ${i} and ${i + 1}`, own, above, sums[i]);
    above = sums[i];
  }
  const outputs: Maps[] = [];
  for (const [i, part] of levels.entries()) {
    outputs.push(await maps(part.output, sizes[i]));
    yield await convStep(of, {
      name: `convolution of level ${i}`,
      tensor: `decode_head.fpn_convs.${i}`,
      size: sizes[i],
      kernel: 3,
      input: sums[i],
      output: outputs[i],
    });
  }
  const fused = await maps(fusion.output, sizes[0]);
  yield await joinedStep(of, {
    name: 'fusion of the levels',
    tensor: 'decode_head.fpn_bottleneck',
    size: sizes[0],
    parts: [...outputs, coarsest],
    output: fused,
  });
  const scores = await maps(classes.output, sizes[0]);
  yield await classesStep(of, fused, scores);
  if (task.upsample) yield upsampledStep(scores, await maps(of.logits, config.imageSize));
  else if (of.logits !== classes.output) {
    const found = (await fetch([of.logits])).get(of.logits)!;
    yield {
      name: 'logits',
      tensors: [],
      found,
      right: wide(scores.values as Float32Array),
      noise: carriedNoise(wide(found)),
      *mistakes() {},
    };
  }
}

function featureMapStep(of: SegmentCase, level: number, found: Float32Array): Step | undefined {
  const { weights, task } = of;
  const { config } = weights;
  const tap = task.taps[level];
  const tokens = of.tokens(tap);
  if (!tokens) return undefined;
  const first = config.classToken ? 1 : 0;
  const right = mapOf(config, tokens, first);
  if (right.length !== found.length) return undefined;
  const others: OtherTokens[] = [];
  for (let state = 0; state <= config.depth; state++) {
    const values = state === tap ? undefined : of.tokens(state);
    if (values)
      others.push({ where: state === 0 ? 'before the first block' : `after block ${state - 1}`, values });
  }
  return {
    name: `feature map ${level}`,
    tensors: [],
    found,
    right,
    noise: carriedNoise(right),
    *mistakes() {
      for (const { where, values } of others)
        yield {
          what: `the tokens are those ${where} instead of those after block ${tap - 1}`,
          tensors: [],
          compute: () => mapOf(config, values, first),
        };
      yield* mapMistakes(config, tokens);
    },
  };
}

interface Normed {
  readonly weight: Float64Array;
  readonly bias: Float64Array;
  readonly mean: Float64Array;
  readonly variance: Float64Array;
}

async function batchNormOf(weights: Weights, name: string): Promise<Normed> {
  const [weight, bias, mean, variance] = await Promise.all(
    ['weight', 'bias', 'running_mean', 'running_var'].map((part) => weights.tensor(`${name}.${part}`)),
  );
  return { weight, bias, mean, variance };
}

interface NormHow {
  readonly eps?: number;
  readonly without?: 'norm' | 'weight' | 'bias' | 'mean' | 'relu';
  readonly unrooted?: boolean;
}

function normalised(
  x: Float64Array,
  { weight, bias, mean, variance }: Normed,
  how: NormHow = {},
): Float64Array {
  const { eps = BATCH_NORM_EPS, without, unrooted } = how;
  if (without === 'norm') return x;
  return x.map((value, c) => {
    const scale = unrooted ? variance[c] + eps : Math.sqrt(variance[c] + eps);
    const centred = without === 'mean' ? value : value - mean[c];
    return (centred / scale) * (without === 'weight' ? 1 : weight[c]) + (without === 'bias' ? 0 : bias[c]);
  });
}

/** Mistakes in a BatchNorm and the ReLU behind it. */
const NORM_MISTAKES: readonly {
  readonly what: string;
  readonly how: NormHow;
  readonly parts: readonly string[];
}[] = [
  { what: 'BatchNorm has epsilon 0.001 instead of 0.00001', how: { eps: 1e-3 }, parts: [] },
  { what: 'BatchNorm has epsilon 1e-12 instead of 0.00001', how: { eps: 1e-12 }, parts: [] },
  {
    what: 'BatchNorm is missing',
    how: { without: 'norm' },
    parts: ['weight', 'bias', 'running_mean', 'running_var'],
  },
  { what: 'BatchNorm has no weight', how: { without: 'weight' }, parts: ['weight'] },
  { what: 'BatchNorm has no bias', how: { without: 'bias' }, parts: ['bias'] },
  { what: 'BatchNorm does not take its running mean off', how: { without: 'mean' }, parts: ['running_mean'] },
  {
    what: 'BatchNorm divides by the variance instead of its root',
    how: { unrooted: true },
    parts: ['running_var'],
  },
  { what: 'there is no ReLU', how: { without: 'relu' }, parts: [] },
];

const relu = (x: Float64Array): Float64Array => x.map((value) => Math.max(0, value));

/** rms error of a convolution: its sums, then BatchNorm's roundings. */
function convNoise(
  terms: number,
  weights: ArrayLike<number>,
  x: number,
  norm: Normed | undefined,
  out: Values,
): number {
  const sums = dotNoise(terms) * UNIT ** 2 * terms * meanSquare(weights) * x;
  let gain = 1;
  let shift = 0;
  if (norm) {
    gain = 0;
    norm.weight.forEach((value, c) => {
      const square = value ** 2 / (norm.variance[c] + BATCH_NORM_EPS);
      gain += square / norm.weight.length;
      shift += (square * norm.mean[c] ** 2 + norm.bias[c] ** 2) / norm.weight.length;
    });
  }
  const values = terms * meanSquare(weights) * x;
  return (
    Math.sqrt(gain * (sums + 2 * ROUND * values) + 3 * ROUND * (shift + meanSquare(out))) || Number.MIN_VALUE
  );
}

interface ConvCase {
  readonly name: string;
  /** canonical name without `.conv.weight`, `.bn.…` */
  readonly tensor: string;
  readonly size: Size;
  readonly output: Maps;
}

/** Whatever makes the input of a convolution at a place and around it. */
async function moduleStep(
  of: SegmentCase,
  { name, tensor, size, output }: ConvCase,
  kernel: 1 | 3,
  channels: number,
  input: (image: number) => Readable,
  inputSquare: number,
  more: (run: (source: (image: number) => Readable) => Values) => Iterable<Mistake>,
): Promise<Step> {
  const { weights, images } = of;
  const matrix = await readFloat32(asFloat32(weights.tensors.get(`${tensor}.conv.weight`)!));
  const norm = await batchNormOf(weights, `${tensor}.bn`);
  const outputs = matrix.length / (channels * kernel * kernel);
  const places = choosePlaces(size, size[0] * size[1] * matrix.length * images);
  const run = (source: (image: number) => Readable, how: NormHow = {}, kernels = matrix): Values => {
    const conv = kernel === 3 ? new Conv3x3(kernels, size) : undefined;
    const at: Place = (image, place) => {
      const from = source(image);
      const sum = conv ? conv.at(from, place) : pointwise(kernels, from.get(place)!);
      const value = normalised(sum, norm, how);
      return how.without === 'relu' ? value : relu(value);
    };
    return atPlaces(images, places, outputs, at);
  };
  const right = run(input);
  return {
    name,
    tensors: [
      `${tensor}.conv.weight`,
      ...['weight', 'bias', 'running_mean', 'running_var'].map((part) => `${tensor}.bn.${part}`),
    ],
    found: foundAt(output, places),
    right,
    product: true,
    noise: convNoise(channels * kernel * kernel, matrix, inputSquare, norm, right),
    *mistakes() {
      for (const { what, how, parts } of NORM_MISTAKES)
        yield { what, tensors: parts.map((part) => `${tensor}.bn.${part}`), compute: () => run(input, how) };
      if (kernel === 3) {
        const turn = (what: string, from: (y: number, x: number) => number): Mistake => ({
          what,
          tensors: [`${tensor}.conv.weight`],
          compute: () =>
            run(
              input,
              {},
              matrix.map((_, i) => matrix[i - (i % 9) + from(Math.floor((i % 9) / 3), i % 3)]),
            ),
        });
        yield turn('the kernel is transposed: x and y change roles', (y, x) => 3 * x + y);
        yield turn(
          'the kernel is turned by half a turn (convolution instead of correlation)',
          (y, x) => 8 - 3 * y - x,
        );
      }
      yield* more((source) => run(source));
    },
  };
}

async function convStep(
  of: SegmentCase,
  conv: ConvCase & { readonly kernel: 1 | 3; readonly input: Maps },
): Promise<Step> {
  const { input, kernel } = conv;
  return await moduleStep(
    of,
    conv,
    kernel,
    input.channels,
    (image) => input.image(image),
    input.meanSquare,
    () => [],
  );
}

/** A 3×3 convolution over several maps brought to one size and joined. */
async function joinedStep(
  of: SegmentCase,
  conv: ConvCase & { readonly parts: readonly Maps[] },
): Promise<Step> {
  const { parts, size } = conv;
  const channels = parts.reduce((sum, part) => sum + part.channels, 0);
  const joined =
    (order: readonly Maps[], sampled = bilinear) =>
    (image: number): Readable => {
      const known = new Map<number, Float64Array>();
      return {
        get: (place: number) => {
          const before = known.get(place);
          if (before) return before;
          const out = new Float64Array(channels);
          let at = 0;
          for (const part of order) {
            const map = part.image(image);
            const same = part.size[0] === size[0] && part.size[1] === size[1];
            const value = same ? map.get(place)! : sampled(map, part.size, size, place);
            out.set(value, at);
            at += value.length;
          }
          known.set(place, out);
          return out;
        },
      };
    };
  const square = parts.reduce((sum, part) => sum + (part.meanSquare * part.channels) / channels, 0);
  return await moduleStep(of, conv, 3, channels, joined(parts), square, function* (run) {
    const make = (what: string, source: (image: number) => Readable): Mistake => ({
      what,
      tensors: [],
      compute: () => run(source),
    });
    yield make('the maps are joined in the opposite order', joined([...parts].reverse()));
    yield make('the first map is joined last', joined([...parts.slice(1), parts[0]]));
    for (const { what, sample } of RESAMPLINGS) yield make(what, joined(parts, sample));
  });
}

/** Other ways to bring a map to another size than bilinear with pixel centres at halves. */
const RESAMPLINGS: readonly { readonly what: string; readonly sample: typeof bilinear }[] = [
  {
    what: 'maps are resized with aligned corners',
    sample: (map, from, to, place) =>
      between(map, from, to, place, (at, side, was) => (side > 1 ? (at * (was - 1)) / (side - 1) : 0)),
  },
  {
    what: 'maps are resized with pixel centres at whole numbers (asymmetric)',
    sample: (map, from, to, place) => between(map, from, to, place, (at, side, was) => (at * was) / side),
  },
  {
    what: 'maps are resized by the nearest neighbour',
    sample: (map, from, to, place) =>
      between(map, from, to, place, (at, side, was) => Math.floor((at * was) / side)),
  },
];

function between(
  map: Readable,
  from: Size,
  to: Size,
  place: number,
  source: (at: number, side: number, was: number) => number,
): Float64Array {
  const [y, x] = [Math.floor(place / to[1]), place % to[1]].map((at, i) => source(at, to[i], from[i]));
  const [top, left] = [Math.min(Math.floor(y), from[0] - 1), Math.min(Math.floor(x), from[1] - 1)];
  const [down, right] = [Math.min(top + 1, from[0] - 1), Math.min(left + 1, from[1] - 1)];
  const get = (row: number, column: number): Float64Array => map.get(row * from[1] + column)!;
  const [a, b, c, d] = [get(top, left), get(top, right), get(down, left), get(down, right)];
  const [v, u] = [y - top, x - left];
  return a.map((value, i) => (1 - v) * ((1 - u) * value + u * b[i]) + v * ((1 - u) * c[i] + u * d[i]));
}

async function grownStep(of: SegmentCase, name: string, tensor: string, from: Maps, to: Maps): Promise<Step> {
  const { weights, images } = of;
  const kernel = await readFloat32(asFloat32(weights.tensors.get(`${tensor}.weight`)!));
  const bias = await weights.tensor(`${tensor}.bias`);
  const { size } = to;
  const places = choosePlaces(size, size[0] * size[1] * kernel.length * images * 0.25);
  const run = (kernels: Float32Array, shift: Float64Array): Values =>
    atPlaces(images, places, bias.length, (image, place) =>
      transposed(kernels, shift, from.image(image), place, size),
    );
  const right = run(kernel, bias);
  const E = bias.length;
  return {
    name,
    tensors: [`${tensor}.weight`, `${tensor}.bias`],
    found: foundAt(to, places),
    right,
    product: true,
    noise: convNoise(from.channels, kernel, from.meanSquare, undefined, right),
    *mistakes() {
      const names = [`${tensor}.weight`];
      yield {
        what: 'the kernel is transposed: x and y change roles',
        tensors: names,
        compute: () =>
          run(
            kernel.map((_, i) => kernel[i - (i % 4) + [0, 2, 1, 3][i % 4]]),
            bias,
          ),
      };
      yield {
        what: 'the kernel is turned by half a turn',
        tensors: names,
        compute: () =>
          run(
            kernel.map((_, i) => kernel[i - (i % 4) + 3 - (i % 4)]),
            bias,
          ),
      };
      if (from.channels === E)
        yield {
          what: 'the kernel is read as [out, in] instead of [in, out]',
          tensors: names,
          compute: () =>
            run(
              kernel.map((_, i) => {
                const [row, column] = [Math.floor(i / (4 * E)), Math.floor(i / 4) % E];
                return kernel[(column * E + row) * 4 + (i % 4)];
              }),
              bias,
            ),
        };
      yield {
        what: 'the bias is missing',
        tensors: [`${tensor}.bias`],
        compute: () => run(kernel, new Float64Array(E)),
      };
    },
  };
}

/** Where nothing is multiplied by weights: all places of a map that is not large. */
function somePlaces(size: Size, channels: number): readonly number[] {
  return choosePlaces(size, size[0] * size[1] * channels * 20);
}

/** BatchNorm and GELU between the two halves of fpn1. */
async function activatedStep({ weights, images }: SegmentCase, from: Maps, to: Maps): Promise<Step> {
  const norm = await batchNormOf(weights, 'backbone.fpn1.1');
  const places = somePlaces(to.size, to.channels);
  const run = (how: NormHow = {}, activate: (z: number) => number = gelu): Values =>
    atPlaces(images, places, from.channels, (image, place) =>
      normalised(from.image(image).get(place)!, norm, how).map(activate),
    );
  const right = run();
  return {
    name: 'fpn1, BatchNorm and GELU',
    tensors: ['weight', 'bias', 'running_mean', 'running_var'].map((part) => `backbone.fpn1.1.${part}`),
    found: foundAt(to, places),
    right,
    noise: 2 * convNoise(1, [1], from.meanSquare, norm, right),
    *mistakes() {
      for (const { what, how, parts } of NORM_MISTAKES.slice(0, -1))
        yield { what, tensors: parts.map((part) => `backbone.fpn1.1.${part}`), compute: () => run(how) };
      const other = (what: string, f: (z: number) => number): Mistake => ({
        what,
        tensors: [],
        compute: () => run({}, f),
      });
      yield other(
        'GELU is the tanh approximation instead of the exact erf form',
        (z) => 0.5 * z * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (z + 0.044715 * z ** 3))),
      );
      yield other('the activation is ReLU instead of GELU', (z) => Math.max(0, z));
      yield other('there is no activation', (z) => z);
    },
  };
}

function halvedStep(from: Maps, to: Maps): Step {
  const [, width] = from.size;
  const places = somePlaces(to.size, to.channels);
  const run = (of: (four: readonly Float64Array[], c: number) => number): Values =>
    atPlaces(to.images, places, to.channels, (image, place) => {
      const map = from.image(image);
      const top = 2 * Math.floor(place / to.size[1]) * width + 2 * (place % to.size[1]);
      const four = [top, top + 1, top + width, top + width + 1].map((at) => map.get(at)!);
      return four[0].map((_, c) => of(four, c));
    });
  const right = run((four, c) => Math.max(...four.map((each) => each[c])));
  return {
    name: 'feature map 3, halved',
    tensors: [],
    found: foundAt(to, places),
    right,
    noise: carriedNoise(right),
    *mistakes() {
      yield {
        what: 'the average of four patches is taken instead of the largest value',
        tensors: [],
        compute: () => run((four, c) => four.reduce((sum, each) => sum + each[c] / 4, 0)),
      };
      yield {
        what: 'every second patch is taken instead of the largest of four',
        tensors: [],
        compute: () => run((four, c) => four[0][c]),
      };
    },
  };
}

function cellsStep(name: string, from: Maps, to: Maps): Step {
  const [scale] = to.size;
  const places = somePlaces(to.size, to.channels);
  const run = (of: (image: number) => Readable): Values =>
    atPlaces(to.images, places, to.channels, (image, place) => of(image).get(place)!);
  const fields = Array.from({ length: to.images }, (_, image) =>
    averages(from.image(image), from.size, scale),
  );
  const right = run((image) => fields[image]);
  const count = (from.size[0] * from.size[1]) / scale ** 2;
  return {
    name,
    tensors: [],
    found: foundAt(to, places),
    right,
    noise: Math.max(
      carriedNoise(right),
      // Two sums, and 1/count as a factor of its own.
      Math.sqrt(
        (dotNoise(Math.max(1, count)) * UNIT ** 2 * from.meanSquare) / Math.max(1, count) +
          4 * ROUND * from.meanSquare,
      ),
    ),
    *mistakes() {
      yield {
        what: 'the largest value of every cell is taken instead of the average',
        tensors: [],
        compute: () =>
          run((image) => cellwise(from.image(image), from.size, scale, (values) => Math.max(...values))),
      };
      yield {
        what: 'the cells are cut without overlap (floor to floor), unlike adaptive pooling',
        tensors: [],
        compute: () =>
          run((image) =>
            cellwise(
              from.image(image),
              from.size,
              scale,
              (values) => values.reduce((sum, value) => sum + value, 0) / values.length,
              Math.floor,
            ),
          ),
      };
    },
  };
}

function cellwise(
  map: Readable,
  [height, width]: Size,
  scale: number,
  of: (values: readonly number[]) => number,
  end: (value: number) => number = Math.ceil,
): Readable {
  return {
    get: (cell: number) => {
      const [row, column] = [Math.floor(cell / scale), cell % scale];
      const range = (at: number, side: number): [number, number] => {
        const from = Math.floor((at * side) / scale);
        return [from, Math.max(from + 1, end(((at + 1) * side) / scale))];
      };
      const [[top, bottom], [left, right]] = [range(row, height), range(column, width)];
      const all: Float64Array[] = [];
      for (let y = top; y < bottom; y++) for (let x = left; x < right; x++) all.push(map.get(y * width + x)!);
      return all[0].map((_, c) => of(all.map((each) => each[c])));
    },
  };
}

/** Weights of an interpolation are computed from coordinates in float32: their error grows with the side. */
function resizeNoise(from: Maps, to: Size, right: Values): number {
  const side = Math.max(...to, ...from.size);
  return Math.sqrt(4 * ROUND * meanSquare(right) + (side * UNIT) ** 2 * 0.1 * from.meanSquare);
}

function sumStep(name: string, own: Maps, above: Maps, to: Maps): Step {
  const { size, images, channels } = to;
  const places = somePlaces(size, to.channels);
  const run = (sample?: typeof bilinear): Values =>
    atPlaces(images, places, channels, (image, place) => {
      const value = own.image(image).get(place)!;
      if (!sample) return value;
      const upper = sample(above.image(image), above.size, size, place);
      return value.map((each, c) => each + upper[c]);
    });
  const right = run(bilinear);
  return {
    name,
    tensors: [],
    found: foundAt(to, places),
    right,
    noise: resizeNoise(above, size, right),
    *mistakes() {
      for (const { what, sample } of RESAMPLINGS) yield { what, tensors: [], compute: () => run(sample) };
      yield { what: 'the coarser level is not added', tensors: [], compute: () => run() };
    },
  };
}

async function classesStep(of: SegmentCase, from: Maps, to: Maps): Promise<Step> {
  const { weights, images } = of;
  const tensor = 'decode_head.conv_seg';
  const matrix = await readFloat32(asFloat32(weights.tensors.get(`${tensor}.weight`)!));
  const bias = await weights.tensor(`${tensor}.bias`);
  const places = choosePlaces(to.size, to.size[0] * to.size[1] * matrix.length * images);
  const run = (shift: Float64Array | undefined): Values =>
    atPlaces(images, places, bias.length, (image, place) =>
      pointwise(matrix, from.image(image).get(place)!, shift),
    );
  const right = run(bias);
  const K = bias.length;
  return {
    name: 'classes',
    tensors: [`${tensor}.weight`, `${tensor}.bias`],
    found: foundAt(to, places),
    right,
    product: true,
    noise: convNoise(from.channels, matrix, from.meanSquare, undefined, right),
    *mistakes() {
      yield {
        what: 'the bias of the classes is missing',
        tensors: [`${tensor}.bias`],
        compute: () => run(undefined),
      };
      yield {
        what: 'the classes are in the opposite order',
        tensors: [`${tensor}.weight`, `${tensor}.bias`],
        compute: () => right.map((_, i) => right[i - (i % K) + K - 1 - (i % K)]),
      };
      yield {
        what: 'the classes are shifted by one, as if there were none for the background',
        tensors: [],
        compute: () => right.map((_, i) => right[i - (i % K) + (((i % K) + 1) % K)]),
      };
    },
  };
}

function upsampledStep(from: Maps, to: Maps): Step {
  const { size, images, channels } = to;
  const places = somePlaces(size, to.channels);
  const run = (sample: typeof bilinear): Values =>
    atPlaces(images, places, channels, (image, place) => sample(from.image(image), from.size, size, place));
  const right = run(bilinear);
  return {
    name: 'logits at the size of the image',
    tensors: [],
    found: foundAt(to, places),
    right,
    noise: resizeNoise(from, size, right),
    *mistakes() {
      for (const { what, sample } of RESAMPLINGS) yield { what, tensors: [], compute: () => run(sample) };
    },
  };
}
