/**
 * Images: decode, resize as Pillow does, crop, normalise.
 */
import { ShapeError } from './errors.js';
import type { Preprocessing } from './preprocessing.js';
import { resizeRegion, type RgbImage } from './resample.js';

export { decodeImage } from './decode.js';
export { officialPreprocessing, type Preprocessing } from './preprocessing.js';
export { resizeImage, type Interpolation, type RgbImage } from './resample.js';

/** Python's `round(length / 2)`: a half goes to the even neighbour. */
function roundedHalf(length: number): number {
  const floor = Math.floor(length / 2);
  return length % 2 === 0 ? floor : floor + (floor % 2);
}

/** Along one side: where the crop begins in the resized picture, how much of it there is, and the border before it. */
function cropSide(resized: number, crop: number): { start: number; length: number; border: number } {
  return resized >= crop
    ? { start: roundedHalf(resized - crop), length: crop, border: 0 }
    : { start: 0, length: resized, border: Math.floor((crop - resized) / 2) };
}

/** `[height, width]` after torchvision's `Resize`: the long side is cut to whole pixels, not rounded. */
function resizedSize({ height, width }: RgbImage, resize: Preprocessing['resize']): [number, number] {
  if (typeof resize !== 'number') return [resize[0], resize[1]];
  const long = Math.trunc((resize * Math.max(height, width)) / Math.min(height, width));
  return width <= height ? [long, resize] : [resize, long];
}

/** Pillow's `convert('L')`, ITU-R 601 in 16-bit fixed point; still three equal bytes a pixel. */
function grey({ width, height, data }: RgbImage): RgbImage {
  const out = new Uint8Array(data.length);
  for (let i = 0; i < data.length; i += 3) {
    out.fill((data[i] * 19595 + data[i + 1] * 38470 + data[i + 2] * 7471 + 0x8000) >> 16, i, i + 3);
  }
  return { width, height, data: out };
}

/**
 * A picture as a model's input: resize, centre crop, `(value / 255 - mean) / std`, every step in the arithmetic and
 * with the rounding of torchvision on Pillow pictures, so that the result is the same bit for bit.
 *
 * One channel (`mean` of length 1) takes the picture's luma. A crop larger than the resized picture gets a black border.
 *
 * @returns `[channels, H, W]` row-major, `[H, W]` = `preprocessing.crop`
 * @throws ShapeError if `mean` and `std` are not both of length 1 or 3, or the picture's bytes do not fit its sides
 * @see torchvision `transforms/functional.py`: `resize`, `center_crop`, `to_tensor`, `normalize`
 * @example
 * ```js
 * import { decodeImage, inspect, preprocess } from 'convert-beit';
 *
 * const { preprocessing } = await inspect({ src: 'fixtures/demo/beit_demo_patch8_64.safetensors' });
 * const pixels = preprocess(await decodeImage('fixtures/demo/star.png'), preprocessing);
 * console.log(pixels.length === 3 * 64 * 64); // for new ort.Tensor('float32', pixels, [1, 3, 64, 64])
 * ```
 */
export function preprocess(image: RgbImage, preprocessing: Preprocessing): Float32Array {
  const { crop, interpolation, mean, std } = preprocessing;
  const channels = mean.length;
  if ((channels !== 1 && channels !== 3) || std.length !== channels) {
    throw new ShapeError(
      `mean has ${channels} and std ${std.length} numbers; a picture needs 3 of each, or 1 of each for grey`,
    );
  }
  const size = resizedSize(image, preprocessing.resize);
  const down = cropSide(size[0], crop[0]);
  const across = cropSide(size[1], crop[1]);
  const source = channels === 1 ? grey(image) : image;
  const region = { top: down.start, left: across.start, height: down.length, width: across.length };
  const { data } = resizeRegion(source, size, interpolation, region);

  const [height, width] = crop;
  const out = new Float32Array(channels * height * width);
  for (let c = 0; c < channels; c++) {
    const { fround } = Math;
    const normal = Float32Array.from({ length: 256 }, (_, value) =>
      fround(fround(fround(value / 255) - fround(mean[c])) / fround(std[c])),
    );
    const plane = out.subarray(c * height * width, (c + 1) * height * width).fill(normal[0]);
    for (let y = 0, i = c; y < region.height; y++) {
      const at = (down.border + y) * width + across.border;
      for (let x = 0; x < region.width; x++, i += 3) plane[at + x] = normal[data[i]];
    }
  }
  return out;
}
