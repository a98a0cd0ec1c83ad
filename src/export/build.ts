/** A graph for a task: the input, a head from `heads/`, the outputs. A new head is a file there and a line here. */
import type { BeitConfig } from '../beit.js';
import { dynamicInput, dynamicOutputs, requireDynamic } from '../dynamic-size.js';
import { ConvertBeitError } from '../errors.js';
import { taskOutputs, type Task } from '../task.js';
import { asFloat32, type StateDict } from '../tensor.js';
import { defineSizes, positionIndex, resizingWeights, type AnySize } from './any-size.js';
import { INDEX_NAME, type Weight } from './blocks.js';
import { GraphBuilder, type Graph } from './graph.js';
import type { Head } from './head.js';
import { classify } from './heads/classify.js';
import { features } from './heads/features.js';
import { maskedImage } from './heads/masked-image.js';
import { segment } from './heads/segment.js';

function headOf(task: Task): Head {
  switch (task.name) {
    case 'classify':
      return classify;
    case 'features':
      return features(task.outputs);
    case 'masked-image':
      return maskedImage;
    case 'segment':
      return segment(task);
  }
}

const GRAPH_NAMES: Readonly<Record<Task['name'], string>> = {
  classify: 'beit_classifier',
  features: 'beit_features',
  'masked-image': 'beit_masked_image_model',
  segment: 'beit_segmenter',
};

/**
 * @param batch   a fixed number of images; `undefined`: symbolic
 * @param dynamic for a graph that takes images of any size; `undefined`: one size
 * @throws UsageError where `dynamic` is not possible
 */
export function buildGraph(
  config: BeitConfig,
  tensors: StateDict,
  task: Task,
  opset: number,
  batch: number | string = 'batch',
  dynamic?: AnySize,
): Graph {
  const g = new GraphBuilder(opset);
  const weight: Weight = (name) => {
    const tensor = tensors.get(name);
    if (!tensor) throw new ConvertBeitError(`the graph needs ${name}, which the model does not have`);
    return g.initializer(name, asFloat32(tensor));
  };
  if (dynamic) return anySize(g, config, weight, task, batch, dynamic);
  const pixels = g.input('pixel_values', [batch, config.channels, ...config.imageSize]);
  const values = headOf(task)({ g, config, weight, pixels, batch });
  for (const [i, { name, shape }] of taskOutputs(config, task).entries()) {
    g.output(values[i], name, [batch, ...shape]);
  }
  return g.build(GRAPH_NAMES[task.name]);
}

/** The same nodes; what would be a number is computed from the pixels. */
function anySize(
  g: GraphBuilder,
  config: BeitConfig,
  stored: Weight,
  task: Task,
  batch: number | string,
  { method, pads }: AnySize,
): Graph {
  requireDynamic(config, task.name, method);
  const port = dynamicInput(config);
  const pixels = g.input(port.name, [batch, ...port.shape]);
  defineSizes(g, config, pixels, pads);
  if (config.relativePosition || config.sharedRelativePosition) {
    g.define(INDEX_NAME, positionIndex(g, config));
  }
  const weight = resizingWeights(g, config, method, stored);
  const values = headOf(task)({ g, config, weight, pixels, batch });
  for (const [i, { name, shape }] of dynamicOutputs(config, task).entries()) {
    g.output(values[i], name, [batch, ...shape]);
  }
  return g.build(GRAPH_NAMES[task.name]);
}
