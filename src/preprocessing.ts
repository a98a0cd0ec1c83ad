/**
 * How a picture becomes a model's input: the numbers only; `image.ts` does it.
 */
import type { Interpolation } from './resample.js';

/** How a picture becomes a model's input. */
export interface Preprocessing {
  /** short side after resizing, in pixels; or `[height, width]` when the aspect ratio is not kept */
  readonly resize: number | readonly [number, number];
  /** centre crop `[height, width]` in pixels */
  readonly crop: readonly [number, number];
  readonly interpolation: Interpolation;
  /** per channel, for values in 0..1 */
  readonly mean: readonly number[];
  /** per channel, as `mean` */
  readonly std: readonly number[];
  /** one sentence: where these come from */
  readonly origin: string;
}

/** From this size on the official evaluation shows the whole short side; below, the central 224/256 of it. */
const FULL_CROP_FROM = 384;
const CROP_FRACTION = 224 / 256;

const INCEPTION = { mean: 0.5, std: 0.5 };
const IMAGENET = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

/**
 * The evaluation transform of the official fine-tuning script: bicubic, short side `int(size / (224/256))` below
 * 384 pixels and `size` from there on, centre crop; mean and std 0.5 for v1, ImageNet's for v2.
 *
 * Upstream has a rule for square images only. A model of another shape gets the picture resized straight to
 * `imageSize`, the aspect ratio not kept, so that nothing of it is cut off. Models with other than three channels
 * have no upstream constants either: v1 keeps 0.5, v2 takes the average of ImageNet's three.
 *
 * @param imageSize `[height, width]` of the model's input, in pixels
 * @param origin    one sentence: what told the version
 * @see unilm `beit/datasets.py` and `beit2/datasets.py`, `build_transform`; the v2 commands pass
 *      `--imagenet_default_mean_and_std`
 */
export function officialPreprocessing(
  version: 1 | 2,
  imageSize: readonly [number, number],
  origin: string,
  channels = 3,
): Preprocessing {
  const [height, width] = imageSize;
  const short = height < FULL_CROP_FROM ? Math.floor(height / CROP_FRACTION) : height;
  const average = (values: readonly number[]): number =>
    values.reduce((sum, v) => sum + v, 0) / values.length;
  const perChannel = (three: readonly number[]): number[] =>
    channels === 3 ? [...three] : new Array<number>(channels).fill(average(three));
  const same = (value: number): number[] => new Array<number>(channels).fill(value);
  return {
    resize: height === width ? short : [height, width],
    crop: [height, width],
    interpolation: 'bicubic',
    mean: version === 1 ? same(INCEPTION.mean) : perChannel(IMAGENET.mean),
    std: version === 1 ? same(INCEPTION.std) : perChannel(IMAGENET.std),
    origin,
  };
}
