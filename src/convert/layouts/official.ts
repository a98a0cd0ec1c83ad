/**
 * Names of the official checkpoints: unilm `beit/` and `beit2/` (the same). Canonical names: mmpretrain `BEiTViT`,
 * `LinearClsHead`, `BEiTV1Head`, `BEiTV2Neck`.
 */
import type { Layout } from '../layout-table.js';
import { affine, officialBackbone, officialBlock } from './rows.js';
import { segmentationHeads } from './segmentation.js';

export const official: Layout = {
  name: 'official',
  storesIndex: true,
  tables: [
    // unilm `beit/modeling_finetune.py`: mean pooling has fc_norm and no norm, class pooling norm and no fc_norm
    {
      rules: [
        ...officialBackbone(''),
        ...affine('norm', 'backbone.ln1'),
        ...affine('fc_norm', 'backbone.ln2'),
        ...affine('head', 'head.fc'),
      ],
    },
    // unilm `beit/modeling_pretrain.py`
    {
      rules: [
        ...officialBackbone(''),
        ...affine('norm', 'backbone.ln1'),
        ...affine('lm_head', 'head.cls_head'),
      ],
    },
    // unilm `beit2/modeling_pretrain.py` `VisionTransformerForMaskedImageModelingCLS`: norm belongs to both outputs
    {
      rules: [
        ...officialBackbone(''),
        ...affine('norm', 'neck.norm'),
        ...affine('lm_head', 'head.cls_head'),
        ...officialBlock('cls_pt_layers.', 'neck.patch_aggregation.'),
        // only where the second output has a norm and a head of its own; mmpretrain has no such thing
        ...affine('cls_pt_norm', 'neck.cls_pt_norm'),
        ...affine('cls_pt_lm_head', 'head.cls_pt_head'),
      ],
    },
    // unilm `beit/semantic_segmentation/`: mmsegmentation's UPerHead and FCNHead
    {
      rules: [
        ...officialBackbone('backbone.'),
        ...segmentationHeads({ fpn: 'backbone.', classifier: 'conv_seg' }),
      ],
    },
  ],
};
