/**
 * Pillow's `Image.resize` for 8-bit RGB, bit for bit: antialiased separable filters in 22-bit fixed point.
 *
 * The rules (sampling points, support, rounding of coefficients and of both passes) are those of Pillow's
 * `src/libImaging/Resample.c`; goldens in `fixtures/pillow` prove them.
 */
import { ShapeError } from './errors.js';

/** How pixels between pixels are made, as Pillow names it. */
export type Interpolation = 'bicubic' | 'bilinear' | 'lanczos';

/** A picture of `height` rows of `width` pixels, 3 bytes R, G, B each, without padding. */
export interface RgbImage {
  readonly width: number;
  readonly height: number;
  /** `3 * width * height` bytes */
  readonly data: Uint8Array;
}

/** Part of a resized picture, in pixels of that picture; must lie inside it. */
export interface Region {
  readonly top: number;
  readonly left: number;
  readonly height: number;
  readonly width: number;
}

interface Filter {
  /** half width in source pixels at scale 1 */
  readonly support: number;
  weight(x: number): number;
}

const BILINEAR: Filter = {
  support: 1,
  weight: (x) => Math.max(0, 1 - Math.abs(x)),
};

/** Keys' cubic with a = -0.5 (torch and OpenCV use -0.75). */
const BICUBIC: Filter = {
  support: 2,
  weight(x) {
    const d = Math.abs(x);
    if (d < 1) return (1.5 * d - 2.5) * d * d + 1;
    if (d < 2) return (((d - 5) * d + 8) * d - 4) * -0.5;
    return 0;
  },
};

function sinc(x: number): number {
  return x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI);
}

/** Three lobes: a sinc under the middle lobe of another one. */
const LANCZOS: Filter = {
  support: 3,
  weight: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0),
};

const FILTERS: Readonly<Record<Interpolation, Filter>> = {
  bicubic: BICUBIC,
  bilinear: BILINEAR,
  lanczos: LANCZOS,
};

/** 32 bits less 8 for the result and 2 for the overshoot of negative lobes. */
const FRACTION_BITS = 22;
const ONE = 1 << FRACTION_BITS;
const HALF = 1 << (FRACTION_BITS - 1);

/** For every wanted output position: which source positions count, and how much. */
interface Taps {
  readonly start: Int32Array;
  /** exclusive */
  readonly end: Int32Array;
  /** fixed point; those of output `i` begin at `i * stride` */
  readonly weights: Int32Array;
  readonly stride: number;
}

/** Taps of outputs `[first, first + count)` when `from` source positions become `to`. */
function tapsOf(from: number, to: number, first: number, count: number, filter: Filter): Taps {
  const scale = from / to;
  const stretch = Math.max(scale, 1);
  const support = filter.support * stretch;
  const stride = Math.ceil(support) * 2 + 1;
  const start = new Int32Array(count);
  const end = new Int32Array(count);
  const weights = new Int32Array(count * stride);
  const exact = new Float64Array(stride);
  const inverse = 1 / stretch;
  for (let i = 0; i < count; i++) {
    const centre = (first + i + 0.5) * scale;
    const low = Math.max(0, Math.trunc(centre - support + 0.5));
    const high = Math.min(from, Math.trunc(centre + support + 0.5));
    let sum = 0;
    for (let x = low; x < high; x++) {
      const w = filter.weight((x - centre + 0.5) * inverse);
      exact[x - low] = w;
      sum += w;
    }
    for (let x = low; x < high; x++) {
      // Half away from zero, after the division: the order decides the last bit.
      const w = (sum === 0 ? exact[x - low] : exact[x - low] / sum) * ONE;
      weights[i * stride + x - low] = Math.trunc(w < 0 ? w - 0.5 : w + 0.5);
    }
    start[i] = low;
    end[i] = high;
  }
  return { start, end, weights, stride };
}

function clip8(sum: number): number {
  const value = sum >> FRACTION_BITS;
  return value < 0 ? 0 : value > 255 ? 255 : value;
}

