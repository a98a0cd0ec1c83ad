/**
 * Names of the official checkpoints: unilm `beit/modeling_finetune.py` and `beit2/modeling_finetune.py` (v1 = v2), and
 * timm `timm/models/beit.py`. Canonical names: mmpretrain `BEiTViT` + `LinearClsHead`.
 */
import { buffer, weight, type Layout } from '../layout.js';

export const official: Layout = {
  name: 'official',
  rules: [
    weight('cls_token', 'backbone.cls_token'),
    weight('pos_embed', 'backbone.pos_embed'),
    weight('patch_embed.proj.weight', 'backbone.patch_embed.projection.weight'),
    weight('patch_embed.proj.bias', 'backbone.patch_embed.projection.bias'),
    weight('rel_pos_bias.relative_position_bias_table', 'backbone.rel_pos_bias.relative_position_bias_table'),
    buffer('rel_pos_bias.relative_position_index', 'backbone.rel_pos_bias.relative_position_index'),

    weight('blocks.{layer}.gamma_1', 'backbone.layers.{layer}.gamma_1'),
    weight('blocks.{layer}.gamma_2', 'backbone.layers.{layer}.gamma_2'),
    weight('blocks.{layer}.norm1.weight', 'backbone.layers.{layer}.ln1.weight'),
    weight('blocks.{layer}.norm1.bias', 'backbone.layers.{layer}.ln1.bias'),
    weight('blocks.{layer}.attn.q_bias', 'backbone.layers.{layer}.attn.q_bias'),
    weight('blocks.{layer}.attn.v_bias', 'backbone.layers.{layer}.attn.v_bias'),
    weight(
      'blocks.{layer}.attn.relative_position_bias_table',
      'backbone.layers.{layer}.attn.relative_position_bias_table',
    ),
    buffer(
      'blocks.{layer}.attn.relative_position_index',
      'backbone.layers.{layer}.attn.relative_position_index',
    ),
    weight('blocks.{layer}.attn.qkv.weight', 'backbone.layers.{layer}.attn.qkv.weight'),
    weight('blocks.{layer}.attn.proj.weight', 'backbone.layers.{layer}.attn.proj.weight'),
    weight('blocks.{layer}.attn.proj.bias', 'backbone.layers.{layer}.attn.proj.bias'),
    weight('blocks.{layer}.norm2.weight', 'backbone.layers.{layer}.ln2.weight'),
    weight('blocks.{layer}.norm2.bias', 'backbone.layers.{layer}.ln2.bias'),
    weight('blocks.{layer}.mlp.fc1.weight', 'backbone.layers.{layer}.ffn.layers.0.0.weight'),
    weight('blocks.{layer}.mlp.fc1.bias', 'backbone.layers.{layer}.ffn.layers.0.0.bias'),
    weight('blocks.{layer}.mlp.fc2.weight', 'backbone.layers.{layer}.ffn.layers.1.weight'),
    weight('blocks.{layer}.mlp.fc2.bias', 'backbone.layers.{layer}.ffn.layers.1.bias'),

    // mean pooling has fc_norm and no norm, class pooling has norm and no fc_norm
    weight('norm.weight', 'backbone.ln1.weight'),
    weight('norm.bias', 'backbone.ln1.bias'),
    weight('fc_norm.weight', 'backbone.ln2.weight'),
    weight('fc_norm.bias', 'backbone.ln2.bias'),
    weight('head.weight', 'head.fc.weight'),
    weight('head.bias', 'head.fc.bias'),
  ],
};
