/**
 * Rows that several tables share.
 */
import { buffer, weight, type Rule } from '../layout-table.js';

/** A `weight` and a `bias`. */
export function affine(source: string, canonical: string): Rule[] {
  return [weight(`${source}.weight`, `${canonical}.weight`), weight(`${source}.bias`, `${canonical}.bias`)];
}

/** A BatchNorm with its running statistics. */
export function batchNorm(source: string, canonical: string): Rule[] {
  return [
    ...affine(source, canonical),
    weight(`${source}.running_mean`, `${canonical}.running_mean`),
    weight(`${source}.running_var`, `${canonical}.running_var`),
    weight(`${source}.num_batches_tracked`, `${canonical}.num_batches_tracked`),
  ];
}

/** A table of relative position biases and the index into it. */
export function positions(source: string, canonical: string): Rule[] {
  return [
    weight(`${source}.relative_position_bias_table`, `${canonical}.relative_position_bias_table`),
    buffer(`${source}.relative_position_index`, `${canonical}.relative_position_index`),
  ];
}

/**
 * A block under the official names.
 *
 * @param from what stands before the layer number, e.g. `blocks.`
 * @param to   the same in canonical names, e.g. `backbone.layers.`
 * @see unilm `beit/modeling_finetune.py` `Block`; mmpretrain `backbones/beit.py` `BEiTTransformerEncoderLayer`
 */
export function officialBlock(from: string, to: string): Rule[] {
  return [
    weight(`${from}{layer}.gamma_1`, `${to}{layer}.gamma_1`),
    weight(`${from}{layer}.gamma_2`, `${to}{layer}.gamma_2`),
    ...affine(`${from}{layer}.norm1`, `${to}{layer}.ln1`),
    weight(`${from}{layer}.attn.q_bias`, `${to}{layer}.attn.q_bias`),
    weight(`${from}{layer}.attn.v_bias`, `${to}{layer}.attn.v_bias`),
    ...positions(`${from}{layer}.attn`, `${to}{layer}.attn`),
    weight(`${from}{layer}.attn.qkv.weight`, `${to}{layer}.attn.qkv.weight`),
    ...affine(`${from}{layer}.attn.proj`, `${to}{layer}.attn.proj`),
    ...affine(`${from}{layer}.norm2`, `${to}{layer}.ln2`),
    ...affine(`${from}{layer}.mlp.fc1`, `${to}{layer}.ffn.layers.0.0`),
    ...affine(`${from}{layer}.mlp.fc2`, `${to}{layer}.ffn.layers.1`),
  ];
}

/**
 * Everything of the official backbone that does not depend on the kind of model.
 *
 * @param prefix before every name: `''`, or `backbone.` in segmentation models
 * @see unilm `beit/modeling_finetune.py` `VisionTransformer`
 */
export function officialBackbone(prefix: string): Rule[] {
  return [
    weight(`${prefix}cls_token`, 'backbone.cls_token'),
    weight(`${prefix}mask_token`, 'backbone.mask_token'),
    weight(`${prefix}pos_embed`, 'backbone.pos_embed'),
    ...affine(`${prefix}patch_embed.proj`, 'backbone.patch_embed.projection'),
    ...positions(`${prefix}rel_pos_bias`, 'backbone.rel_pos_bias'),
    ...officialBlock(`${prefix}blocks.`, 'backbone.layers.'),
  ];
}
