/**
 * The backbone's own outputs: tokens, class token, feature map or pooled feature, after any blocks.
 *
 * @see mmpretrain `models/backbones/beit.py` `BEiTViT.forward` (`out_type`, `out_indices`, `final_norm`);
 *   transformers `models/beit/modeling_beit.py` `BeitModel` (`last_hidden_state`, `pooler_output`)
 */
import type { FeatureOutput } from '../../task.js';
import { layerNorm, mean, type Weight } from '../blocks.js';
import { encodeTokens, pooledBlock, type Pooling } from '../encoder.js';
import { ints, type Value } from '../graph.js';
import type { Head, HeadInput } from '../head.js';
import { sizesOf } from '../sizes.js';

export function features(outputs: readonly FeatureOutput[]): Head {
  return (input) => {
    const { g, config, weight, pixels } = input;
    const deepest = Math.max(...outputs.map(({ layer }) => layer));
    const pooling = poolingOf(outputs.filter(({ layer }) => layer === deepest));
    const states = encodeTokens(g, config, weight, { pixels }, pooling ? deepest : deepest + 1);
    if (pooling) {
      return outputs.map((output) =>
        output.layer === deepest
          ? pooledBlock(g, config, weight, deepest, states[deepest], pooling)
          : g.scoped(output.name, () => take(input, output, states[output.layer + 1])),
      );
    }
    const last = states[deepest + 1];
    // Several outputs of the last block look at the same normalised tokens.
    const normed = outputs.some(({ finalNorm }) => finalNorm)
      ? norm(input, last, 'backbone.ln1', 'final_norm')
      : last;
    return outputs.map((output) =>
      g.scoped(output.name, () => take(input, output, output.finalNorm ? normed : states[output.layer + 1])),
    );
  };
}

/** Where one vector is all that is wanted of the last block, most of it need not be computed. */
function poolingOf(outputs: readonly FeatureOutput[]): Pooling | undefined {
  const [{ type, finalNorm }, other] = outputs;
  if (other || (type !== 'cls_token' && type !== 'avg_featmap')) return undefined;
  return { of: type === 'cls_token' ? 'class' : 'mean', tokenNorm: finalNorm };
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
