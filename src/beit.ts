/**
 * What a BEiT is: its config, which tensors it must have, what it costs. (`infer-config.ts` reads a config off shapes.)
 *
 * Canonical names are the refactored backbone's (mmpretrain `mmpretrain/models/backbones/beit.py` `BEiTViT` and
 * `heads/linear_head.py` `LinearClsHead`). Symbols: E hidden size, D depth, H heads, M MLP width, P patch (pixels),
 * window (Wh, Ww) in patches, N = Wh*Ww, T = (2Wh-1)(2Ww-1)+3 table rows.
 */
import { isStatistic, putSegmentation, type SegmentationHeads } from './segmentation.js';
import { elementCount } from './tensor.js';

export { isStatistic, type SegmentationHeads } from './segmentation.js';

/** What the head sees: the mean of the patch tokens, or the class token. */
export type Pooling = 'mean' | 'class';

/** What a checkpoint is for. */
export type Kind = 'classification' | 'pre-training' | 'backbone' | 'segmentation';

/** The second output of BEiT v2 pre-training: a few blocks that see the last class token and early patch tokens. */
export interface ClsPretraining {
  /** blocks that the patch tokens have passed when they are taken (unilm `early_layers`) */
  readonly earlyLayer: number;
  /** blocks of the second output */
  readonly layers: number;
  /** one norm and one head for both outputs */
  readonly sharedHead: boolean;
}

/** The whole architecture of one BEiT; everything a graph or an oracle needs besides the weights. */
export interface BeitConfig {
  readonly kind: Kind;
  /** `[height, width]` in pixels */
  readonly imageSize: readonly [number, number];
  /** side of a (square) patch in pixels */
  readonly patchSize: number;
  /** `[Wh, Ww]` in patches: `floor(imageSize / patchSize)` */
  readonly window: readonly [number, number];
  /** of the input; 3 for RGB */
  readonly channels: number;
  /** width of a token, E */
  readonly hiddenSize: number;
  /** number of blocks, D */
  readonly depth: number;
  /** attention heads per block, H; they divide E */
  readonly heads: number;
  /** width of the MLP's hidden layer, M */
  readonly mlpSize: number;
  /** 0 for pre-training and backbones */
  readonly classes: number;
  /** visual words that pre-training predicts, V; 0 for everything else */
  readonly vocabulary: number;
  /** `false`: mmpretrain `with_cls_token=False`; then there are no relative positions */
  readonly classToken: boolean;
  /** a token that stands for masked patches */
  readonly maskToken: boolean;
  /** gamma_1, gamma_2 present */
  readonly layerScale: boolean;
  /** q_bias and v_bias present (k never has one) */
  readonly qvBias: boolean;
  /** one bias of q, k and v (mmpretrain `bias=True`); then there are no q_bias and v_bias */
  readonly qkvBias: boolean;
  /** one learned vector per token is added to the input of the first block */
  readonly absolutePosition: boolean;
  /** one relative position bias table in every block */
  readonly relativePosition: boolean;
  /** one relative position bias table for all blocks */
  readonly sharedRelativePosition: boolean;
  /** `mean`: patch tokens averaged, then LayerNorm; `class`: token 0. Backbones: what their norms are made for */
  readonly pooling: Pooling;
  /** `backbone.ln1`: LayerNorm over all tokens after the last block */
  readonly tokenNorm: boolean;
  /** `backbone.ln2`: LayerNorm of the averaged patch tokens */
  readonly pooledNorm: boolean;
  /** 1e-6 upstream (unilm `beit/modeling_finetune.py`), 1e-12 in transformers' configs */
  readonly layerNormEps: number;
  /** BEiT v2 pre-training with a second output */
  readonly clsPretraining?: ClsPretraining;
  /** the heads of a segmentation model */
  readonly segmentation?: SegmentationHeads;
}

/** Inside a block, after `backbone.layers.<i>.`. */
export const TABLE = 'attn.relative_position_bias_table';
export const SHARED_TABLE = 'backbone.rel_pos_bias.relative_position_bias_table';

/** Rows of a relative position bias table for a window `[Wh, Ww]`: `(2Wh-1)(2Ww-1) + 3`. */
export function tableRows(window: readonly [number, number]): number {
  return (2 * window[0] - 1) * (2 * window[1] - 1) + 3;
}

/** Tokens of one image: patches and, where there is one, the class token. */
export function tokenCount(config: Pick<BeitConfig, 'window' | 'classToken'>): number {
  return config.window[0] * config.window[1] + (config.classToken ? 1 : 0);
}

/**
 * `relative_position_index` of a window, row-major `[N+1, N+1]`, row = query, column = key, token 0 = class token.
 *
 * @param window `[Wh, Ww]` in patches (not pixels)
 * @returns rows of a table of `(2Wh-1)(2Ww-1) + 3` rows
 * @see unilm `beit/modeling_finetune.py` `Attention.__init__`: patches index a `(2Wh-1, 2Ww-1)` grid; the last three
 *   rows are class-to-patch, patch-to-class, class-to-class
 * @example
 * ```js
 * import { relativePositionIndex } from 'convert-beit';
 *
 * const index = relativePositionIndex([14, 14]);
 * console.log(index.length === 197 * 197, index[0] === 27 * 27 + 2); // class token to itself: the last row
 * ```
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

type Shape = readonly number[];
type Put = (name: string, ...shape: number[]) => void;

/**
 * Every canonical tensor a model of this config has, with its shape, in upstream's registration order.
 * A file must match it both ways.
 *
 * @returns canonical name (mmpretrain's) → shape
 * @example
 * ```js
 * import { inspect, inventory } from 'convert-beit';
 *
 * const { config } = await inspect({ src: 'fixtures/demo/beit_demo_patch8_64.safetensors' });
 * for (const [name, shape] of inventory(config)) console.log(name, shape.join('×'));
 * ```
 */
