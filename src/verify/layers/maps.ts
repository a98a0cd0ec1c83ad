/**
 * Feature maps as a file computed them, read place by place: a whole map of a full-size model in float64 would take
 * gigabytes and minutes, and a few places show every weight.
 */
import { bilinear, type Readable, type Size } from '../oracle-grid.js';
import type { Values } from './arithmetic.js';

/** `[images, channels, height, width]`. */
export class Maps {
  readonly channels: number;

  constructor(
    readonly values: ArrayLike<number>,
    readonly images: number,
    readonly size: Size,
  ) {
    this.channels = values.length / (images * size[0] * size[1]);
  }

  /** One image's map. */
  image(image: number): Readable {
    const { values, channels, size } = this;
    const places = size[0] * size[1];
    return {
      get: (place: number) => {
        const out = new Float64Array(channels);
        const from = image * channels * places + place;
        for (let c = 0; c < channels; c++) out[c] = values[from + c * places];
        return out;
      },
    };
  }

  /** The map in another size, bilinear with pixel centres at halves. */
  resized(to: Size): (image: number, place: number) => Float64Array {
    const same = to[0] === this.size[0] && to[1] === this.size[1];
    return (image, place) => {
      const map = this.image(image);
      return same ? map.get(place)! : bilinear(map, this.size, to, place);
    };
  }

  get meanSquare(): number {
    const { values } = this;
    let sum = 0;
    for (let i = 0; i < values.length; i++) sum += values[i] * values[i];
    return sum / values.length;
  }
}

/** Chosen places of all images, `[images, places, channels]`. */
export function atPlaces(
  images: number,
  places: readonly number[],
  channels: number,
  of: (image: number, place: number) => Float64Array,
): Values {
  const out = new Float64Array(images * places.length * channels);
  for (let image = 0; image < images; image++)
    places.forEach((place, i) => out.set(of(image, place), (image * places.length + i) * channels));
  return out;
}

/** What the file has there. */
export function foundAt(maps: Maps, places: readonly number[]): Float32Array {
  const { images, channels } = maps;
  return Float32Array.from(
    atPlaces(images, places, channels, (image, place) => maps.image(image).get(place)!),
  );
}
