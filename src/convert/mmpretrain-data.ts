/**
 * OpenMMLab's BEiT checkpoints, as published. Data only.
 *
 * The last eight digits of each file's stem are the first of its sha256 (`tools/model_converters/publish_model.py`).
 * @see mmpretrain `configs/beit/metafile.yml` and `configs/beitv2/metafile.yml`: names, accuracies, addresses
 */
import type { ArchitectureName, BeitVersion, Task } from './catalog-data.js';

export interface MmpretrainEntry {
  /** config name, as mmpretrain's model zoo lists it */
  readonly name: string;
  readonly task: Task;
  readonly version: BeitVersion;
  readonly architecture: ArchitectureName;
  /** side of the square input in pixels */
  readonly imageSize: number;
  /** 0 for pre-training */
  readonly classes: number;
  readonly top1?: number;
  readonly top5?: number;
  /** below {@link OPENMMLAB} */
  readonly path: string;
}

export const OPENMMLAB = 'https://download.openmmlab.com';

const base = { architecture: 'base', imageSize: 224 } as const;
const classifier = { task: 'classification', classes: 1000 } as const;
const pretraining = { task: 'pre-training', classes: 0 } as const;
const v1 = { version: 1 } as const;
const v2 = { version: 2 } as const;
const BEIT = 'mmselfsup/1.x/beit/beit_vit-base-p16_8xb256-amp-coslr-300e_in1k';
const BEITV2 = 'mmselfsup/1.x/beitv2/beitv2_vit-base-p16_8xb256-amp-coslr-300e_in1k';
const FINETUNED = 'vit-base-p16_ft-8xb128-coslr-100e_in1k/vit-base-p16_ft-8xb128-coslr-100e_in1k';

// prettier-ignore
export const MMPRETRAIN_DATA: readonly MmpretrainEntry[] = [
  { ...v1, ...base, ...classifier, name: 'beit-base-p16_beit-in21k-pre_3rdparty_in1k', top1: 85.28, top5: 97.59,
    path: 'mmclassification/v0/beit/beit-base_3rdparty_in1k_20221114-c0a4df23.pth' },
  { ...v1, ...base, ...classifier, name: 'beit-base-p16_beit-pre_8xb128-coslr-100e_in1k', top1: 83.1,
    path: `${BEIT}/${FINETUNED}_20221128-0ca393e9.pth` },
  { ...v1, ...base, ...pretraining, name: 'beit_beit-base-p16_8xb256-amp-coslr-300e_in1k',
    path: `${BEIT}/beit_vit-base-p16_8xb256-amp-coslr-300e_in1k_20221128-ab79e626.pth` },
  { ...v2, ...base, ...classifier, name: 'beit-base-p16_beitv2-in21k-pre_3rdparty_in1k', top1: 86.47, top5: 97.99,
    path: 'mmclassification/v0/beit/beitv2-base_3rdparty_in1k_20221114-73e11905.pth' },
  { ...v2, ...base, ...classifier, name: 'beit-base-p16_beitv2-pre_8xb128-coslr-100e_in1k', top1: 85.0,
    path: `${BEITV2}/${FINETUNED}_20221212-d1c0789e.pth` },
  { ...v2, ...base, ...pretraining, name: 'beitv2_beit-base-p16_8xb256-amp-coslr-300e_in1k',
    path: `${BEITV2}/beitv2_vit-base-p16_8xb256-amp-coslr-300e_in1k_20221212-a157be30.pth` },
];
