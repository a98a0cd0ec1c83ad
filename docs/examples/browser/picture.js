/**
 * A picture as a model's input, as the folder's preprocessor_config.json says: resize, centre crop, normalise.
 *
 * A canvas would resize by rules of its own. These are Pillow's, bit for bit, so that scores are the same here, on the
 * command line and in Python.
 */

/** Bicubic has a = -0.5. Numbers are Pillow's, which preprocessor_config.json uses. */
const FILTERS = {
  1: { support: 3, weight: (x) => (Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0) },
  2: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  3: { support: 2, weight: cubic },
};

function sinc(x) {
  return x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI);
}

function cubic(x) {
  const d = Math.abs(x);
  if (d < 1) return (1.5 * d - 2.5) * d * d + 1;
  return d < 2 ? (((d - 5) * d + 8) * d - 4) * -0.5 : 0;
}

/** Fixed point with 22 binary places, as Pillow reckons with 8-bit pixels. */
const PLACES = 22;

/** The numbers of a preprocessor_config.json; throws what this page cannot do. */
export function readSteps(config) {
  const { size, crop_size: crop, resample, image_mean: mean, image_std: std } = config;
  const steps = {
    resize: size?.shortest_edge ?? [size?.height, size?.width],
    crop: [crop?.height, crop?.width],
    filter: FILTERS[resample],
    mean,
    std,
  };
  const sides = [steps.resize, steps.crop].flat();
  const known =
    sides.every((side) => Number.isSafeInteger(side) && side > 0) &&
    steps.crop.every((side, i) => side <= (steps.resize[i] ?? steps.resize)) &&
    steps.filter &&
    mean?.length === 3 &&
    std?.length === 3 &&
    Math.abs(config.rescale_factor * 255 - 1) < 1e-6;
  if (!known) {
    throw new Error(
      'preprocessor_config.json asks for something else than resize, centre crop and normalising of a colour picture.',
    );
  }
  return steps;
}

/** The pixels of a picture file, upright, RGBA. */
export async function decode(file) {
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: 'none' });
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { width, height, data: context.getImageData(0, 0, width, height).data };
}

/** Where the model looks: `[height, width]` after resizing, and the first row and column of the crop in it. */
export function place({ width, height }, { resize, crop }) {
  const long = Math.trunc((resize * Math.max(height, width)) / Math.min(height, width));
  const size = Array.isArray(resize) ? resize : width <= height ? [long, resize] : [resize, long];
  return { size, first: size.map((side, i) => evenHalf(side - crop[i])) };
}

/** Half of it; of two nearest whole numbers the even one, as Python rounds. */
function evenHalf(length) {
  const floor = Math.floor(length / 2);
  return length % 2 === 0 ? floor : floor + (floor % 2);
}

/** Float32Array `[3, height, width]` of RGBA pixels. */
export function preprocess(picture, steps) {
  const { crop, filter, mean, std } = steps;
  const { size, first } = place(picture, steps);
  const { width, height, data } = picture;
  const across = taps(width, size[1], first[1], crop[1], filter);
  const down = taps(height, size[0], first[0], crop[0], filter);
  // Each pass turns the picture on its side, so two of them leave it upright.
  const narrow = resample(data, width, height, across);
  const pixels = resample(narrow, height, crop[1], down);

  const area = crop[0] * crop[1];
  const input = new Float32Array(3 * area);
  for (let c = 0; c < 3; c++) {
    const normal = Float32Array.from({ length: 256 }, (_, value) =>
      f32(f32(f32(value / 255) - f32(mean[c])) / f32(std[c])),
    );
    for (let i = 0; i < area; i++) input[c * area + i] = normal[pixels[4 * i + c]];
  }
  return input;
}

const f32 = Math.fround;

/** For outputs `first` to `first + count` of `to`: the first source pixel that counts, and the weights from there on. */
function taps(from, to, first, count, { support, weight }) {
  const scale = from / to;
  const stretch = Math.max(scale, 1);
  const reach = support * stretch;
  return Array.from({ length: count }, (_, i) => {
    const centre = (first + i + 0.5) * scale;
    const start = Math.max(0, Math.trunc(centre - reach + 0.5));
    const end = Math.min(from, Math.trunc(centre + reach + 0.5));
    const exact = Array.from({ length: end - start }, (_, k) =>
      weight((start + k - centre + 0.5) * (1 / stretch)),
    );
    const sum = exact.reduce((a, b) => a + b, 0);
    const fixed = exact.map((w) => (w / sum) * 2 ** PLACES);
    return { start, weights: fixed.map((w) => Math.trunc(w < 0 ? w - 0.5 : w + 0.5)) };
  });
}

/** Every row of `width` RGBA pixels resized to `taps.length`, written as a column. Alpha is left out. */
function resample(data, width, height, taps) {
  const out = new Uint8ClampedArray(4 * taps.length * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < taps.length; x++) {
      const { start, weights } = taps[x];
      let [red, green, blue] = [HALF, HALF, HALF];
      for (let k = 0, p = 4 * (y * width + start); k < weights.length; k++, p += 4) {
        red += data[p] * weights[k];
        green += data[p + 1] * weights[k];
        blue += data[p + 2] * weights[k];
      }
      const at = 4 * (x * height + y);
      out[at] = red >> PLACES;
      out[at + 1] = green >> PLACES;
      out[at + 2] = blue >> PLACES;
    }
  }
  return out;
}

const HALF = 1 << (PLACES - 1);
