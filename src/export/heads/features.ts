/**
 * The backbone's own outputs: tokens, class token, feature map or pooled feature, after any blocks.
 *
 * @see mmpretrain `models/backbones/beit.py` `BEiTViT.forward` (`out_type`, `out_indices`, `final_norm`);
 *   transformers `models/beit/modeling_beit.py` `BeitModel` (`last_hidden_state`, `pooler_output`)
 */
import type { FeatureOutput } from '../../task.js';
import { layerNorm, mean, type Weight } from '../blocks.js';
import { encode, encodeTokens } from '../encoder.js';
import { ints, type Value } from '../graph.js';
import type { Head, HeadInput } from '../head.js';
import { sizesOf } from '../sizes.js';

export function features(outputs: readonly FeatureOutput[]): Head {
  return (input) => {
    const { g, config, weight, pixels } = input;
    if (isPooledFeature(outputs, input)) return [g.op('Identity', [encode(g, config, weight, { pixels })])];
    const depth = Math.max(...outputs.map(({ layer }) => layer)) + 1;
    const states = encodeTokens(g, config, weight, { pixels }, depth);
    const last = states[depth];
    // Several outputs of the last block look at the same normalised tokens.
    const normed = outputs.some(({ finalNorm }) => finalNorm)
      ? norm(input, last, 'backbone.ln1', 'final_norm')
      : last;
    return outputs.map((output) =>
      g.scoped(output.name, () => take(input, output, output.finalNorm ? normed : states[output.layer + 1])),
    );
  };
}

/** The one vector that the classifier's head sees: its last block need not be computed for every token. */
function isPooledFeature(outputs: readonly FeatureOutput[], { config }: HeadInput): boolean {
  const [only] = outputs;
  if (outputs.length !== 1 || only.layer !== config.depth - 1 || only.finalNorm !== config.tokenNorm)
    return false;
  return config.pooledNorm
    ? only.type === 'avg_featmap' && config.classToken
    : only.type === 'cls_token' && only.finalNorm;
}

function take(input: HeadInput, { type }: FeatureOutput, tokens: Value): Value {
  const { g, config } = input;
  const { hiddenSize: E } = config;
  const { tokens: T, rows: patchRows, columns: patchColumns } = sizesOf(config);
  const rows = g.op('Reshape', [tokens, g.int64([-1, T, E])]);
  const patches = (): Value =>
    config.classToken
      ? g.op('Slice', [rows, g.int64([1]), g.int64([T]), g.int64([1])], {}, 'patch_tokens')
      : rows;
  switch (type) {
    case 'raw':
      return rows;
    case 'cls_token': {
      const token = g.op('Slice', [rows, g.int64([0]), g.int64([1]), g.int64([1])], {}, 'class_token');
      return g.op('Reshape', [token, g.int64([-1, E])]);
    }
    case 'featmap': {
      const map = g.op('Reshape', [patches(), g.int64([-1, patchRows, patchColumns, E])]);
      return g.op('Transpose', [map], { perm: ints(0, 3, 1, 2) });
    }
    case 'avg_featmap':
      return norm(input, mean(g, patches()), 'backbone.ln2', 'pooled_norm');
  }
}

function norm({ g, config, weight }: HeadInput, x: Value, name: string, label: string): Value {
  const at: Weight = (part) => weight(`${name}.${part}`);
  return layerNorm(g, config, x, at('weight'), at('bias'), label);
}
