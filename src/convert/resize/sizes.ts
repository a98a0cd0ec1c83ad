/**
 * What image and patch size a resize leads to, and whether a model can have them.
 */
import type { BeitConfig } from '../../beit.js';
import { UsageError } from '../../errors.js';
import { MOST_PIXELS, type ResizeRequest } from '../../resizing.js';

/** Largest patch, in pixels: published ones have 14 and 16, FlexiViT went up to 48. */
const MOST_PATCH_PIXELS = 128;
/** Most patches of an image: attention and the index buffer grow with the square (10,000 make 400 MB of index). */
const MOST_PATCHES = 10_000;

/**
 * The config at the wanted size; the same object when nothing changes.
 *
 * @param pads images are padded to whole patches (mmpretrain) instead of cut to them
 *
 * @throws UsageError for sizes that no model can have
 */
export function resizedConfig<C extends BeitConfig>(config: C, request: ResizeRequest, pads: boolean): C {
  const imageSize = request.imageSize ?? config.imageSize;
  const patchSize = request.patchSize ?? config.patchSize;
  if (!imageSize.every((side) => isWhole(side, MOST_PIXELS))) {
    throw new UsageError(
      `an image size of ${imageSize.join('×')} pixels: needed are whole numbers from 1 to ${MOST_PIXELS}`,
    );
  }
  if (!isWhole(patchSize, MOST_PATCH_PIXELS)) {
    throw new UsageError(
      `a patch size of ${patchSize} pixels: needed is a whole number from 1 to ${MOST_PATCH_PIXELS}`,
    );
  }
  if (String(imageSize) === String(config.imageSize) && patchSize === config.patchSize) return config;
  const [height, width] = imageSize;
  const whole = pads ? Math.ceil : Math.floor;
  const window = [whole(height / patchSize), whole(width / patchSize)] as const;
  if (window[0] < 1 || window[1] < 1) {
    throw new UsageError(`an image of ${imageSize.join('×')} pixels has no whole patch of ${patchSize}`, {
      next: `The smallest image is ${patchSize}×${patchSize}.`,
    });
  }
  if (window[0] * window[1] > MOST_PATCHES) {
    throw new UsageError(
      `an image of ${imageSize.join('×')} pixels has ${window.join('×')} patches of ${patchSize}: at most ${MOST_PATCHES.toLocaleString('en-US')} are possible`,
    );
  }
  return { ...config, imageSize: [height, width], patchSize, window };
}

/** How the image and whole patches differ, as a sentence; `undefined` if they don't. */
export function remainder({ imageSize, patchSize, window }: BeitConfig): string | undefined {
  const [rows, columns] = imageSize.map((side) => side % patchSize);
  if (rows === 0 && columns === 0) return undefined;
  const subject = `${imageSize.join('×')} pixels are no whole number of patches of ${patchSize}`;
  if (window[0] * patchSize > imageSize[0] || window[1] * patchSize > imageSize[1]) {
    return `${subject}: zeros follow at the bottom and the right, up to ${window.map((side) => side * patchSize).join('×')} (as in mmpretrain)`;
  }
  const parts = [
    ...(rows > 0 ? [rows === 1 ? 'the last row' : `the last ${rows} rows`] : []),
    ...(columns > 0 ? [columns === 1 ? 'the last column' : `the last ${columns} columns`] : []),
  ];
  return `${subject}: ${parts.join(' and ')} of pixels are not looked at (as in unilm, timm and transformers)`;
}

function isWhole(value: number, most: number): boolean {
  return Number.isInteger(value) && value >= 1 && value <= most;
}