/** The horizontal pass of one source row, which begins at byte `at`: 8-bit results, as Pillow keeps them. */
function resampleRow(data: Uint8Array, at: number, taps: Taps, out: Uint8Array): void {
  const { start, end, weights, stride } = taps;
  for (let i = 0, o = 0; i < start.length; i++, o += 3) {
    let red = HALF;
    let green = HALF;
    let blue = HALF;
    let k = i * stride;
    let p = at + start[i] * 3;
    for (let x = start[i]; x < end[i]; x++, k++, p += 3) {
      const w = weights[k];
      red += data[p] * w;
      green += data[p + 1] * w;
      blue += data[p + 2] * w;
    }
    out[o] = clip8(red);
    out[o + 1] = clip8(green);
    out[o + 2] = clip8(blue);
  }
}

function requireImage({ width, height, data }: RgbImage): void {
  if (!(Number.isSafeInteger(width) && Number.isSafeInteger(height) && width > 0 && height > 0)) {
    throw new ShapeError(`a picture of ${width}×${height} pixels; both sides need to be 1 or more`);
  }
  if (data.length !== width * height * 3) {
    throw new ShapeError(
      `a picture of ${width}×${height} pixels has ${data.length} bytes; it needs 3 a pixel`,
    );
  }
}

/**
 * What `resizeImage` would give, cut to `region`, at the cost of the region only: each output pixel depends on
 * nothing but its own taps.
 *
 * @param size `[height, width]` of the whole resized picture, in pixels
 * @throws ShapeError if a side is not a positive integer, or the bytes or the region do not fit
 */
export function resizeRegion(
  image: RgbImage,
  size: readonly [number, number],
  interpolation: Interpolation,
  region: Region,
): RgbImage {
  requireImage(image);
  const [toHeight, toWidth] = size;
  const { top, left, height, width } = region;
  const inside = (start: number, length: number, side: number): boolean =>
    [start, length, side].every(Number.isSafeInteger) && start >= 0 && length > 0 && start + length <= side;
  if (!inside(top, height, toHeight) || !inside(left, width, toWidth)) {
    throw new ShapeError(
      `${width}×${height} pixels at (${left}, ${top}) of a picture resized to ${toWidth}×${toHeight}: not inside it`,
    );
  }
  const filter = FILTERS[interpolation];
  const across = tapsOf(image.width, toWidth, left, width, filter);
  const down = tapsOf(image.height, toHeight, top, height, filter);

  // Source rows once, in order; each goes into every output row it counts for, so nothing between the passes is kept.
  const line = width * 3;
  const row = new Uint8Array(line);
  const sums = new Int32Array(height * line).fill(HALF);
  const last = down.end[height - 1];
  for (let y = down.start[0], oldest = 0; y < last; y++) {
    resampleRow(image.data, y * image.width * 3, across, row);
    while (down.end[oldest] <= y) oldest += 1;
    for (let o = oldest; o < height && down.start[o] <= y; o++) {
      const w = down.weights[o * down.stride + y - down.start[o]];
      for (let x = 0, s = o * line; x < line; x++, s++) sums[s] += row[x] * w;
    }
  }
  const data = new Uint8Array(sums.length);
  for (let i = 0; i < data.length; i++) data[i] = clip8(sums[i]);
  return { width, height, data };
}

/**
 * Resize as Pillow's `Image.resize((width, height), BICUBIC | BILINEAR | LANCZOS)` does for an RGB picture, bit for bit.
 *
 * @param size `[height, width]` wanted, in pixels
 * @throws ShapeError if a side is not a positive integer or the bytes do not fit the sides
 * @see Pillow `src/libImaging/Resample.c`
 * @example
 * ```js
 * import { decodeImage, resizeImage } from 'convert-beit';
 *
 * const small = resizeImage(await decodeImage('fixtures/demo/heart.jpg'), [32, 48], 'bicubic');
 * console.log(small.height, small.width);
 * ```
 */
export function resizeImage(
  image: RgbImage,
  size: readonly [number, number],
  interpolation: Interpolation,
): RgbImage {
  return resizeRegion(image, size, interpolation, { top: 0, left: 0, height: size[0], width: size[1] });
}
