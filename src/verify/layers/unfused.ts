/**
 * Nodes that onnxruntime's transformer optimiser made of several steps, read as the steps they were made of. A sum that
 * such a node keeps to itself gets a name here: the copy of the file whose values are looked at computes it once more,
 * from the node's own inputs.
 *
 * @see onnxruntime `docs/ContribOperators.md` `SkipLayerNormalization`, `FastGelu`
 */
import type { OnnxAttribute, OnnxFile, OnnxNode } from '../onnx-file.js';

/** Two values by the name of their sum. */
export type Sums = ReadonlyMap<string, readonly [string, string]>;

export interface Unfused {
  readonly nodes: readonly OnnxNode[];
  /** additions that are no nodes of the file */
  readonly sums: Sums;
}

/** The operator's own default, unlike LayerNormalization's. */
const SKIP_EPSILON: OnnxAttribute = { kind: 'float', value: Math.fround(1e-12) };
const PRODUCTS: ReadonlySet<string> = new Set(['MatMul', 'FusedMatMul', 'Gemm', 'MatMulNBits']);

export function unfused(file: Pick<OnnxFile, 'nodes'>): Unfused {
  const sums = new Map<string, readonly [string, string]>();
  const products = new Set(
    file.nodes.filter(({ type }) => PRODUCTS.has(type)).flatMap(({ outputs }) => outputs),
  );
  const nodes = file.nodes.flatMap((node): readonly OnnxNode[] => {
    // The runtime refuses one with fewer inputs.
    if (node.type === 'SkipLayerNormalization' && node.inputs.length >= 3)
      return skipNorm(node, products, sums);
    if (node.type === 'FastGelu') return [tanhGelu(node)];
    return [node];
  });
  return { nodes, sums };
}

/** `[bias +] input + skip`, which is the fourth output where another node uses it, then LayerNorm. */
function skipNorm(
  node: OnnxNode,
  products: ReadonlySet<string>,
  sums: Map<string, readonly [string, string]>,
): OnnxNode[] {
  const [input, skip, gain, shift = '', bias = ''] = node.inputs;
  const [output, , , shown = ''] = node.outputs;
  const nodes: OnnxNode[] = [];
  const add = (a: string, b: string, made: string, isShown: boolean): string => {
    if (!isShown) sums.set(made, [a, b]);
    nodes.push({
      ...node,
      type: 'Add',
      domain: '',
      inputs: [a, b],
      outputs: [made],
      attributes: new Map(),
    });
    return made;
  };
  let operands: [string, string] = [input, skip];
  // The bias is that of the linear layer before it, whichever operand that is.
  if (bias !== '') {
    const at = products.has(skip) && !products.has(input) ? 1 : 0;
    const biased = add(operands[at], bias, `${output} (with bias)`, false);
    operands = at === 0 ? [biased, skip] : [input, biased];
  }
  const sum = add(operands[0], operands[1], shown === '' ? `${output} (sum)` : shown, shown !== '');
  nodes.push({
    ...node,
    type: 'LayerNormalization',
    domain: '',
    inputs: [sum, gain, ...(shift === '' ? [] : [shift])],
    outputs: [output],
    attributes: new Map([['epsilon', node.attributes.get('epsilon') ?? SKIP_EPSILON]]),
  });
  return nodes;
}

function tanhGelu(node: OnnxNode): OnnxNode {
  return {
    ...node,
    type: 'Gelu',
    domain: '',
    attributes: new Map([['approximate', { kind: 'string', value: 'tanh' }]]),
  };
}

/** The additions without which `values` do not exist, each after those it needs. */
export function sumsFor(values: readonly string[], sums: Sums): Sums {
  const needed = new Map<string, readonly [string, string]>();
  const need = (value: string): void => {
    const operands = sums.get(value);
    if (!operands || needed.has(value)) return;
    operands.forEach(need);
    needed.set(value, operands);
  };
  values.forEach(need);
  return needed;
}
