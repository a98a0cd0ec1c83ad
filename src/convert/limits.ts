/**
 * What a framework cannot be told, though its layout has the names: checked when a file is read and when one is written.
 */
import type { BeitConfig } from '../beit.js';
import type { Layout } from './layout-table.js';

export interface Limit {
  /** canonical tensor that shows it (absent from the model, where its absence is the point) */
  readonly tensor: string;
  /** completes “the official layout cannot hold it: …” */
  readonly why: string;
}

interface Row extends Limit {
  readonly layouts: readonly string[];
  readonly applies: (config: BeitConfig) => boolean;
}

const ROWS: readonly Row[] = [
  {
    layouts: ['official', 'timm', 'transformers'],
    applies: ({ classToken }) => !classToken,
    tensor: 'backbone.cls_token',
    why: 'only mmpretrain has models without a class token',
  },
  {
    layouts: ['official', 'timm', 'transformers'],
    applies: ({ tokenNorm, pooledNorm }) => tokenNorm && pooledNorm,
    tensor: 'backbone.ln1.weight',
    why: 'mean pooling has no norm over all tokens there; only mmpretrain has both norms',
  },
  {
    layouts: ['official', 'timm', 'transformers'],
    applies: ({ qkvBias }) => qkvBias,
    tensor: 'backbone.layers.0.attn.qkv.bias',
    why: 'k has no bias there',
  },
  {
    layouts: ['timm'],
    applies: ({ kind }) => kind === 'pre-training',
    tensor: 'head.cls_head.weight',
    why: 'timm has no pre-training models',
  },
  {
    layouts: ['timm'],
    applies: ({ kind, maskToken }) => kind !== 'pre-training' && maskToken,
    tensor: 'backbone.mask_token',
    why: 'timm has no mask token',
  },
  {
    layouts: ['timm', 'mmpretrain'],
    applies: ({ kind }) => kind === 'segmentation',
    tensor: 'decode_head.conv_seg.weight',
    why: 'it has no segmentation models',
  },
  {
    layouts: ['transformers'],
    applies: ({ clsPretraining }) => clsPretraining !== undefined,
    tensor: 'neck.patch_aggregation.0.attn.qkv.weight',
    why: 'transformers has no second output in pre-training',
  },
  {
    layouts: ['mmpretrain'],
    applies: ({ clsPretraining }) => clsPretraining?.sharedHead === false,
    tensor: 'neck.cls_pt_norm.weight',
    why: 'both outputs share one norm and one head there',
  },
];

/** Why a model of this config cannot be in this layout; empty when it can. */
export function limitsOf(layout: Pick<Layout, 'name'>, config: BeitConfig): readonly Limit[] {
  return ROWS.filter(({ layouts, applies }) => layouts.includes(layout.name) && applies(config));
}
