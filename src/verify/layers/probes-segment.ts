/**
 * The parts of UPerNet in a graph, by the order of its convolutions: laterals, pooled cells, bottleneck, levels, fusion,
 * classes. Every implementation computes them in this order.
 */
import type { BeitConfig } from '../../beit.js';
import type { OnnxNode } from '../onnx-file.js';
import type { Flow } from './flow.js';

/** A part from the value it reads to the value it gives, BatchNorm and ReLU included. */
export interface Part {
  readonly input: string;
  readonly output: string;
}

export interface SegmentProbes {
  /** transposed convolutions: fpn1.0, fpn1.3, fpn2.0 */
  readonly grown: readonly [Part, Part, Part];
  /** the BatchNorm of fpn1 is in the weights of its first half */
  readonly foldedNorm: boolean;
  readonly halved: Part;
  readonly laterals: readonly Part[];
  readonly cells: readonly Part[];
  readonly bottleneck: Part;
  readonly levels: readonly Part[];
  readonly fusion: Part;
  readonly classes: Part;
}

/** @param after place of the encoder's last LayerNorm */
export function segmentProbes(flow: Flow, config: BeitConfig, after: number): SegmentProbes | string {
  const nodes = flow.nodes.slice(after);
  const of = (type: string): OnnxNode[] =>
    nodes.filter((node) => node.type === type && flow.isDynamic(node.inputs[0]));
  const grown = of('ConvTranspose').map(plain);
  const [halved] = [...of('MaxPool'), ...of('AveragePool')].map(plain);
  const convs = of('Conv');
  const scales = config.segmentation!.poolScales.length;
  const needed = 3 + scales + 1 + 3 + 1 + 1;
  if (grown.length !== 3 || !halved || convs.length !== needed) {
    return `the graph has ${grown.length} transposed convolutions and ${convs.length} convolutions after the encoder; this head has 3 and ${needed}`;
  }
  const modules = convs.slice(0, -1).map((node) => module(nodes, node));
  let at = 0;
  const next = (count: number): Part[] => modules.slice(at, (at += count));
  return {
    grown: [grown[0], grown[1], grown[2]],
    foldedNorm: !nodes.some(
      ({ type, inputs }) => type === 'BatchNormalization' && flow.root(inputs[0]) === grown[0].output,
    ),
    halved,
    laterals: next(3),
    cells: next(scales),
    bottleneck: next(1)[0],
    levels: next(3),
    fusion: next(1)[0],
    classes: plain(convs.at(-1)!),
  };
}

function plain({ inputs, outputs }: OnnxNode): Part {
  return { input: inputs[0], output: outputs[0] };
}

/** A convolution and what follows it at once; an exporter may have folded BatchNorm into it. */
function module(nodes: readonly OnnxNode[], conv: OnnxNode): Part {
  let output = conv.outputs[0];
  const wanted = ['BatchNormalization', 'Relu'];
  for (let users = usersOf(nodes, output); users.length === 1; users = usersOf(nodes, output)) {
    const [{ type, outputs }] = users;
    // float16 files leave float16 before a BatchNorm.
    if (type !== 'Cast' && !wanted.includes(type)) break;
    if (type !== 'Cast') wanted.splice(0, wanted.indexOf(type) + 1);
    output = outputs[0];
    if (wanted.length === 0) break;
  }
  return { input: conv.inputs[0], output };
}

function usersOf(nodes: readonly OnnxNode[], value: string): OnnxNode[] {
  return nodes.filter(({ inputs }) => inputs.includes(value));
}
