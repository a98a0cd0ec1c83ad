/**
 * The official BEiT classification checkpoints, as published. Data only: names, accuracies, places.
 *
 * Accuracies: ImageNet-1k validation, in percent, digits as published.
 * @see unilm `beit/README.md` and `beit/get_started_for_image_classification.md` (v1),
 *   `beit2/get_started_for_image_classification.md` and `beit2/README.md` (v2)
 * @see timm `timm/models/beit.py` `default_cfgs` (hub names; the tensors keep upstream's names there)
 */

export type BeitVersion = 1 | 2;
export type ArchitectureName = 'base' | 'large';
export type Task = 'classification' | 'pre-training';

export interface CatalogEntry {
  /** stem of upstream's file */
  readonly name: string;
  readonly version: BeitVersion;
  readonly architecture: ArchitectureName;
  /** side of the square input in pixels */
  readonly imageSize: number;
  readonly classes: number;
  readonly top1?: number;
  readonly top5?: number;
  /** repository of the `timm` organisation on the hub that holds these weights under upstream's tensor names */
  readonly timm?: string;
  /** name of Hugging Face's conversion (other tensor names, same weights); known as an alias only */
  readonly transformers?: string;
}

/** Width, depth, heads: unilm `beit/modeling_finetune.py`; both have MLP ratio 4 and patches of 16 pixels. */
export const ARCHITECTURES = {
  base: { hiddenSize: 768, depth: 12, heads: 12 },
  large: { hiddenSize: 1024, depth: 24, heads: 16 },
} as const;

/** Folder of upstream's own files, by version: `<folder>/<name>.pth`. */
export const RELEASES = {
  1: 'https://github.com/addf400/files/releases/download/v1.0',
  2: 'https://github.com/addf400/files/releases/download/BEiT-v2',
} as const;

export const DEFAULT_CATALOG_NAME = 'beit_base_patch16_224_pt22k_ft22kto1k';

const v1 = { version: 1 } as const;
const v2 = { version: 2, imageSize: 224 } as const;
const base = { architecture: 'base' } as const;
const large = { architecture: 'large' } as const;

// prettier-ignore
export const CATALOG_DATA: readonly CatalogEntry[] = [
  { ...v1, ...base, name: 'beit_base_patch16_224_pt22k_ft22k', imageSize: 224, classes: 21841,
    timm: 'beit_base_patch16_224.in22k_ft_in22k', transformers: 'beit-base-patch16-224-pt22k-ft22k' },
  { ...v1, ...large, name: 'beit_large_patch16_224_pt22k_ft22k', imageSize: 224, classes: 21841,
    timm: 'beit_large_patch16_224.in22k_ft_in22k', transformers: 'beit-large-patch16-224-pt22k-ft22k' },
  { ...v1, ...base, name: 'beit_base_patch16_224_pt22k_ft1k', imageSize: 224, classes: 1000, top1: 83.7, top5: 96.6 },
  { ...v1, ...base, name: 'beit_base_patch16_224_pt22k_ft22kto1k', imageSize: 224, classes: 1000, top1: 85.2, top5: 97.6,
    timm: 'beit_base_patch16_224.in22k_ft_in22k_in1k', transformers: 'beit-base-patch16-224' },
  { ...v1, ...base, name: 'beit_base_patch16_384_pt22k_ft22kto1k', imageSize: 384, classes: 1000, top1: 86.8, top5: 98.1,
    timm: 'beit_base_patch16_384.in22k_ft_in22k_in1k', transformers: 'beit-base-patch16-384' },
  { ...v1, ...large, name: 'beit_large_patch16_224_pt22k_ft1k', imageSize: 224, classes: 1000, top1: 86.0, top5: 97.6 },
  { ...v1, ...large, name: 'beit_large_patch16_224_pt22k_ft22kto1k', imageSize: 224, classes: 1000, top1: 87.4, top5: 98.3,
    timm: 'beit_large_patch16_224.in22k_ft_in22k_in1k', transformers: 'beit-large-patch16-224' },
  { ...v1, ...large, name: 'beit_large_patch16_384_pt22k_ft22kto1k', imageSize: 384, classes: 1000, top1: 88.4, top5: 98.6,
    timm: 'beit_large_patch16_384.in22k_ft_in22k_in1k', transformers: 'beit-large-patch16-384' },
  { ...v1, ...large, name: 'beit_large_patch16_512_pt22k_ft22kto1k', imageSize: 512, classes: 1000, top1: 88.6, top5: 98.66,
    timm: 'beit_large_patch16_512.in22k_ft_in22k_in1k', transformers: 'beit-large-patch16-512' },

  { ...v2, ...base, name: 'beitv2_base_patch16_224_pt1k_ft21k', classes: 21841,
    timm: 'beitv2_base_patch16_224.in1k_ft_in22k' },
  { ...v2, ...large, name: 'beitv2_large_patch16_224_pt1k_ft21k', classes: 21841,
    timm: 'beitv2_large_patch16_224.in1k_ft_in22k' },
  { ...v2, ...base, name: 'beitv2_base_patch16_224_pt1k_300e_ft1k', classes: 1000, top1: 85.0 },
  { ...v2, ...base, name: 'beitv2_base_patch16_224_pt1k_ft1k', classes: 1000, top1: 85.5, top5: 97.5,
    timm: 'beitv2_base_patch16_224.in1k_ft_in1k' },
  { ...v2, ...base, name: 'beitv2_base_patch16_224_pt1k_ft21kto1k', classes: 1000, top1: 86.5, top5: 98.0,
    timm: 'beitv2_base_patch16_224.in1k_ft_in22k_in1k' },
  { ...v2, ...large, name: 'beitv2_large_patch16_224_pt1k_300e_ft1k', classes: 1000, top1: 86.6 },
  { ...v2, ...large, name: 'beitv2_large_patch16_224_pt1k_ft1k', classes: 1000, top1: 87.3, top5: 98.2,
    timm: 'beitv2_large_patch16_224.in1k_ft_in1k' },
  { ...v2, ...large, name: 'beitv2_large_patch16_224_pt1k_ft21kto1k', classes: 1000, top1: 88.4, top5: 98.6,
    timm: 'beitv2_large_patch16_224.in1k_ft_in22k_in1k' },
];
