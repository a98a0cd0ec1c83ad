/**
 * Masked image modelling: `pixel_values [batch, C, H, W]` and `bool_masked_pos [batch, N]` to logits over the visual
 * vocabulary of every patch, `[batch, N, V]`; BEiT v2 with its second output as well.
 *
 * @see unilm `beit/modeling_pretrain.py`, `beit2/modeling_pretrain.py` (`…ForMaskedImageModeling`, `…CLS`);
 *   transformers `BeitForMaskedImageModeling` (names of inputs and output)
 */
import { tokenCount } from '../../beit.js';
import { MASK_INPUT } from '../../task.js';
import { block, firstToken, layerNorm, linear } from '../blocks.js';
import { encodeTokens, sharedBias } from '../encoder.js';
import { int, type Value } from '../graph.js';
import type { Head, HeadInput } from '../head.js';

export const maskedImage: Head = (input) => {
  const { g, config, weight, pixels } = input;
  const patches = config.window[0] * config.window[1];
  const mask = g.input(MASK_INPUT, [input.batch, patches], 'bool');
  const states = encodeTokens(g, config, weight, { pixels, mask }, config.depth);
  const second = config.clsPretraining;
  const norm = second ? 'neck.norm' : 'backbone.ln1';
  const logits = predict(input, states[config.depth], norm, 'head.cls_head');
  if (!second) return [logits];
  const aggregated = g.scoped('neck', () =>
    aggregate(input, states[config.depth], states[second.earlyLayer]),
  );
  const own = !second.sharedHead;
  return [
    logits,
    predict(input, aggregated, own ? 'neck.cls_pt_norm' : norm, own ? 'head.cls_pt_head' : 'head.cls_head'),
  ];
};

/** The class token after the last block with the patch tokens of an early one, through blocks of their own. */
function aggregate({ g, config, weight }: HeadInput, last: Value, early: Value): Value {
  const { hiddenSize: E } = config;
  const T = tokenCount(config);
  const [lastRows, earlyRows] = [last, early].map((tokens) => g.op('Reshape', [tokens, g.int64([-1, T, E])]));
  const patches = g.op('Slice', [earlyRows, g.int64([1]), g.int64([T]), g.int64([1])], {}, 'patch_tokens');
  const joined = g.op('Concat', [firstToken(g, lastRows), patches], { axis: int(1) });
  let tokens = g.op('Reshape', [joined, g.int64([-1, E])]);
  const shared = sharedBias(g, config, weight);
  for (let layer = 0; layer < config.clsPretraining!.layers; layer++) {
    tokens = g.scoped(`patch_aggregation.${layer}`, () =>
      block(g, config, (name) => weight(`neck.patch_aggregation.${layer}.${name}`), tokens, shared),
    );
  }
  return tokens;
}

/** Norm and head over the patch tokens; nobody asks what the class token would say. */
function predict({ g, config, weight }: HeadInput, tokens: Value, norm: string, head: string): Value {
  const { hiddenSize: E, vocabulary: V } = config;
  const T = tokenCount(config);
  return g.scoped('lm_head', () => {
    const rows = g.op('Reshape', [tokens, g.int64([-1, T, E])]);
    const patches = g.op('Slice', [rows, g.int64([1]), g.int64([T]), g.int64([1])], {}, 'patch_tokens');
    const flat = g.op('Reshape', [patches, g.int64([-1, E])]);
    const normed = layerNorm(g, config, flat, weight(`${norm}.weight`), weight(`${norm}.bias`), 'norm');
    const logits = linear(g, normed, weight(`${head}.weight`), weight(`${head}.bias`), 'logits');
    return g.op('Reshape', [logits, g.int64([-1, T - 1, V])]);
  });
}
