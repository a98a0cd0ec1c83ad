/** UPerNet’s convolutions: with BatchNorm and ReLU, over one map or several, and the classes. */
import { asFloat32, readFloat32 } from '../../tensor.js';
import { Conv3x3, bilinear, pointwise, type Readable, type Size } from '../oracle-grid.js';
import { choosePlaces } from '../oracle-segment.js';
import type { Values } from './arithmetic.js';
import {
  BATCH_NORM_PARTS,
  NORM_MISTAKES,
  batchNormOf,
  convNoise,
  normalised,
  type NormHow,
} from './batch-norm.js';
import { atPlaces, foundAt, type Maps } from './maps.js';
import { RESAMPLINGS } from './resampling.js';
import type { SegmentCase } from './segment-case.js';
import type { Mistake, Step } from './step.js';

type Place = (image: number, place: number) => Float64Array;

const relu = (x: Float64Array): Float64Array => x.map((value) => Math.max(0, value));

export interface ConvCase {
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
    tensors: [`${tensor}.conv.weight`, ...BATCH_NORM_PARTS.map((part) => `${tensor}.bn.${part}`)],
    found: foundAt(output, places),
    right,
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

export async function convStep(
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
export async function joinedStep(
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

export async function classesStep(of: SegmentCase, from: Maps, to: Maps): Promise<Step> {
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
