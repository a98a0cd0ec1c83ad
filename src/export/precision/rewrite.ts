/**
 * Changing a finished graph: which nodes are matrix products with weights of the model, and how they are replaced.
 */
import type { Keep } from '../../precision.js';
import { elementCount } from '../../tensor.js';
import type { Graph, Initializer, Node } from '../graph.js';

/** What every precision is told. */
export interface PrecisionOptions {
  readonly keep: Keep;
  /** 7-bit weights where 8 could saturate */
  readonly reduceRange: boolean;
}

/** A Gemm with `transB` whose matrix is a weight, stored `[out, in]` (or reshaped to that from a convolution's kernel). */
export interface Linear {
  readonly node: Node;
  readonly weight: Initializer;
  readonly input: string;
  /** '' without */
  readonly bias: string;
  readonly output: string;
}

/** The weight behind a value: an initializer, or one that is only reshaped. */
export function weightBehind(
  value: string,
  initializers: ReadonlyMap<string, Initializer>,
  makers: ReadonlyMap<string, Node>,
): Initializer | undefined {
  const direct = initializers.get(value);
  if (direct) return direct;
  const maker = makers.get(value);
  return maker?.type === 'Reshape' ? initializers.get(maker.inputs[0]) : undefined;
}

export function byOutput(nodes: readonly Node[]): Map<string, Node> {
  return new Map(nodes.flatMap((node) => node.outputs.map((output) => [output, node] as const)));
}

function linearOf(
  node: Node,
  initializers: ReadonlyMap<string, Initializer>,
  makers: ReadonlyMap<string, Node>,
): Linear | undefined {
  const transposed = node.attributes.get('transB');
  if (node.type !== 'Gemm' || transposed?.kind !== 'int' || transposed.value !== 1) return undefined;
  const weight = weightBehind(node.inputs[1], initializers, makers);
  if (!weight || weight.tensor.dtype !== 'F32' || elementCount(weight.tensor.shape) === 0) return undefined;
  return { node, weight, input: node.inputs[0], bias: node.inputs[2] ?? '', output: node.outputs[0] };
}

export interface Replacement {
  readonly nodes: readonly Node[];
  readonly initializers: readonly Initializer[];
}

/**
 * Put something else in the place of every matrix product whose weight is not kept; what nobody needs any more is left
 * out.
 */
export function replaceLinears(graph: Graph, keep: Keep, replace: (linear: Linear) => Replacement): Graph {
  const initializers = new Map(graph.initializers.map((each) => [each.name, each]));
  const makers = byOutput(graph.nodes);
  // One weight may serve several products (a head shared by two branches).
  const added = new Map<string, readonly Initializer[]>();
  const nodes = graph.nodes.flatMap((node) => {
    const linear = linearOf(node, initializers, makers);
    if (!linear || keep.has(linear.weight.name)) return [node];
    const replacement = replace(linear);
    if (!added.has(linear.weight.name)) added.set(linear.weight.name, replacement.initializers);
    return replacement.nodes;
  });
  // In the weight's own place: several files are written in step, weight by weight.
  const all = graph.initializers.flatMap((each) => [each, ...(added.get(each.name) ?? [])]);
  return pruned({ ...graph, nodes, initializers: all });
}

/** Without nodes and initializers that no output depends on. */
export function pruned(graph: Graph): Graph {
  const needed = new Set(graph.outputs.map(({ name }) => name));
  const nodes: Node[] = [];
  for (const node of [...graph.nodes].reverse()) {
    if (!node.outputs.some((name) => needed.has(name))) continue;
    for (const name of node.inputs) needed.add(name);
    nodes.unshift(node);
  }
  return { ...graph, nodes, initializers: graph.initializers.filter(({ name }) => needed.has(name)) };
}

/** A node of one output. */
export function node(
  type: string,
  name: string,
  inputs: readonly string[],
  output: string,
  attributes: Node['attributes'] = new Map(),
): Node {
  return { type, name, inputs, outputs: [output], attributes };
}
