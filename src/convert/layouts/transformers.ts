/**
 * Hugging Face transformers `models/beit/modeling_beit.py`: `BeitModel`, `BeitForImageClassification`,
 * `BeitForMaskedImageModeling`, `BeitForSemanticSegmentation`. q, k and v are matrices of their own; k has no bias, q
 * and v always have one. The index is in files of 2021 to 2023 only.
 */
import { stacked, weight, type Layout, type Rule } from '../layout-table.js';
import { affine, positions } from './rows.js';
import { segmentationHeads } from './segmentation.js';

function backbone(prefix: string): Rule[] {
  const embeddings = `${prefix}embeddings.`;
  const from = `${prefix}encoder.layer.{layer}.`;
  const attention = `${from}attention.attention.`;
  const to = 'backbone.layers.{layer}.';
  return [
    weight(`${embeddings}cls_token`, 'backbone.cls_token'),
    weight(`${embeddings}mask_token`, 'backbone.mask_token'),
    weight(`${embeddings}position_embeddings`, 'backbone.pos_embed'),
    ...affine(`${embeddings}patch_embeddings.projection`, 'backbone.patch_embed.projection'),
    ...positions(`${prefix}encoder.relative_position_bias`, 'backbone.rel_pos_bias'),
    weight(`${from}lambda_1`, `${to}gamma_1`),
    weight(`${from}lambda_2`, `${to}gamma_2`),
    ...affine(`${from}layernorm_before`, `${to}ln1`),
    {
      source: [`${attention}query.weight`, `${attention}key.weight`, `${attention}value.weight`],
      canonical: [`${to}attn.qkv.weight`],
      op: stacked(3),
      role: 'weight',
    },
    weight(`${attention}query.bias`, `${to}attn.q_bias`),
    weight(`${attention}value.bias`, `${to}attn.v_bias`),
    ...positions(`${attention}relative_position_bias`, `${to}attn`),
    ...affine(`${from}attention.output.dense`, `${to}attn.proj`),
    ...affine(`${from}layernorm_after`, `${to}ln2`),
    ...affine(`${from}intermediate.dense`, `${to}ffn.layers.0.0`),
    ...affine(`${from}output.dense`, `${to}ffn.layers.1`),
  ];
}

export const transformers: Layout = {
  name: 'transformers',
  storesIndex: false,
  tables: [
    // BeitModel
    {
      rules: [
        ...backbone(''),
        ...affine('layernorm', 'backbone.ln1'),
        ...affine('pooler.layernorm', 'backbone.ln2'),
      ],
    },
    // BeitForImageClassification
    {
      rules: [
        ...backbone('beit.'),
        ...affine('beit.layernorm', 'backbone.ln1'),
        ...affine('beit.pooler.layernorm', 'backbone.ln2'),
        ...affine('classifier', 'head.fc'),
      ],
    },
    // BeitForMaskedImageModeling
    {
      rules: [
        ...backbone('beit.'),
        ...affine('layernorm', 'backbone.ln1'),
        ...affine('lm_head', 'head.cls_head'),
      ],
    },
    // BeitForSemanticSegmentation
    {
      rules: [...backbone('beit.'), ...segmentationHeads({ fpn: '', classifier: 'classifier' })],
    },
  ],
};
