/**
 * Image classification: `pixel_values [batch, C, H, W]` to `logits [batch, classes]`.
 *
 * @see mmpretrain `mmpretrain/models/heads/linear_head.py` `LinearClsHead`; unilm `beit/modeling_finetune.py` `head`
 */
import type { BeitConfig } from '../../beit.js';
import { ConvertBeitError } from '../../errors.js';
import { asFloat32, type StateDict } from '../../tensor.js';
import { encode, linear, type Weight } from '../encoder.js';
import { GraphBuilder, type Graph } from '../graph.js';

export function classify(config: BeitConfig, tensors: StateDict, opset: number): Graph {
  const g = new GraphBuilder(opset);
  const weight: Weight = (name) => {
    const tensor = tensors.get(name);
    if (!tensor) throw new ConvertBeitError(`the graph needs ${name}, which the model does not have`);
    return g.initializer(name, asFloat32(tensor));
  };
  const [height, width] = config.imageSize;
  const pixels = g.input('pixel_values', ['batch', config.channels, height, width]);
  const feature = encode(g, config, weight, pixels);
  const logits = linear(g, feature, weight('head.fc.weight'), weight('head.fc.bias'), 'head');
  g.output(logits, 'logits', ['batch', config.classes]);
  return g.build('beit_classifier');
}
