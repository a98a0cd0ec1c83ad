/**
 * The tiny classifier of `recipe.ts` as other kinds of model and under other frameworks' names. Written out by hand: no
 * layout of this package is asked.
 */
import type { TensorRecipe } from './recipe.js';

export type TinyKind = 'transformers' | 'mmpretrain' | 'pre-training' | 'cls_pt' | 'segmentation';
type Tensors = Map<string, TensorRecipe>;

/** @param classifier official names; dim 4, 2 blocks, 2 heads, patch 2, 4×4 pixels, 3 classes */
export function tinyOf(classifier: ReadonlyMap<string, TensorRecipe>, kind: TinyKind): Tensors {
  switch (kind) {
    case 'transformers':
      return renamed(classifier, TRANSFORMERS);
    case 'mmpretrain':
      return renamed(classifier, MMPRETRAIN);
    case 'pre-training':
      return trained(classifier);
    case 'cls_pt':
      return withSecondOutput(trained(classifier));
    case 'segmentation':
      return segmentation(classifier);
  }
}

const MMPRETRAIN: readonly (readonly [RegExp, string])[] = [
  [/^head\./, 'head.fc.'],
  [/^fc_norm\./, 'backbone.ln2.'],
  [/^blocks\./, 'backbone.layers.'],
  [/^(cls_token|patch_embed)/, 'backbone.$1'],
  [/patch_embed\.proj\./, 'patch_embed.projection.'],
  [/\.norm1\./, '.ln1.'],
  [/\.norm2\./, '.ln2.'],
  [/\.mlp\.fc1\./, '.ffn.layers.0.0.'],
  [/\.mlp\.fc2\./, '.ffn.layers.1.'],
];

const TRANSFORMERS: readonly (readonly [RegExp, string])[] = [
  [/^head\./, 'classifier.'],
  [/^fc_norm\./, 'beit.pooler.layernorm.'],
  [/^cls_token/, 'beit.embeddings.cls_token'],
  [/^patch_embed\.proj\./, 'beit.embeddings.patch_embeddings.projection.'],
  [/^blocks\./, 'beit.encoder.layer.'],
  [/\.gamma_/, '.lambda_'],
  [/\.norm1\./, '.layernorm_before.'],
  [/\.norm2\./, '.layernorm_after.'],
  [/\.mlp\.fc1\./, '.intermediate.dense.'],
  [/\.mlp\.fc2\./, '.output.dense.'],
  [/\.attn\.proj\./, '.attention.output.dense.'],
  [/\.attn\.q_bias$/, '.attention.attention.query.bias'],
  [/\.attn\.v_bias$/, '.attention.attention.value.bias'],
  [/\.attn\.relative/, '.attention.attention.relative_position_bias.relative'],
  [/\.attn\.qkv\.weight$/, '.attention.attention.{part}.weight'],
];

function renamed(
  from: ReadonlyMap<string, TensorRecipe>,
  names: readonly (readonly [RegExp, string])[],
): Tensors {
  const out: Tensors = new Map();
  for (const [name, tensor] of from) {
    const to = names.reduce((text, [pattern, replacement]) => text.replace(pattern, replacement), name);
    if (!to.includes('{part}')) out.set(to, tensor);
    else for (const part of ['query', 'key', 'value']) out.set(to.replace('{part}', part), { shape: [4, 4] });
  }
  return out;
}

/** One table for all blocks, a mask token, a norm of all tokens, 5 visual words. */
function trained(classifier: ReadonlyMap<string, TensorRecipe>): Tensors {
  const out: Tensors = new Map();
  for (const [name, tensor] of classifier) {
    if (/^(head|fc_norm)\.|relative_position/.test(name)) continue;
    out.set(name, tensor);
    if (name === 'cls_token') out.set('mask_token', { shape: [1, 1, 4] });
    if (name === 'patch_embed.proj.bias') {
      out.set('rel_pos_bias.relative_position_bias_table', { shape: [12, 2] });
    }
  }
  out.set('norm.weight', { shape: [4] });
  out.set('norm.bias', { shape: [4] });
  out.set('lm_head.weight', { shape: [5, 4] });
  out.set('lm_head.bias', { shape: [5] });
  return out;
}

function withSecondOutput(model: Tensors): Tensors {
  for (const [name, tensor] of [...model]) {
    if (name.startsWith('blocks.0.')) model.set(name.replace('blocks', 'cls_pt_layers'), tensor);
  }
  return model;
}

/** 3 classes, an auxiliary head of 2 channels. */
function segmentation(classifier: ReadonlyMap<string, TensorRecipe>): Tensors {
  const out: Tensors = new Map();
  const f32 = (name: string, ...shape: number[]): unknown => out.set(name, { shape });
  const affine = (name: string, ...shape: number[]): void => {
    f32(`${name}.weight`, ...shape);
    f32(`${name}.bias`, shape[0]);
  };
  const batchNorm = (name: string, width: number): void => {
    affine(name, width);
    f32(`${name}.running_mean`, width);
    f32(`${name}.running_var`, width);
    out.set(`${name}.num_batches_tracked`, { dtype: 'I64', shape: [] });
  };
  const conv = (name: string, ...shape: number[]): void => {
    f32(`${name}.conv.weight`, ...shape);
    batchNorm(`${name}.bn`, shape[0]);
  };
  for (const [name, tensor] of classifier) {
    if (!/^(head|fc_norm)\./.test(name)) out.set(`backbone.${name}`, tensor);
  }
  affine('backbone.fpn1.0', 4, 4, 2, 2);
  batchNorm('backbone.fpn1.1', 4);
  affine('backbone.fpn1.3', 4, 4, 2, 2);
  affine('backbone.fpn2.0', 4, 4, 2, 2);
  affine('decode_head.conv_seg', 3, 4, 1, 1);
  for (let pool = 0; pool < 4; pool++) conv(`decode_head.psp_modules.${pool}.1`, 4, 4, 1, 1);
  conv('decode_head.bottleneck', 4, 20, 3, 3);
  for (let level = 0; level < 3; level++) conv(`decode_head.lateral_convs.${level}`, 4, 4, 1, 1);
  for (let level = 0; level < 3; level++) conv(`decode_head.fpn_convs.${level}`, 4, 4, 3, 3);
  conv('decode_head.fpn_bottleneck', 4, 16, 3, 3);
  affine('auxiliary_head.conv_seg', 3, 2, 1, 1);
  conv('auxiliary_head.convs.0', 2, 4, 3, 3);
  return out;
}
