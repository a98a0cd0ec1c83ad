/**
 * BEiT's parts as graph nodes, in the form that was measured to run fastest with the checkpoint's own weights: tokens
 * stay two-dimensional, every linear layer is a Gemm on the stored `[out, in]` matrix, and position bias is one Gather
 * on a shared index (runtimes fold it when they load the model).
 *
 * Upstream: unilm `beit/modeling_finetune.py` (`Block`, `Attention`, `Mlp`, `PatchEmbed`).
 * Symbols: B batch, T tokens (class token first), N patches, E hidden size, H heads, d = E/H, M MLP width.
 */
import { relativePositionIndex, tokenCount, type BeitConfig } from '../beit.js';
import { bytesOf, memoryTensor } from '../tensor.js';
import { float, int, ints, type GraphBuilder, type Value } from './graph.js';
import { COVERED, MISSING, sizesOf } from './sizes.js';
import type { Weight } from './weight.js';

export type { Weight } from './weight.js';

export const INDEX_NAME = 'relative_position_index';

export function blockWeights(weight: Weight, layer: number): Weight {
  return (name) => weight(`backbone.layers.${layer}.${name}`);
}

/** One whole block: `[B*T, E]` to `[B*T, E]`. */
export function block(
  g: GraphBuilder,
  config: BeitConfig,
  at: Weight,
  tokens: Value,
  shared: Value | undefined,
): Value {
  const attended = g.op('Add', [tokens, attention(g, config, at, tokens, biasOf(g, config, at, shared))]);
  return g.op('Add', [attended, feedForward(g, config, at, attended)]);
}

/**
 * Patches by convolution with stride = kernel, written as one matrix product; hidden patches give way to the mask
 * token; then class token and positions: `[B*T, E]`.
 */
export function embed(
  g: GraphBuilder,
  config: BeitConfig,
  weight: Weight,
  { pixels, mask }: { readonly pixels: Value; readonly mask?: Value },
): Value {
  const { channels: C, patchSize: P, hiddenSize: E } = config;
  const { rows, columns, patches: N } = sizesOf(config);
  const grid = g.op('Reshape', [wholePatches(g, config, pixels), g.int64([-1, C, rows, P, columns, P])]);
  const ordered = g.op('Transpose', [grid], { perm: ints(0, 2, 4, 1, 3, 5) });
  const flat = g.op('Reshape', [ordered, g.int64([-1, C * P * P])]);
  const kernel = g.op('Reshape', [weight('backbone.patch_embed.projection.weight'), g.int64([E, C * P * P])]);
  const projected = linear(g, flat, kernel, weight('backbone.patch_embed.projection.bias'), 'projection');
  const seen = g.op('Reshape', [projected, g.int64([-1, N, E])]);
  const patches = mask
    ? g.op('Where', [g.op('Unsqueeze', [mask, g.int64([2])]), weight('backbone.mask_token'), seen])
    : seen;
  const tokens = config.classToken ? withClassToken(g, config, weight, pixels, patches) : patches;
  const placed = config.absolutePosition ? g.op('Add', [tokens, weight('backbone.pos_embed')]) : tokens;
  return g.op('Reshape', [placed, g.int64([-1, E])]);
}

function withClassToken(
  g: GraphBuilder,
  { hiddenSize: E }: BeitConfig,
  weight: Weight,
  pixels: Value,
  patches: Value,
): Value {
  const batch = g.op('Shape', [pixels], { start: int(0), end: int(1) });
  const one = g.op('Concat', [batch, g.int64([1, E])], { axis: int(0) });
  const classToken = g.op('Expand', [weight('backbone.cls_token'), one]);
  return g.op('Concat', [classToken, patches], { axis: int(1) });
}

/**
 * Upstream's convolution floors: what is right of and below the last whole patch is never looked at. mmpretrain pads
 * with zeros there instead, so its window is the larger one.
 */
