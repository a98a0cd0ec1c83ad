/**
 * Image classification: `pixel_values [batch, C, H, W]` to `logits [batch, classes]`.
 *
 * @see mmpretrain `mmpretrain/models/heads/linear_head.py` `LinearClsHead`; unilm `beit/modeling_finetune.py` `head`
 */
import { linear } from '../blocks.js';
import { encode } from '../encoder.js';
import type { Head } from '../head.js';

export const classify: Head = ({ g, config, weight, pixels }) => {
  const feature = encode(g, config, weight, { pixels });
  return [linear(g, feature, weight('head.fc.weight'), weight('head.fc.bias'), 'head')];
};
