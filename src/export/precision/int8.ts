/**
 * int8 dynamic: weights become signed bytes with one step per output; inputs are quantised while the model runs.
 *
 * `DynamicQuantizeLinear → MatMulInteger → Cast → Mul → Add`, standard operators since opset 11, which ONNX Runtime
 * fuses into one product. Attention's own products (scores, mixing) have no weights and stay in float32.
 *
 * @see ONNX `docs/Operators.md` MatMulInteger, DynamicQuantizeLinear
 */
import { int, type Graph, type Node } from '../graph.js';
import { node, replaceLinears, type Linear, type PrecisionOptions, type Replacement } from './rewrite.js';
import { perOutput, scalar } from './rows.js';

/** ONNX TensorProto.DataType.FLOAT */
const FLOAT = 1;

/** An input is 0 to 255; two products of 64 · 255 fit 16 bits, two of 127 · 255 do not. */
const SEVEN_BITS = 64;
const EIGHT_BITS = 127;

export function int8(graph: Graph, options: PrecisionOptions): Graph {
  return integerProducts(graph, options, 0);
}

/** @param shift 0: signed weights; 128: the same steps as unsigned bytes with that zero point */
export function integerProducts(
  graph: Graph,
  { keep, reduceRange }: PrecisionOptions,
  shift: 0 | 128,
): Graph {
  const quantised = new Set<string>();
  return replaceLinears(graph, keep, (linear) =>
    integerProduct(linear, reduceRange ? SEVEN_BITS : EIGHT_BITS, shift, quantised),
  );
}

function integerProduct(linear: Linear, levels: number, shift: 0 | 128, quantised: Set<string>): Replacement {
  const { weight, input, bias, output } = linear;
  const { name } = linear.node;
  const origin = weight.origin ?? weight.tensor;
  const { matrix, steps } = perOutput(weight, levels, shift);
  const names = {
    matrix: `${weight.name}_quantized`,
    steps: `${weight.name}_scale`,
    zero: `${weight.name}_zero_point`,
  };
  const x = { levels: `${input}/quantized`, step: `${input}/scale`, zero: `${input}/zero_point` };
  const nodes: Node[] = [];
  if (!quantised.has(input)) {
    quantised.add(input);
    nodes.push({
      type: 'DynamicQuantizeLinear',
      name: `${name}/quantize`,
      inputs: [input],
      outputs: [x.levels, x.step, x.zero],
      attributes: new Map(),
    });
  }
  const zero = shift === 0 ? [] : [names.zero];
  nodes.push(
    node('MatMulInteger', `${name}/integers`, [x.levels, names.matrix, x.zero, ...zero], `${name}/sum`),
    node('Cast', `${name}/cast`, [`${name}/sum`], `${name}/float`, new Map([['to', int(FLOAT)]])),
    node('Mul', `${name}/steps`, [x.step, names.steps], `${name}/step`),
    node('Mul', `${name}/scale`, [`${name}/float`, `${name}/step`], bias === '' ? output : `${name}/product`),
  );
  if (bias !== '') nodes.push(node('Add', `${name}/bias`, [`${name}/product`, bias], output));
  return {
    nodes,
    initializers: [
      { name: names.matrix, tensor: matrix, origin },
      { name: names.steps, tensor: steps, origin },
      ...(shift === 0 ? [] : [{ name: names.zero, tensor: scalar('U8', shift) }]),
    ],
  };
}
