/**
 * Which values of a graph are the steps of BEiT's forward pass: found by the order of LayerNorms and Softmaxes and by
 * walking back from the residual additions, never by name, so that any exporter's file can be read.
 */
import type { BeitConfig } from '../../beit.js';
import type { OnnxFile } from '../onnx-file.js';
import { Flow } from './flow.js';
import { findNorms, type Norm } from './norms.js';

/** Names of values in the graph; what the exporter fused away or wrote otherwise is absent. */
export interface BlockProbes {
  /** tokens entering the block */
  readonly input: string;
  readonly ln1: Norm;
  /** before and after the Softmax */
  readonly scores?: string;
  readonly probabilities?: string;
  /** attention's output, heads joined, before the projection */
  readonly context?: string;
  /** after proj and its bias, before LayerScale */
  readonly projection?: string;
  /** after the first residual addition */
  readonly attended: string;
  readonly ln2: Norm;
  /** after GELU */
  readonly activation?: string;
  /** after fc2 and its bias, before LayerScale */
  readonly mlp?: string;
  /** tokens leaving the block */
  readonly output?: string;
}

export interface Probes {
  readonly pixels: string;
  readonly blocks: readonly BlockProbes[];
  /** what enters the last norm: the pooled vector, or tokens */
  readonly final: Norm;
  readonly logits: string;
}

/** @returns one sentence why not, where the graph is none of ours to read */
export function findProbes(file: OnnxFile, config: BeitConfig): Probes | string {
  const inputs = file.inputs.filter(({ name }) => !file.initializers.has(name));
  if (inputs.length !== 1) return `the graph has ${inputs.length} inputs; a classifier has one`;
  if (file.outputs.length !== 1) return `the graph has ${file.outputs.length} outputs; a classifier has one`;
  const flow = new Flow(file);
  const norms = findNorms(flow);
  const needed = 2 * config.depth + 1;
  if (norms.length !== needed) {
    return `the graph has ${norms.length} LayerNorms; ${config.depth} blocks and the last one need ${needed}`;
  }
  const final = norms[2 * config.depth];
  const blocks = Array.from({ length: config.depth }, (_, layer) =>
    blockProbes(flow, norms[2 * layer], norms[2 * layer + 1], norms[2 * layer + 2], layer + 1 < config.depth),
  );
  return { pixels: inputs[0].name, blocks, final, logits: file.outputs[0].name };
}

function blockProbes(flow: Flow, ln1: Norm, ln2: Norm, next: Norm, followed: boolean): BlockProbes {
  const between = flow.nodes.slice(ln1.index, ln2.index);
  const softmax = between.find(({ type }) => type === 'Softmax');
  const attention = branch(flow, residual(flow, flow.root(ln2.input), ln1.input) ?? '');
  const output = followed ? next.input : lastOutput(flow, ln2, next);
  const joined = output ?? flow.root(next.input);
  const mlp = branch(flow, residual(flow, flow.root(joined), ln2.input) ?? '');
  return {
    input: ln1.input,
    ln1,
    ...(softmax && { scores: softmax.inputs[0], probabilities: softmax.outputs[0] }),
    ...(attention.linear !== undefined && { projection: attention.linear }),
    ...(attention.into !== undefined && { context: attention.into }),
    attended: ln2.input,
    ln2,
    ...(mlp.into !== undefined && { activation: flow.root(mlp.into, ['ReduceMean']) }),
    ...(mlp.linear !== undefined && { mlp: mlp.linear }),
    ...(output !== undefined && { output }),
  };
}

/** Of the addition that makes `sum`, the operand that is not the stream that was there before. */
function residual(flow: Flow, sum: string, before: string): string | undefined {
  const operands = flow.operands(sum, 'Add')?.dynamic;
  if (operands?.length !== 2) return undefined;
  const root = flow.root(before, ['ReduceMean']);
  const other = operands.filter((name) => flow.root(name, ['ReduceMean']) !== root);
  if (other.length === 1) return other[0];
  return operands.reduce((a, b) => (flow.indexOf(a) > flow.indexOf(b) ? a : b));
}

/** Back from a branch's end over LayerScale to its last linear layer. */
function branch(flow: Flow, end: string): { linear?: string; into?: string } {
  const scaled = flow.operands(flow.root(end), 'Mul');
  const linear = scaled?.dynamic.length === 1 ? scaled.dynamic[0] : end;
  if (linear === '') return {};
  let product = flow.root(linear);
  const shifted = flow.operands(product, 'Add');
  if (shifted?.dynamic.length === 1) product = flow.root(shifted.dynamic[0]);
  const node = flow.producer(product);
  if (node?.type !== 'MatMul' && node?.type !== 'Gemm') return { linear };
  return { linear, into: node.inputs[0] };
}

/** The last block's tokens, where they exist: the addition to the stream before LN2 that comes after it. */
function lastOutput(flow: Flow, ln2: Norm, next: Norm): string | undefined {
  const before = flow.root(ln2.input);
  return flow.nodes
    .slice(ln2.index + 1, next.index)
    .filter(({ type }) => type === 'Add')
    .find(({ inputs }) => {
      const operands = inputs.filter((name) => flow.isDynamic(name));
      return operands.length === 2 && operands.some((name) => flow.root(name) === before);
    })?.outputs[0];
}