function wholePatches(g: GraphBuilder, { window, patchSize, imageSize }: BeitConfig, pixels: Value): Value {
  const covered = g.defined(COVERED);
  if (covered) return g.op('Slice', [pixels, g.int64([0, 0]), covered, g.int64([2, 3])], {}, 'whole_patches');
  const lacking = g.defined(MISSING);
  if (lacking) {
    const pads = g.op('Concat', [g.int64([0, 0, 0, 0, 0, 0]), lacking], { axis: int(0) }, 'pads');
    return g.op('Pad', [pixels, pads], {}, 'whole_patches');
  }
  const used = window.map((side) => side * patchSize);
  const missing = used.map((side, i) => Math.max(0, side - imageSize[i]));
  const padded = missing.some((side) => side > 0)
    ? g.op('Pad', [pixels, g.int64([0, 0, 0, 0, 0, 0, ...missing])])
    : pixels;
  return used.some((side, i) => side < imageSize[i])
    ? g.op('Slice', [padded, g.int64([0, 0]), g.int64(used), g.int64([2, 3])])
    : padded;
}

/** `[T_rows, H]` table to `[H, T, T]` bias. */
export function positionBias(g: GraphBuilder, config: BeitConfig, table: Value): Value {
  const tokens = tokenCount(config);
  const index =
    g.defined(INDEX_NAME) ??
    g.initializer(
      INDEX_NAME,
      memoryTensor('I32', [tokens, tokens], bytesOf(relativePositionIndex(config.window))),
    );
  const byPair = g.op('Gather', [table, index], { axis: int(0) }, 'position_bias');
  return g.op('Transpose', [byPair], { perm: ints(2, 0, 1) });
}

export function biasOf(
  g: GraphBuilder,
  config: BeitConfig,
  at: Weight,
  shared: Value | undefined,
): Value | undefined {
  if (!config.relativePosition) return shared;
  const own = g.scoped('attn', () => positionBias(g, config, at('attn.relative_position_bias_table')));
  return shared ? g.op('Add', [own, shared]) : own;
}

/**
 * The attention branch of a block, LayerScale included.
 *
 * @param tokens  `[B*T, E]`
 * @param bias    `[H, T, T]`
 * @param queries `class`: only the class token asks, the result is `[B, E]`; q is still made for all tokens, because it
 *   comes with k and v out of one product with the checkpoint's own matrix. A product of its own would save 0.7 % of a
 *   base model, and take the matrix apart: no longer the source's bytes, and cut once more for every lower precision.
 */
export function attention(
  g: GraphBuilder,
  config: BeitConfig,
  at: Weight,
  tokens: Value,
  bias: Value | undefined,
  queries: 'all' | 'class' = 'all',
): Value {
  const { hiddenSize: E, heads: H } = config;
  const d = E / H;
  const { tokens: T } = sizesOf(config);
  const normed = layerNorm(g, config, tokens, at('ln1.weight'), at('ln1.bias'), 'ln1');
  return g.scoped('attn', () => {
    const qkv = linear(g, normed, at('attn.qkv.weight'), qkvBias(g, config, at), 'qkv');
    const parts = g.ops('Split', [qkv, g.int64([E, E, E])], 3, { axis: int(1) });
    const [q, k, v] = parts.map((part) => g.op('Reshape', [part, g.int64([-1, T, H, d])]));
    const asking = queries === 'all' ? q : firstToken(g, q);
    const query = g.op('Transpose', [asking], { perm: ints(0, 2, 1, 3) }, 'query');
    const key = g.op('Transpose', [k], { perm: ints(0, 2, 3, 1) }, 'key');
    const value = g.op('Transpose', [v], { perm: ints(0, 2, 1, 3) }, 'value');
    const scaled = g.op('Mul', [query, g.scalar(d ** -0.5)]);
    const scores = g.op('MatMul', [scaled, key], {}, 'scores');
    const usedBias = bias && queries === 'class' ? firstToken(g, bias) : bias;
    const placed = usedBias ? g.op('Add', [scores, usedBias]) : scores;
    const weights = g.op('Softmax', [placed], { axis: int(-1) });
    const mixed = g.op('MatMul', [weights, value], {}, 'mixed');
    const joined = g.op('Transpose', [mixed], { perm: ints(0, 2, 1, 3) });
    const flat = g.op('Reshape', [joined, g.int64([-1, E])]);
    const out = linear(g, flat, at('attn.proj.weight'), at('attn.proj.bias'), 'proj');
    return config.layerScale ? g.op('Mul', [out, at('gamma_1')], {}, 'gamma_1') : out;
  });
}

