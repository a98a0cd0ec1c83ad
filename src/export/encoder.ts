/**
 * BEiT's forward pass as a graph. No block, MLP or norm is computed for tokens that nobody looks at.
 *
 * Upstream: unilm `beit/modeling_finetune.py` (`VisionTransformer`).
 * Symbols: B batch, T tokens (class token first), N patches, E hidden size, M MLP width.
 */
import { SHARED_TABLE, type BeitConfig } from '../beit.js';
import {
  attention,
  biasOf,
  block,
  blockWeights,
  contract,
  embed,
  feedForward,
  firstToken,
  hidden,
  layerNorm,
  mean,
  positionBias,
  type Weight,
} from './blocks.js';
import type { GraphBuilder, Value } from './graph.js';
import { sizesOf } from './sizes.js';

/** What goes in: pixels, and for masked images which patches are hidden. */
export interface EncoderInput {
  /** `[B, C, H, W]`, normalised */
  readonly pixels: Value;
  /** `[B, N]` booleans */
  readonly mask?: Value;
}

/** One vector per image, of all that a block gives. */
export interface Pooling {
  readonly of: BeitConfig['pooling'];
  /** LayerNorm over all tokens (`backbone.ln1`) first */
  readonly tokenNorm: boolean;
}

/** @returns `[B, E]`: the pooled and normalised feature that the classifier sees */
export function encode(g: GraphBuilder, config: BeitConfig, weight: Weight, input: EncoderInput): Value {
  const last = config.depth - 1;
  const tokens = encodeTokens(g, config, weight, input, last)[last];
  return pooledBlock(g, config, weight, last, tokens, { of: config.pooling, tokenNorm: config.tokenNorm });
}

/**
 * A block of which only one vector is looked at, so that most of it need not be computed.
 *
 * @param tokens `[B*T, E]` before it
 * @returns      `[B, E]`; a mean is normalised (`backbone.ln2`), a class token with `tokenNorm`
 */
export function pooledBlock(
  g: GraphBuilder,
  config: BeitConfig,
  weight: Weight,
  layer: number,
  tokens: Value,
  { of, tokenNorm }: Pooling,
): Value {
  const shared = sharedBias(g, config, weight);
  return g.scoped(`layers.${layer}`, () => {
    const at = blockWeights(weight, layer);
    const bias = biasOf(g, config, at, shared);
    if (of === 'class') return classTokenOnly(g, config, weight, at, tokens, bias, tokenNorm);
    return tokenNorm
      ? meanOfNormed(g, config, weight, at, tokens, bias)
      : meanPooled(g, config, weight, at, tokens, bias);
  });
}

/**
 * All tokens, unpooled and without the final norm.
 *
 * @param depth blocks to run; the others are not built
 * @returns     `[B*T, E]` after 0, 1, … `depth` blocks
 */
export function encodeTokens(
  g: GraphBuilder,
  config: BeitConfig,
  weight: Weight,
  input: EncoderInput,
  depth: number,
): Value[] {
  const states = [g.scoped('embed', () => embed(g, config, weight, input))];
  const shared = sharedBias(g, config, weight);
  for (let layer = 0; layer < depth; layer++) {
    const at = blockWeights(weight, layer);
    states.push(g.scoped(`layers.${layer}`, () => block(g, config, at, states[layer], shared)));
  }
  return states;
}

/** The bias that all blocks share, `[H, T, T]`; the same node, however often it is asked for. */
export function sharedBias(g: GraphBuilder, config: BeitConfig, weight: Weight): Value | undefined {
  if (!config.sharedRelativePosition) return undefined;
  return g.once('rel_pos_bias', () =>
    g.scoped('rel_pos_bias', () => positionBias(g, config, weight(SHARED_TABLE))),
  );
}

/**
 * A block under mean pooling. The mean over patches is taken before the second MLP product, which is exact
 * algebra: mean(x + gamma*(W a + b)) = mean(x) + gamma*(W mean(a) + b). It leaves one row per image to multiply.
 */
function meanPooled(
  g: GraphBuilder,
  config: BeitConfig,
  weight: Weight,
  at: Weight,
  tokens: Value,
  bias: Value | undefined,
): Value {
  const { hiddenSize: E, mlpSize: M } = config;
  const { tokens: T, patches: N } = sizesOf(config);
  const attended = g.op('Add', [tokens, attention(g, config, at, tokens, bias)]);
  const rows = g.op('Reshape', [attended, g.int64([-1, T, E])]);
  const patches = patchTokens(g, config, rows);
  const flat = g.op('Reshape', [patches, g.int64([-1, E])]);
  const activation = g.op('Reshape', [hidden(g, config, at, flat), g.int64([-1, N, M])]);
  const branch = contract(g, config, at, mean(g, activation));
  const pooled = g.op('Add', [mean(g, patches), branch], {}, 'pooled');
  return layerNorm(
    g,
    config,
    pooled,
    weight('backbone.ln2.weight'),
    weight('backbone.ln2.bias'),
    'final_norm',
  );
}

/** `[B, T, E]` without the class token, where there is one. */
function patchTokens(g: GraphBuilder, config: BeitConfig, rows: Value): Value {
  if (!config.classToken) return rows;
  const range = [g.int64([1]), g.int64([sizesOf(config).tokens]), g.int64([1])];
  return g.op('Slice', [rows, ...range], {}, 'patch_tokens');
}

/** A block whose tokens are all normalised before the mean (mmpretrain `final_norm=True`, `avg_featmap`). */
function meanOfNormed(
  g: GraphBuilder,
  config: BeitConfig,
  weight: Weight,
  at: Weight,
  tokens: Value,
  bias: Value | undefined,
): Value {
  const { hiddenSize: E } = config;
  const { tokens: T, patches: N } = sizesOf(config);
  const attended = g.op('Add', [tokens, attention(g, config, at, tokens, bias)]);
  const rows = g.op('Reshape', [attended, g.int64([-1, T, E])]);
  // Nothing looks at the class token any more.
  const patches = patchTokens(g, config, rows);
  const flat = g.op('Reshape', [patches, g.int64([-1, E])]);
  const out = g.op('Add', [flat, feedForward(g, config, at, flat)]);
  const norm = (x: Value, name: string, label: string): Value =>
    layerNorm(g, config, x, weight(`backbone.${name}.weight`), weight(`backbone.${name}.bias`), label);
  const normed = g.op('Reshape', [norm(out, 'ln1', 'token_norm'), g.int64([-1, N, E])]);
  return norm(mean(g, normed), 'ln2', 'final_norm');
}

/** A block of which only the class token is looked at: one query, one row. */
function classTokenOnly(
  g: GraphBuilder,
  config: BeitConfig,
  weight: Weight,
  at: Weight,
  tokens: Value,
  bias: Value | undefined,
  tokenNorm: boolean,
): Value {
  const { hiddenSize: E } = config;
  const rows = g.op('Reshape', [tokens, g.int64([-1, sizesOf(config).tokens, E])]);
  const token = g.op('Reshape', [firstToken(g, rows), g.int64([-1, E])]);
  const attended = g.op('Add', [token, attention(g, config, at, tokens, bias, 'class')]);
  const out = g.op('Add', [attended, feedForward(g, config, at, attended)]);
  if (!tokenNorm) return out;
  return layerNorm(g, config, out, weight('backbone.ln1.weight'), weight('backbone.ln1.bias'), 'final_norm');
}