export function inventory(config: BeitConfig): Map<string, Shape> {
  const { hiddenSize: E, channels, patchSize, classes, vocabulary } = config;
  const out = new Map<string, Shape>();
  const put: Put = (name, ...shape) => out.set(name, shape);
  const affine = affineOf(put);
  if (config.classToken) put('backbone.cls_token', 1, 1, E);
  if (config.maskToken) put('backbone.mask_token', 1, 1, E);
  if (config.absolutePosition) put('backbone.pos_embed', 1, tokenCount(config), E);
  put('backbone.patch_embed.projection.weight', E, channels, patchSize, patchSize);
  put('backbone.patch_embed.projection.bias', E);
  if (config.sharedRelativePosition) put(SHARED_TABLE, tableRows(config.window), config.heads);
  for (let layer = 0; layer < config.depth; layer++) block(put, config, `backbone.layers.${layer}.`);
  if (config.tokenNorm) affine('backbone.ln1', E);
  if (config.pooledNorm) affine('backbone.ln2', E);
  switch (config.kind) {
    case 'classification':
      affine('head.fc', classes, E);
      break;
    case 'pre-training':
      if (config.clsPretraining) affine('neck.norm', E);
      affine('head.cls_head', vocabulary, E);
      clsPretraining(put, config);
      break;
    case 'segmentation':
      if (config.segmentation) putSegmentation(put, E, classes, config.segmentation);
      break;
    case 'backbone':
  }
  return out;
}

function affineOf(put: Put): Put {
  return (name, ...shape) => {
    put(`${name}.weight`, ...shape);
    put(`${name}.bias`, shape[0]);
  };
}

function block(put: Put, config: BeitConfig, at: string): void {
  const { hiddenSize: E, mlpSize: M, heads: H } = config;
  const affine = affineOf(put);
  if (config.layerScale) {
    put(`${at}gamma_1`, E);
    put(`${at}gamma_2`, E);
  }
  affine(`${at}ln1`, E);
  if (config.qvBias) {
    put(`${at}attn.q_bias`, E);
    put(`${at}attn.v_bias`, E);
  }
  if (config.relativePosition) put(at + TABLE, tableRows(config.window), H);
  put(`${at}attn.qkv.weight`, 3 * E, E);
  if (config.qkvBias) put(`${at}attn.qkv.bias`, 3 * E);
  affine(`${at}attn.proj`, E, E);
  affine(`${at}ln2`, E);
  affine(`${at}ffn.layers.0.0`, M, E);
  affine(`${at}ffn.layers.1`, E, M);
}

/** @see unilm `beit2/modeling_pretrain.py` `VisionTransformerForMaskedImageModelingCLS` */
function clsPretraining(put: Put, config: BeitConfig): void {
  const { hiddenSize: E, vocabulary: V, clsPretraining: of } = config;
  if (!of) return;
  for (let layer = 0; layer < of.layers; layer++) block(put, config, `neck.patch_aggregation.${layer}.`);
  if (of.sharedHead) return;
  affineOf(put)('neck.cls_pt_norm', E);
  affineOf(put)('head.cls_pt_head', V, E);
}

/** What a model costs. */
export interface Complexity {
  readonly parameters: number;
  /** as OpenMMLab publishes them: MACs of conv, linear and attention products + 5 per LayerNorm element, no head */
  readonly flops: number;
}

/**
 * Parameters (heads included) and FLOPs in the published convention (heads not counted; the extra blocks of BEiT v2
 * pre-training are).
 *
 * @see mmpretrain `configs/beit/metafile.yml` (FLOPs 17581219584, Parameters 86530984 for base at 224)
 * @example
 * ```js
 * import { complexity, inspect } from 'convert-beit';
 *
 * const { config } = await inspect({ src: 'fixtures/demo/beit_demo_patch8_64.safetensors' });
 * const { parameters, flops } = complexity({ ...config, imageSize: [128, 128], window: [16, 16] });
 * console.log(parameters, flops);
 * ```
 */
export function complexity(config: BeitConfig): Complexity {
  const { hiddenSize: E, mlpSize: M, depth, channels, patchSize, clsPretraining: second } = config;
  const patches = config.window[0] * config.window[1];
  const tokens = tokenCount(config);
  let parameters = 0;
  for (const [name, shape] of inventory(config)) if (!isStatistic(name)) parameters += elementCount(shape);
  const conv = patches * E * channels * patchSize * patchSize;
  const norm = 5 * E;
  const each = tokens * (4 * E * E + 2 * E * M) + 2 * tokens * tokens * E + 2 * tokens * norm;
  const tokenNorms = (config.tokenNorm ? 1 : 0) + (second ? 2 : 0);
  const blocks = (depth + (second?.layers ?? 0)) * each;
  const norms = tokenNorms * tokens * norm + (config.pooledNorm ? norm : 0);
  return { parameters, flops: conv + blocks + norms };
}
