/**
 * Which values of a graph are the steps of BEiT's forward pass: found by the order of LayerNorms and Softmaxes and by
 * walking back from the residual additions, never by name, so that any exporter's file can be read.
 */
import type { BeitConfig } from '../../beit.js';
import { taskOutputs, taskParts, type Task } from '../../task.js';
import type { Ends } from '../checks/foreign-task.js';
import type { OnnxFile } from '../onnx-file.js';
import { Flow } from './flow.js';
import { ATTENTION, fusedBlocks, qualified } from './fused.js';
import { findNorms, type Norm } from './norms.js';
import { segmentProbes, type SegmentProbes } from './probes-segment.js';
import { unfused, type Sums } from './unfused.js';

/** Names of values in the graph; what the exporter fused away or wrote otherwise is absent. */
export interface BlockProbes {
  /** tokens entering the block */
  readonly input: string;
  readonly ln1: Norm;
  /** before and after the Softmax */
  readonly scores?: string;
  readonly probabilities?: string;
  /** the operator that keeps both to itself */
  readonly attention?: string;
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
  readonly mask?: string;
  readonly maskType?: Ends['maskType'];
  readonly blocks: readonly BlockProbes[];
  /** the norms after the blocks, in the order of the graph */
  readonly finals: readonly Norm[];
  /** BEiT v2's second output: its blocks, and the norm after them */
  readonly second?: { readonly blocks: readonly BlockProbes[]; readonly final: Norm };
  readonly segment?: SegmentProbes;
  /** the graph's outputs, in the order of the task's */
  readonly outputs: readonly string[];
  /** values among these that are inside a node of the file */
  readonly sums: Sums;
}

/** @returns one sentence why not, where the graph is none of ours to read */
export function findProbes(
  file: OnnxFile,
  config: BeitConfig,
  task: Task,
  ends: Pick<Ends, 'input' | 'outputs' | 'unmasked' | 'maskType'>,
): Probes | string {
  const { input: pixels } = ends;
  const inputs = file.inputs.filter(({ name }) => !file.initializers.has(name));
  const masks = inputs.filter(({ name }) => name !== pixels);
  const masked = task.name === 'masked-image';
  const needsMask = masked && !ends.unmasked;
  if (masks.length !== Number(needsMask)) {
    return `the graph has ${inputs.length} inputs; this task has ${needsMask ? 'two' : 'one'}`;
  }
  const wanted = taskOutputs(config, task).map(({ name }) => name);
  const outputs = ends.outputs ?? file.outputs.map(({ name }) => name);
  if (outputs.length !== wanted.length)
    return `the graph has ${outputs.length} outputs; this task has ${wanted.length}`;
  const { nodes, sums } = unfused(file);
  const flow = new Flow({ ...file, nodes });
  const parts = taskParts(config, task);
  const norms = findNorms(flow);
  if (norms.length !== parts.layerNorms) {
    const fused = fusedBlocks(file);
    return `the graph has ${norms.length} LayerNorms; ${parts.blocks} blocks and what follows them need ${parts.layerNorms}${fused ? `. ${fused}` : ''}`;
  }
  const second = masked ? (config.clsPretraining?.layers ?? 0) : 0;
  const depth = parts.blocks - second;
  const between = norms.length - 2 * parts.blocks - Number(second > 0);
  const blocksFrom = (first: number, count: number): BlockProbes[] =>
    Array.from({ length: count }, (_, i) => {
      const at = first + 2 * i;
      return blockProbes(flow, norms[at], norms[at + 1], norms.at(at + 2), i + 1 < count);
    });
  const segment = task.name === 'segment' ? segmentProbes(flow, config, norms.at(-1)!.index) : undefined;
  if (typeof segment === 'string') return segment;
  return {
    pixels,
    ...(needsMask && { mask: masks[0].name, maskType: ends.maskType }),
    blocks: blocksFrom(0, depth),
    finals: norms.slice(2 * depth, 2 * depth + between),
    ...(second > 0 && {
      second: { blocks: blocksFrom(2 * depth + between, second), final: norms.at(-1)! },
    }),
    ...(segment && { segment }),
    outputs: ends.outputs ?? (wanted.every((name) => outputs.includes(name)) ? wanted : outputs),
    sums,
  };
}

function blockProbes(
  flow: Flow,
  ln1: Norm,
  ln2: Norm,
  next: Norm | undefined,
  followed: boolean,
): BlockProbes {
  const between = flow.nodes.slice(ln1.index, ln2.index);
  const softmax = between.find(({ type }) => type === 'Softmax');
  const fused = softmax ? undefined : between.find(({ type }) => ATTENTION.has(type));
  const attention = branch(flow, residual(flow, flow.root(ln2.input), ln1.input) ?? '');
  const output = followed ? next?.input : lastOutput(flow, ln2, next);
  const joined = output ?? (next && flow.root(next.input));
  const mlp = joined === undefined ? {} : branch(flow, residual(flow, flow.root(joined), ln2.input) ?? '');
  return {
    input: ln1.input,
    ln1,
    ...(softmax && { scores: softmax.inputs[0], probabilities: softmax.outputs[0] }),
    ...(fused && { attention: qualified(fused) }),
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
  const into = multiplied(flow, product);
  return into === undefined ? { linear } : { linear, into };
}

const PRODUCTS: ReadonlySet<string> = new Set(['MatMul', 'FusedMatMul', 'Gemm', 'MatMulNBits']);

/** What a matrix product multiplies, also where both sides are integers and the sum is scaled afterwards. */
function multiplied(flow: Flow, product: string): string | undefined {
  const node = flow.producer(product);
  if (node === undefined) return undefined;
  if (PRODUCTS.has(node.type)) return node.inputs[0];
  if (node.type !== 'Mul') return undefined;
  const integers = node.inputs
    .map((name) => flow.producer(flow.root(name)))
    .find((operand) => operand?.type === 'MatMulInteger');
  const levels = integers && flow.producer(integers.inputs[0]);
  return levels?.type === 'DynamicQuantizeLinear' ? levels.inputs[0] : undefined;
}

/** The last block's tokens, where they exist: the addition to the stream before LN2 that comes after it. */
function lastOutput(flow: Flow, ln2: Norm, next: Norm | undefined): string | undefined {
  const before = flow.root(ln2.input);
  return flow.nodes
    .slice(ln2.index + 1, next?.index)
    .filter(({ type }) => type === 'Add')
    .find(({ inputs }) => {
      const operands = inputs.filter((name) => flow.isDynamic(name));
      return operands.length === 2 && operands.some((name) => flow.root(name) === before);
    })?.outputs[0];
}
