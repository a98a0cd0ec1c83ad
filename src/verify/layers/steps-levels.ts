/** UPerNet’s levels: sums with the coarser one, and logits at the size of the image. */
import { bilinear, type Size } from '../oracle-grid.js';
import { ROUND, UNIT } from '../noise.js';
import type { Values } from './arithmetic.js';
import { atPlaces, foundAt, type Maps } from './maps.js';
import { meanSquare } from './noise-steps.js';
import { RESAMPLINGS } from './resampling.js';
import { somePlaces } from './segment-case.js';
import type { Step } from './step.js';

/** Weights of an interpolation are computed from coordinates in float32: their error grows with the side. */
function resizeNoise(from: Maps, to: Size, right: Values): number {
  const side = Math.max(...to, ...from.size);
  return Math.sqrt(4 * ROUND * meanSquare(right) + (side * UNIT) ** 2 * 0.1 * from.meanSquare);
}

export function sumStep(name: string, own: Maps, above: Maps, to: Maps): Step {
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

export function upsampledStep(from: Maps, to: Maps): Step {
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
