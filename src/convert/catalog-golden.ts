/**
 * Check values that were published for official v1 checkpoints: the first three logits and the best class for one
 * picture of COCO's validation set, which everybody can get.
 *
 * @see transformers `src/transformers/models/beit/convert_beit_unilm_to_pytorch.py`
 */
import { UsageError, printable } from '../errors.js';
import type { Preprocessing } from '../image.js';
import { catalogRow } from './catalog.js';

/** `http://images.cocodataset.org/val2017/000000039769.jpg`: two cats on a sofa, 640×480. */
export const GOLDEN_PICTURE = 'COCO val2017 000000039769.jpg';
/** As the converter checks them. */
export const GOLDEN_TOLERANCE = 1e-3;

export interface GoldenRow {
  readonly checkpoint: string;
  readonly first: readonly [number, number, number];
  readonly argmax: number;
  /** the publisher's own: bilinear, straight to the model's size, mean and std 0.5 */
  readonly preprocessing: Preprocessing;
}

// prettier-ignore
const VALUES: ReadonlyMap<string, readonly [first: readonly [number, number, number], argmax: number]> = new Map([
  ['beit_base_patch16_224_pt22k_ft22kto1k', [[-1.2385, -1.0987, -1.0108], 281]],
  ['beit_base_patch16_384_pt22k_ft22kto1k', [[-1.5303, -0.9484, -0.3147], 761]],
  ['beit_base_patch16_224_pt22k_ft1k', [[0.1241, 0.0798, -0.6569], 285]],
  ['beit_base_patch16_224_pt22k_ft22k', [[2.2288, 2.4671, 0.7395], 2397]],
  ['beit_large_patch16_224_pt22k_ft22k', [[1.6881, -0.2787, 0.5901], 2396]],
  ['beit_large_patch16_224_pt22k_ft1k', [[0.461, -0.0928, 0.2086], 761]],
  ['beit_large_patch16_224_pt22k_ft22kto1k', [[-0.4804, 0.6257, -0.1837], 761]],
  ['beit_large_patch16_384_pt22k_ft22kto1k', [[-0.5122, 0.5117, -0.2113], 761]],
  ['beit_large_patch16_512_pt22k_ft22kto1k', [[-0.3062, 0.7261, 0.4852], 761]],
]);

/**
 * @param name of a catalog row, or an alias
 * @throws UsageError if nothing was published for it
 */
export function goldenRow(name: string): GoldenRow {
  const row = catalogRow(name);
  const values = VALUES.get(row.name);
  if (!values) {
    throw new UsageError(`no check values were published for ${printable(row.name)}`, {
      next: `There are some for ${[...VALUES.keys()].join(', ')}.`,
    });
  }
  const size: readonly [number, number] = [row.imageSize, row.imageSize];
  return {
    checkpoint: row.name,
    first: values[0],
    argmax: values[1],
    preprocessing: {
      resize: size,
      crop: size,
      interpolation: 'bilinear',
      mean: [0.5, 0.5, 0.5],
      std: [0.5, 0.5, 0.5],
      origin: "transformers' BEiT preprocessing, with which the values were published",
    },
  };
}
