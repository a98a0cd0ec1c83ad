/**
 * OpenMMLab's names, which are the canonical ones: whole models (`backbone.`, `neck.`, `head.`), and bare backbones
 * without the prefix. mmclassification, mmpretrain and mmselfsup agree.
 *
 * @see mmpretrain `models/backbones/beit.py`, `heads/linear_head.py`, `heads/beitv1_head.py`, `necks/beitv2_neck.py`
 */
import { weight, type Layout, type Rule } from '../layout-table.js';
import { affine, positions } from './rows.js';

function block(from: string, to: string): Rule[] {
  return [
    weight(`${from}{layer}.gamma_1`, `${to}{layer}.gamma_1`),
    weight(`${from}{layer}.gamma_2`, `${to}{layer}.gamma_2`),
    ...affine(`${from}{layer}.ln1`, `${to}{layer}.ln1`),
    weight(`${from}{layer}.attn.q_bias`, `${to}{layer}.attn.q_bias`),
    weight(`${from}{layer}.attn.v_bias`, `${to}{layer}.attn.v_bias`),
    ...positions(`${from}{layer}.attn`, `${to}{layer}.attn`),
    weight(`${from}{layer}.attn.qkv.weight`, `${to}{layer}.attn.qkv.weight`),
    // bias=True: one bias with a part for k; then there are no q_bias and v_bias
    weight(`${from}{layer}.attn.qkv.bias`, `${to}{layer}.attn.qkv.bias`),
    ...affine(`${from}{layer}.attn.proj`, `${to}{layer}.attn.proj`),
    ...affine(`${from}{layer}.ln2`, `${to}{layer}.ln2`),
    ...affine(`${from}{layer}.ffn.layers.0.0`, `${to}{layer}.ffn.layers.0.0`),
    ...affine(`${from}{layer}.ffn.layers.1`, `${to}{layer}.ffn.layers.1`),
  ];
}

function backbone(prefix: string): Rule[] {
  return [
    weight(`${prefix}cls_token`, 'backbone.cls_token'),
    weight(`${prefix}mask_token`, 'backbone.mask_token'),
    weight(`${prefix}pos_embed`, 'backbone.pos_embed'),
    ...affine(`${prefix}patch_embed.projection`, 'backbone.patch_embed.projection'),
    ...positions(`${prefix}rel_pos_bias`, 'backbone.rel_pos_bias'),
    ...block(`${prefix}layers.`, 'backbone.layers.'),
    ...affine(`${prefix}ln1`, 'backbone.ln1'),
    ...affine(`${prefix}ln2`, 'backbone.ln2'),
  ];
}

export const mmpretrain: Layout = {
  name: 'mmpretrain',
  storesIndex: true,
  tables: [
    {
      rules: [
        ...backbone('backbone.'),
        ...affine('head.fc', 'head.fc'),
        ...affine('head.cls_head', 'head.cls_head'),
        ...affine('neck.norm', 'neck.norm'),
        ...block('neck.patch_aggregation.', 'neck.patch_aggregation.'),
      ],
      bystanders: [
        { prefix: 'target_generator.', what: 'the target generator of the training run (a tokenizer)' },
      ],
    },
    { rules: backbone('') },
  ],
};