/**
 * `[q_bias, 0, v_bias]`: k has no bias. Joined in the graph, so that both stay the source's own tensors. mmpretrain's
 * `bias=True` has one tensor for all three.
 */
function qkvBias(g: GraphBuilder, config: BeitConfig, at: Weight): Value | null {
  if (config.qkvBias) return at('attn.qkv.bias');
  if (!config.qvBias) return null;
  const none = g.once('no_key_bias', () =>
    g.op('Expand', [g.scalar(0), g.int64([config.hiddenSize])], {}, 'no_key_bias'),
  );
  return g.op('Concat', [at('attn.q_bias'), none, at('attn.v_bias')], { axis: int(0) }, 'qkv_bias');
}

/** Rows 0..1 of the second-to-last-but-one axis 1: `[B, T, …]` to `[B, 1, …]`, `[H, T, T]` to `[H, 1, T]`. */
export function firstToken(g: GraphBuilder, value: Value): Value {
  return g.op('Slice', [value, g.int64([0]), g.int64([1]), g.int64([1])], {}, 'class_token');
}

/** LN2, fc1, GELU: `[rows, E]` to `[rows, M]`. */
export function hidden(g: GraphBuilder, config: BeitConfig, at: Weight, tokens: Value): Value {
  const normed = layerNorm(g, config, tokens, at('ln2.weight'), at('ln2.bias'), 'ln2');
  return g.scoped('ffn', () =>
    gelu(g, linear(g, normed, at('ffn.layers.0.0.weight'), at('ffn.layers.0.0.bias'), 'fc1')),
  );
}

/** fc2 and LayerScale: `[rows, M]` to `[rows, E]`. */
export function contract(g: GraphBuilder, config: BeitConfig, at: Weight, activation: Value): Value {
  return g.scoped('ffn', () => {
    const out = linear(g, activation, at('ffn.layers.1.weight'), at('ffn.layers.1.bias'), 'fc2');
    return config.layerScale ? g.op('Mul', [out, at('gamma_2')], {}, 'gamma_2') : out;
  });
}

export function feedForward(g: GraphBuilder, config: BeitConfig, at: Weight, tokens: Value): Value {
  return contract(g, config, at, hidden(g, config, at, tokens));
}

/** `[rows, in]` times `[out, in]` transposed, plus bias. */
export function linear(g: GraphBuilder, x: Value, matrix: Value, bias: Value | null, label: string): Value {
  return g.op('Gemm', bias ? [x, matrix, bias] : [x, matrix], { transB: int(1) }, label);
}

export function layerNorm(
  g: GraphBuilder,
  config: BeitConfig,
  x: Value,
  scale: Value,
  shift: Value,
  label: string,
): Value {
  const attributes = { axis: int(-1), epsilon: float(config.layerNormEps) };
  return g.op('LayerNormalization', [x, scale, shift], attributes, label);
}

/** The exact form, x/2 (1 + erf(x/sqrt 2)), in the order of operations that runtimes recognise and fuse. */
export function gelu(g: GraphBuilder, x: Value): Value {
  const erf = g.op('Erf', [g.op('Div', [x, g.scalar(Math.SQRT2)])]);
  const gated = g.op('Mul', [x, g.op('Add', [erf, g.scalar(1)])]);
  return g.op('Mul', [gated, g.scalar(0.5)], {}, 'gelu');
}

/** Mean over axis 1: `[B, N, …]` to `[B, …]`. Axes are an attribute up to opset 17 and an input from 18. */
export function mean(g: GraphBuilder, x: Value): Value {
  return g.opset < 18
    ? g.op('ReduceMean', [x], { axes: ints(1), keepdims: int(0) }, 'mean')
    : g.op('ReduceMean', [x, g.int64([1])], { keepdims: int(0) }, 'mean');
}
