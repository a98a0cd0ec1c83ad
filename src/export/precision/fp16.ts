/**
 * float16 as PyTorch's autocast places it: matrix products and convolutions in float16, whatever sums over many elements
 * or spans a wide range in float32, everything else in the widest of its inputs. So the residual stream, whose largest
 * values grow with depth, LayerNorm, softmax and means keep float32's range; weights and most of the work are float16.
 * Inputs and outputs of the model stay float32.
 *
 * @see PyTorch `aten/src/ATen/autocast_mode.h` (the lists); the upstream models were trained this way
 */
import { int, type Graph, type Initializer, type Node } from '../graph.js';
import { byOutput, node as makeNode, pruned, weightBehind, type PrecisionOptions } from './rewrite.js';
import { halved, scalar } from './rows.js';

/** ONNX TensorProto.DataType */
const FLOAT = 1;
const FLOAT16 = 10;

type Float = 'float32' | 'float16';

/** Products: float16, unless their weight is kept. */
const NARROW: ReadonlySet<string> = new Set(['Gemm', 'MatMul', 'Conv', 'ConvTranspose', 'MatMulNBits']);
/** Sums and what needs range: float32. Resize's scales may be nothing else. */
const WIDE: ReadonlySet<string> = new Set(
  'LayerNormalization BatchNormalization InstanceNormalization Softmax ReduceMean ReduceSum AveragePool GlobalAveragePool Resize Pow Exp Sqrt Range'.split(
    ' ',
  ),
);
/** Results that are no floats, whatever goes in. */
const NO_FLOAT: ReadonlySet<string> = new Set(
  'Shape Size Equal Less LessOrEqual Greater GreaterOrEqual Not And Or ArgMax NonZero IsNaN'.split(' '),
);

export function fp16(graph: Graph, { keep }: PrecisionOptions): Graph {
  const casts = new Casts(graph);
  const initializers = new Map(graph.initializers.map((each) => [each.name, each]));
  const makers = byOutput(graph.nodes);
  const narrowed = narrowedWeights(graph, keep, initializers, makers);
  const out = graph.initializers.map((each) =>
    narrowed.has(each.name)
      ? { name: each.name, tensor: halved(each), origin: each.origin ?? each.tensor }
      : each,
  );
  for (const { name, tensor } of out) {
    if (tensor.dtype === 'F32') casts.types.set(name, 'float32');
    if (tensor.dtype === 'F16') casts.types.set(name, 'float16');
  }
  for (const { name, dtype } of graph.inputs) if (dtype === undefined) casts.types.set(name, 'float32');
  const scalars = new Set(
    graph.initializers.filter(({ name }) => name.startsWith('const.f32.')).map(({ name }) => name),
  );

  const nodes: Node[] = [];
  for (const node of graph.nodes) {
    const floats = node.inputs.filter((name) => casts.types.has(name));
    if (NO_FLOAT.has(node.type) || (floats.length === 0 && node.type !== 'ConstantOfShape')) {
      nodes.push(node);
      if (castsToFloat(node)) casts.types.set(node.outputs[0], 'float32');
      continue;
    }
    const wanted = typeOf(node, floats);
    const inputs = node.inputs.map((name) => (casts.types.has(name) ? casts.as(name, wanted, nodes) : name));
    nodes.push({ ...node, inputs });
    for (const name of node.outputs) casts.types.set(name, wanted);
  }
  for (const { name } of graph.outputs) widenOutput(name, casts, nodes);
  return pruned({ ...graph, nodes, initializers: [...out, ...casts.constants.values()] });

  function typeOf(node: Node, floats: readonly string[]): Float {
    if (NARROW.has(node.type)) {
      const weight = weightBehind(node.inputs[1], initializers, makers);
      return weight && keep.has(weight.name) && !narrowed.has(weight.name) ? 'float32' : 'float16';
    }
    if (WIDE.has(node.type)) return 'float32';
    // A constant takes the type of what it is combined with.
    const deciding = floats.some((name) => !scalars.has(name))
      ? floats.filter((name) => !scalars.has(name))
      : floats;
    return deciding.every((name) => casts.types.get(name) === 'float16') ? 'float16' : 'float32';
  }
}

/** Cast to float32 of something that is none: a mask. */
function castsToFloat({ type, attributes }: Node): boolean {
  const to = attributes.get('to');
  return type === 'Cast' && to?.kind === 'int' && to.value === FLOAT;
}

/** The weights of products, and position tables, as far as they are not kept. */
function narrowedWeights(
  graph: Graph,
  keep: PrecisionOptions['keep'],
  initializers: ReadonlyMap<string, Initializer>,
  makers: ReadonlyMap<string, Node>,
): Set<string> {
  const names = new Set<string>();
  const consider = (weight: Initializer | undefined): void => {
    if (weight?.tensor.dtype === 'F32' && !keep.has(weight.name)) names.add(weight.name);
  };
  for (const { type, inputs } of graph.nodes) {
    if (NARROW.has(type)) consider(weightBehind(inputs[1], initializers, makers));
  }
  for (const each of graph.initializers) {
    if (each.name.endsWith('relative_position_bias_table') || each.name === 'backbone.pos_embed')
      consider(each);
  }
  return names;
}

/** Every value in the types that are asked for, one Cast each. */
class Casts {
  readonly types = new Map<string, Float>();
  readonly constants = new Map<string, Initializer>();
  readonly #made = new Map<string, string>();
  readonly #scalars: ReadonlyMap<string, number>;

  constructor(graph: Graph) {
    this.#scalars = new Map(
      graph.initializers
        .filter(({ name }) => name.startsWith('const.f32.'))
        .map(({ name }) => [name, Number(name.slice('const.f32.'.length))]),
    );
  }

  as(name: string, wanted: Float, nodes: Node[]): string {
    if (this.types.get(name) === wanted) return name;
    const value = this.#scalars.get(name);
    if (value !== undefined) {
      const constant = `const.f16.${value}`;
      this.constants.set(constant, { name: constant, tensor: scalar('F16', value) });
      return constant;
    }
    const key = `${name}/${wanted}`;
    if (!this.#made.has(key)) {
      this.#made.set(key, key);
      nodes.push(castNode(name, key, wanted));
    }
    return key;
  }
}

function castNode(from: string, to: string, wanted: Float): Node {
  return makeNode(
    'Cast',
    `${to}/cast`,
    [from],
    to,
    new Map([['to', int(wanted === 'float16' ? FLOAT16 : FLOAT)]]),
  );
}

/** What the model gives is float32, under the name it always had. */
function widenOutput(name: string, casts: Casts, nodes: Node[]): void {
  if (casts.types.get(name) !== 'float16') return;
  const inner = `${name}/float16`;
  const rename = (other: string): string => (other === name ? inner : other);
  for (const [i, node] of nodes.entries()) {
    nodes[i] = { ...node, inputs: node.inputs.map(rename), outputs: node.outputs.map(rename) };
  }
  nodes.push(castNode(inner, name, 'float32'));
}
