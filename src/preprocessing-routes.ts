/**
 * The evaluation transforms of the four routes by which BEiT is used, and `preprocessor_config.json` files.
 */
import { InputError, UsageError, printable } from './errors.js';
import { officialPreprocessing, type Preprocessing } from './preprocessing.js';
import type { Interpolation } from './resample.js';

export const ROUTES = ['official', 'timm', 'transformers', 'mmpretrain'] as const;
/** Whose evaluation transform. */
export type Route = (typeof ROUTES)[number];

/** What an evaluation transform depends on. */
export interface RouteModel {
  readonly version: 1 | 2;
  /** `[height, width]` of the model's input, in pixels */
  readonly imageSize: readonly [number, number];
  /** default 3 */
  readonly channels?: number;
  /** width of the network; timm crops v2 large (1024) less than base (768) */
  readonly hiddenSize?: number;
}

/** From this size on timm's configs show the whole short side. */
const TIMM_FULL_CROP_FROM = 384;
const LARGE = 1024;

/** timm's `crop_pct`: v1 0.9 below 384 pixels, 1.0 from there on; v2 0.9 for base, 0.95 for large. */
function timmCropShare({ version, imageSize, hiddenSize = 0 }: RouteModel): number {
  if (imageSize[0] >= TIMM_FULL_CROP_FROM) return 1;
  return version === 2 && hiddenSize >= LARGE ? 0.95 : 0.9;
}

/**
 * The evaluation transform of one route for one model.
 *
 * - `official`: see {@link officialPreprocessing}.
 * - `timm`: short side `floor(size / crop_pct)`, bicubic, centre crop.
 * - `transformers`: straight to the model's size (the aspect ratio is not kept), bilinear, mean and std 0.5.
 * - `mmpretrain`: short side `256/224` of the size, bicubic (Pillow backend), centre crop.
 *
 * Mean and std are the official ones of the version except for transformers. A model that is not square gets the picture
 * straight at its size by every route: upstream has no rule for it.
 *
 * @see timm `models/beit.py` `default_cfgs`, `data/transforms_factory.py`; transformers
 *   `models/beit/image_processing_beit.py`; mmpretrain `configs/beit/`, `configs/beitv2/`
 * @example
 * ```js
 * import { routePreprocessing } from 'convert-beit';
 *
 * const { resize, crop, mean } = routePreprocessing('timm', { version: 2, imageSize: [224, 224], hiddenSize: 768 });
 * console.log(resize, crop, mean);
 * ```
 */
export function routePreprocessing(route: Route, model: RouteModel): Preprocessing {
  const { version, imageSize, channels = 3 } = model;
  const [height, width] = imageSize;
  const origin = `${route} evaluation transform of BEiT v${version}`;
  const official = officialPreprocessing(version, imageSize, origin, channels);
  const withShortSide = (short: number): Preprocessing => ({
    ...official,
    resize: height === width ? short : official.resize,
  });
  switch (route) {
    case 'official':
      return official;
    case 'timm':
      return withShortSide(Math.floor(height / timmCropShare(model)));
    case 'mmpretrain':
      return withShortSide(Math.floor((height * 256) / 224));
    case 'transformers': {
      const half = new Array<number>(channels).fill(0.5);
      return { ...official, resize: [height, width], interpolation: 'bilinear', mean: half, std: half };
    }
  }
}

/** PIL's numbers of the filters that are known. */
const FILTERS: ReadonlyMap<unknown, Interpolation> = new Map<unknown, Interpolation>([
  [1, 'lanczos'],
  [2, 'bilinear'],
  [3, 'bicubic'],
]);

const isCount = (value: unknown): value is number =>
  Number.isSafeInteger(value) && (value as number) > 0 && (value as number) <= 1_000_000;

const isNumbers = (value: unknown): value is number[] =>
  Array.isArray(value) && value.length > 0 && value.every((v) => typeof v === 'number' && Number.isFinite(v));

/** A JSON value's fields as a map: names of foreign files never meet a prototype. */
export function fieldsOf(value: unknown): ReadonlyMap<string, unknown> | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  return new Map(Object.entries(value));
}

/**
 * `preprocessor_config.json`, as transformers' image processors (old and new) save it.
 *
 * @param imageSize `[height, width]` the model takes, in pixels: what the file makes must have this size
 * @param file      its name, for messages
 * @throws InputError if it is no such file, asks for something else than resize, centre crop and normalise, or makes
 *   pictures of another size
 * @see transformers `image_processing_base.py`, `image_utils.py` (`get_size_dict`)
 */
