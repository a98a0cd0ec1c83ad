/**
 * Weight-only 4 bits: blocks of 32 weights along the input share one step; the product itself runs in the activation's
 * type. `MatMulNBits` of ONNX Runtime takes the checkpoint's `[out, in]` order. Its bias input is unknown to older
 * runtimes, so the bias is an Add of its own.
 *
 * @see onnxruntime `docs/ContribOperators.md` com.microsoft.MatMulNBits
 */
import { int, type Graph, type Node } from '../graph.js';
import { BLOCK } from './kernels.js';
import { node, replaceLinears, type Linear, type PrecisionOptions, type Replacement } from './rewrite.js';
import { matrixShape, perBlock } from './rows.js';

/** The product may quantise the activations to int8: the fastest there is, and no worse than the weights. */
const ACCURACY_LEVEL = 4;

export function q4(graph: Graph, { keep }: PrecisionOptions): Graph {
  return blockProducts(graph, keep, 'F32');
}

export function blockProducts(graph: Graph, keep: PrecisionOptions['keep'], steps: 'F32' | 'F16'): Graph {
  return replaceLinears(graph, keep, (linear) => blockProduct(linear, steps));
}

function blockProduct(
  { node: { name }, weight, input, bias, output }: Linear,
  dtype: 'F32' | 'F16',
): Replacement {
  const [outputs, inputs] = matrixShape(weight.tensor);
  const origin = weight.origin ?? weight.tensor;
  const { blocks, steps } = perBlock(weight, dtype);
  const names = { blocks: `${weight.name}_q4`, steps: `${weight.name}_scales` };
  const product = bias === '' ? output : `${name}/product`;
  const nodes: Node[] = [
    {
      type: 'MatMulNBits',
      domain: 'com.microsoft',
      name: `${name}/blocks`,
      inputs: [input, names.blocks, names.steps],
      outputs: [product],
      attributes: new Map([
        ['K', int(inputs)],
        ['N', int(outputs)],
        ['bits', int(4)],
        ['block_size', int(BLOCK)],
        ['accuracy_level', int(ACCURACY_LEVEL)],
      ]),
    },
  ];
  if (bias !== '') nodes.push(node('Add', `${name}/bias`, [product, bias], output));
  return {
    nodes,
    initializers: [
      { name: names.blocks, tensor: blocks, origin },
      { name: names.steps, tensor: steps, origin },
    ],
  };
}
