/**
 * LayerNorms of a graph, as one node or spelled out: the landmarks by which a BEiT is recognised whoever exported it.
 */
import type { OnnxNode } from '../onnx-file.js';
import type { Flow } from './flow.js';

export interface Norm {
  readonly input: string;
  readonly output: string;
  /** place in the graph */
  readonly index: number;
  /** as the node states it; `undefined` where the norm is spelled out */
  readonly epsilon?: number;
  readonly node: string;
}

/** The operator's own default. */
const DEFAULT_EPSILON = Math.fround(1e-5);

/** In the order of the graph. */
export function findNorms(flow: Flow): Norm[] {
  const found: Norm[] = [];
  flow.nodes.forEach((node, index) => {
    if (node.type === 'LayerNormalization' && flow.isDynamic(node.inputs[0])) {
      const attribute = node.attributes.get('epsilon');
      found.push({
        input: node.inputs[0],
        output: node.outputs[0],
        index,
        epsilon: attribute?.kind === 'float' ? attribute.value : DEFAULT_EPSILON,
        node: node.name || node.outputs[0],
      });
    }
    if (node.type === 'Div' || node.type === 'Mul') {
      const spelled = spelledOut(flow, node, index);
      if (spelled) found.push(spelled);
    }
  });
  return found.sort((a, b) => a.index - b.index);
}

/** `(x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps)`, then gain and shift where there are any. */
function spelledOut(flow: Flow, node: OnnxNode, index: number): Norm | undefined {
  const [centred, deviation] = node.inputs;
  if (deviation === undefined || !isDeviation(flow, deviation, node.type)) return undefined;
  const difference = flow.producer(flow.root(centred));
  if (difference?.type !== 'Sub') return undefined;
  const [x, mean] = difference.inputs;
  const average = flow.producer(flow.root(mean));
  if (average?.type !== 'ReduceMean' || flow.root(average.inputs[0]) !== flow.root(x)) return undefined;
  let output = node.outputs[0];
  for (const type of ['Mul', 'Add']) output = scaledBy(flow, output, type) ?? output;
  return { input: x, output, index: Math.max(index, flow.indexOf(output)), node: node.name || output };
}

function isDeviation(flow: Flow, value: string, type: string): boolean {
  const node = flow.producer(flow.root(value));
  if (type === 'Div') return node?.type === 'Sqrt';
  const root = node?.type === 'Reciprocal' ? flow.producer(flow.root(node.inputs[0])) : undefined;
  return root?.type === 'Sqrt';
}

/** The output of the only node that scales or shifts `value` by a constant. */
function scaledBy(flow: Flow, value: string, type: string): string | undefined {
  const users = flow.nodes.filter((node) => node.inputs.includes(value));
  if (users.length !== 1 || users[0].type !== type) return undefined;
  const other = users[0].inputs.find((name) => name !== value);
  return other !== undefined && !flow.isDynamic(other) ? users[0].outputs[0] : undefined;
}
