/** Maps of four sizes out of tokens: fpn1, fpn2, halving, and averages over cells. */
import { asFloat32, readFloat32 } from '../../tensor.js';
import { gelu } from '../erf.js';
import type { Readable, Size } from '../oracle-grid.js';
import { averages, choosePlaces, transposed } from '../oracle-segment.js';
import { ROUND, UNIT, dotNoise } from '../noise.js';
import type { Values } from './arithmetic.js';
import {
  BATCH_NORM_PARTS,
  NORM_MISTAKES,
  convNoise,
  normalised,
  type Normed,
  type NormHow,
} from './batch-norm.js';
import { atPlaces, foundAt, type Maps } from './maps.js';
import { carriedNoise } from './noise-steps.js';
import { somePlaces, type SegmentCase } from './segment-case.js';
import { mapMistakes, mapOf, type OtherTokens } from './steps-tokens.js';
import type { Mistake, Step } from './step.js';

export function featureMapStep(of: SegmentCase, level: number, found: Float32Array): Step | undefined {
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

export async function grownStep(
  of: SegmentCase,
  name: string,
  tensor: string,
  from: Maps,
  to: Maps,
  /** that an exporter has folded into the weights */
  folded?: Normed,
): Promise<Step> {
  const { weights, images } = of;
  const kernel = await readFloat32(asFloat32(weights.tensors.get(`${tensor}.weight`)!));
  const bias = await weights.tensor(`${tensor}.bias`);
  const { size } = to;
  const places = choosePlaces(size, size[0] * size[1] * kernel.length * images * 0.25);
  const run = (kernels: Float32Array, shift: Float64Array, how: NormHow = {}): Values =>
    atPlaces(images, places, bias.length, (image, place) => {
      const grown = transposed(kernels, shift, from.image(image), place, size);
      return folded ? normalised(grown, folded, how) : grown;
    });
  const right = run(kernel, bias);
  const E = bias.length;
  return {
    name,
    tensors: [`${tensor}.weight`, `${tensor}.bias`],
    found: foundAt(to, places),
    right,
    noise: convNoise(from.channels, kernel, from.meanSquare, folded, right),
    *mistakes() {
      if (folded)
        for (const { what, how, parts } of NORM_MISTAKES.slice(0, -1))
          yield { what, tensors: parts.map(ofNorm), compute: () => run(kernel, bias, how) };
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

const ofNorm = (part: string): string => `backbone.fpn1.1.${part}`;

/** BatchNorm, unless it is folded away, and GELU between the two halves of fpn1. */
export function activatedStep({ images }: SegmentCase, from: Maps, to: Maps, norm: Normed | undefined): Step {
  const places = somePlaces(to.size, to.channels);
  const given = (values: Float64Array, how: NormHow): Float64Array =>
    norm ? normalised(values, norm, how) : values;
  const run = (how: NormHow = {}, activate: (z: number) => number = gelu): Values =>
    atPlaces(images, places, from.channels, (image, place) =>
      given(from.image(image).get(place)!, how).map(activate),
    );
  const right = run();
  return {
    name: 'fpn1, BatchNorm and GELU',
    tensors: norm ? BATCH_NORM_PARTS.map(ofNorm) : [],
    found: foundAt(to, places),
    right,
    noise: 2 * convNoise(1, [1], from.meanSquare, norm, right),
    *mistakes() {
      for (const { what, how, parts } of norm ? NORM_MISTAKES.slice(0, -1) : [])
        yield { what, tensors: parts.map(ofNorm), compute: () => run(how) };
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

export function halvedStep(from: Maps, to: Maps): Step {
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

export function cellsStep(name: string, from: Maps, to: Maps): Step {
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