export function readPreprocessorConfig(
  json: unknown,
  imageSize: readonly [number, number],
  file: string,
): Preprocessing {
  const root = fieldsOf(json);
  if (!root) throw new InputError(`${file} must hold one JSON object`);
  const wrong = (field: string, needed: string): InputError =>
    new InputError(
      `${file}: ${field} is ${printable(JSON.stringify(root.get(field) ?? null), 60)}; it must be ${needed}`,
    );
  const on = (field: string, otherwise: boolean): boolean => {
    const value = root.get(field) ?? otherwise;
    if (typeof value !== 'boolean') throw wrong(field, 'true or false');
    return value;
  };
  /** `[height, width]`, or the short side */
  const size = (field: string): number | [number, number] => {
    const value = root.get(field);
    if (isCount(value)) return [value, value];
    const sides = fieldsOf(value);
    const [height, width, short] = ['height', 'width', 'shortest_edge'].map((side) => sides?.get(side));
    if (isCount(height) && isCount(width)) return [height, width];
    if (isCount(short)) return short;
    throw wrong(field, 'a number of pixels, {"height", "width"} or {"shortest_edge"}');
  };
  if (!on('do_resize', true)) throw wrong('do_resize', 'true: a model takes pictures of one size');
  if (!on('do_rescale', true)) throw wrong('do_rescale', 'true: mean and std are meant for values in 0..1');
  const factor = root.get('rescale_factor') ?? 1 / 255;
  if (typeof factor !== 'number' || Math.abs(factor * 255 - 1) > 1e-6) throw wrong('rescale_factor', '1/255');
  const interpolation = FILTERS.get(root.get('resample') ?? 2);
  if (!interpolation) throw wrong('resample', '1 (lanczos), 2 (bilinear) or 3 (bicubic)');
  const normalize = on('do_normalize', true);
  const mean = normalize ? (root.get('image_mean') ?? [0.5, 0.5, 0.5]) : [0, 0, 0];
  const std = normalize ? (root.get('image_std') ?? [0.5, 0.5, 0.5]) : [1, 1, 1];
  if (!isNumbers(mean)) throw wrong('image_mean', 'an array of numbers');
  if (!isNumbers(std) || std.length !== mean.length || std.some((value) => value <= 0)) {
    throw wrong('image_std', 'an array of positive numbers, as many as image_mean has');
  }
  const resize = size('size');
  const cropped = on('do_center_crop', false) ? size('crop_size') : resize;
  const crop = typeof cropped === 'number' ? ([cropped, cropped] as const) : cropped;
  if (typeof resize === 'number' && !on('do_center_crop', false)) {
    throw wrong(
      'size',
      '{"height", "width"}: a short side alone, without a crop, leaves the other side open',
    );
  }
  if (String(crop) !== String(imageSize)) {
    throw new InputError(
      `${file} makes pictures of ${crop.join('×')} pixels; the model takes ${imageSize.join('×')}`,
      { next: 'Give the transform with --preprocess.' },
    );
  }
  return { resize, crop, interpolation, mean, std, origin: file };
}

/**
 * Preprocessing as this package writes it into a model's metadata.
 *
 * @throws InputError if it is not what this package writes
 */
export function parsePreprocessing(text: string, file: string): Preprocessing {
  let root: ReadonlyMap<string, unknown> | undefined;
  try {
    root = fieldsOf(JSON.parse(text));
  } catch {
    root = undefined;
  }
  const pair = (value: unknown): value is [number, number] =>
    Array.isArray(value) && value.length === 2 && value.every(isCount);
  const [resize, crop, interpolation, mean, std, origin] = [
    'resize',
    'crop',
    'interpolation',
    'mean',
    'std',
    'origin',
  ].map((field) => root?.get(field));
  if (
    !(isCount(resize) || pair(resize)) ||
    !pair(crop) ||
    !(interpolation === 'bicubic' || interpolation === 'bilinear' || interpolation === 'lanczos') ||
    !isNumbers(mean) ||
    !isNumbers(std) ||
    std.length !== mean.length ||
    std.some((value) => value <= 0)
  ) {
    throw new InputError(`the preprocessing in the metadata of ${file} cannot be read`, {
      next: 'Give the transform with --preprocess.',
    });
  }
  return {
    resize,
    crop,
    interpolation,
    mean,
    std,
    origin: typeof origin === 'string' ? printable(origin, 200) : `metadata of ${file}`,
  };
}

/** @throws UsageError for a name that is none of the routes */
export function parseRoute(name: string): Route {
  const route = ROUTES.find((known) => known === name);
  if (!route) {
    throw new UsageError(`there is no preprocessing "${printable(name)}"`, {
      next: `Known: ${ROUTES.join(', ')}.`,
    });
  }
  return route;
}
