/**
 * What a BEiT is: its config, which tensors it must have, what it costs. (`infer-config.ts` reads a config off shapes.)
 *
 * Canonical names are the refactored backbone's (mmpretrain `mmpretrain/models/backbones/beit.py` `BEiTViT` and
 * `heads/linear_head.py` `LinearClsHead`). Symbols: E hidden size, D depth, H heads, M MLP width, P patch (pixels),
 * window (Wh, Ww) in patches, N = Wh*Ww, T = (2Wh-1)(2Ww-1)+3 table rows.
 */
import { elementCount } from './tensor.js';

export type Pooling = 'mean' | 'class';

/** The whole architecture of one BEiT classifier; everything a graph or an oracle needs besides the weights. */
export interface BeitConfig {
  /** `[height, width]` in pixels */
  readonly imageSize: readonly [number, number];
  /** side of a (square) patch in pixels */
  readonly patchSize: number;
  /** `[Wh, Ww]` in patches: `floor(imageSize / patchSize)` */
  readonly window: readonly [number, number];
  readonly channels: number;
  /** width of a token, E */
  readonly hiddenSize: number;
  readonly depth: number;
  readonly heads: number;
  /** width of the MLP's hidden layer, M */
  readonly mlpSize: number;
  readonly classes: number;
  /** gamma_1, gamma_2 present */
  readonly layerScale: boolean;
  /** q_bias and v_bias present (k never has one) */
  readonly qvBias: boolean;
  readonly absolutePosition: boolean;
  /** one relative position bias table in every block */
  readonly relativePosition: boolean;
  /** one relative position bias table for all blocks */
  readonly sharedRelativePosition: boolean;
  /** `mean`: patch tokens averaged, then LayerNorm (`backbone.ln2`); `class`: LayerNorm (`backbone.ln1`), token 0 */
  readonly pooling: Pooling;
  /** 1e-6 upstream (unilm `beit/modeling_finetune.py`), 1e-12 in transformers' configs */
  readonly layerNormEps: number;
}

/** Inside a block, after `backbone.layers.<i>.`. */
export const TABLE = 'attn.relative_position_bias_table';
export const SHARED_TABLE = 'backbone.rel_pos_bias.relative_position_bias_table';

/** Rows of a relative position bias table for a window `[Wh, Ww]`: `(2Wh-1)(2Ww-1) + 3`. */
export function tableRows(window: readonly [number, number]): number {
  return (2 * window[0] - 1) * (2 * window[1] - 1) + 3;
}

/** Tokens of one image: patches and the class token. */
export function tokenCount(config: Pick<BeitConfig, 'window'>): number {
  return config.window[0] * config.window[1] + 1;
}

/**
 * `relative_position_index` of a window, row-major `[N+1, N+1]`, row = query, column = key, token 0 = class token.
 *
 * @see unilm `beit/modeling_finetune.py` `Attention.__init__`: patches index a `(2Wh-1, 2Ww-1)` grid; the last three
 *   rows are class-to-patch, patch-to-class, class-to-class
 */
export function relativePositionIndex(window: readonly [number, number]): Int32Array {
  const [height, width] = window;
  const tokens = height * width + 1;
  const rows = tableRows(window);
  const index = new Int32Array(tokens * tokens);
  for (let key = 1; key < tokens; key++) index[key] = rows - 3;
  for (let query = 1; query < tokens; query++) index[query * tokens] = rows - 2;
  index[0] = rows - 1;
  for (let query = 1; query < tokens; query++) {
    const queryY = Math.floor((query - 1) / width);
    const queryX = (query - 1) % width;
    for (let key = 1; key < tokens; key++) {
      const keyY = Math.floor((key - 1) / width);
      const keyX = (key - 1) % width;
      index[query * tokens + key] =
        (queryY - keyY + height - 1) * (2 * width - 1) + (queryX - keyX + width - 1);
    }
  }
  return index;
}

/**
 * Every canonical tensor a model of this config has, with its shape, in upstream's registration order.
 * A file must match it both ways.
 */
export function inventory(config: BeitConfig): Map<string, readonly number[]> {
  const { hiddenSize: E, mlpSize: M, heads: H, channels, patchSize, classes } = config;
  const rows = tableRows(config.window);
  const tokens = tokenCount(config);
  const out = new Map<string, readonly number[]>();
  out.set('backbone.cls_token', [1, 1, E]);
  if (config.absolutePosition) out.set('backbone.pos_embed', [1, tokens, E]);
  out.set('backbone.patch_embed.projection.weight', [E, channels, patchSize, patchSize]);
  out.set('backbone.patch_embed.projection.bias', [E]);
  if (config.sharedRelativePosition) out.set(SHARED_TABLE, [rows, H]);
  for (let layer = 0; layer < config.depth; layer++) {
    const at = `backbone.layers.${layer}.`;
    if (config.layerScale) {
      out.set(`${at}gamma_1`, [E]);
      out.set(`${at}gamma_2`, [E]);
    }
    out.set(`${at}ln1.weight`, [E]);
    out.set(`${at}ln1.bias`, [E]);
    if (config.qvBias) {
      out.set(`${at}attn.q_bias`, [E]);
      out.set(`${at}attn.v_bias`, [E]);
    }
    if (config.relativePosition) out.set(`${at}${TABLE}`, [rows, H]);
    out.set(`${at}attn.qkv.weight`, [3 * E, E]);
    out.set(`${at}attn.proj.weight`, [E, E]);
    out.set(`${at}attn.proj.bias`, [E]);
    out.set(`${at}ln2.weight`, [E]);
    out.set(`${at}ln2.bias`, [E]);
    out.set(`${at}ffn.layers.0.0.weight`, [M, E]);
    out.set(`${at}ffn.layers.0.0.bias`, [M]);
    out.set(`${at}ffn.layers.1.weight`, [E, M]);
    out.set(`${at}ffn.layers.1.bias`, [E]);
  }
  const norm = config.pooling === 'mean' ? 'backbone.ln2' : 'backbone.ln1';
  out.set(`${norm}.weight`, [E]);
  out.set(`${norm}.bias`, [E]);
  out.set('head.fc.weight', [classes, E]);
  out.set('head.fc.bias', [classes]);
  return out;
}

export interface Complexity {
  readonly parameters: number;
  /** as OpenMMLab publishes them: MACs of conv, linear and attention products + 5 per LayerNorm element, no head */
  readonly flops: number;
}

/**
 * Parameters (head included) and FLOPs in the published convention.
 *
 * @see mmpretrain `configs/beit/metafile.yml` (FLOPs 17581219584, Parameters 86530984 for base at 224)
 */
export function complexity(config: BeitConfig): Complexity {
  const { hiddenSize: E, mlpSize: M, depth, channels, patchSize } = config;
  const patches = config.window[0] * config.window[1];
  const tokens = patches + 1;
  let parameters = 0;
  for (const shape of inventory(config).values()) parameters += elementCount(shape);
  const conv = patches * E * channels * patchSize * patchSize;
  const block = tokens * (4 * E * E + 2 * E * M) + 2 * tokens * tokens * E + 2 * 5 * tokens * E;
  const finalNorm = 5 * E * (config.pooling === 'mean' ? 1 : tokens);
  return { parameters, flops: conv + depth * block + finalNorm };
}
