/** Tokens between the blocks in any graph: what an output or a feature map is taken from, before a task is known. */
import type { BeitConfig } from '../../beit.js';
import type { OnnxFile } from '../onnx-file.js';
import { Flow } from './flow.js';
import { findNorms } from './norms.js';
import { segmentProbes } from './probes-segment.js';
import { unfused } from './unfused.js';

/** After how many blocks the tokens are taken that the four maps of a segmentation head are made of; -1: nobody knows. */
export function tapsInGraph(file: OnnxFile, config: BeitConfig): readonly number[] | undefined {
  const flow = new Flow({ ...file, nodes: unfused(file).nodes });
  const norms = findNorms(flow);
  const last = norms.at(-1);
  const probes = last ? segmentProbes(flow, config, last.index) : undefined;
  if (!last || !probes || typeof probes === 'string') return undefined;
  const { grown, laterals, halved } = probes;
  const before = statesBefore(flow);
  return [grown[0], grown[2], laterals[2], halved].map(({ input }) => {
    const tokens = flow.root(input, ['Transpose']);
    const state = before.indexOf(tokens);
    // Those after the last block are made behind the last norm.
    return state < 0 && flow.indexOf(tokens) > last.index ? before.length : state;
  });
}

/** By the name of a value: after how many blocks it is the tokens, as far as another block follows. */
export function statesInGraph(file: OnnxFile, values: readonly string[]): ReadonlyMap<string, number> {
  const flow = new Flow({ ...file, nodes: unfused(file).nodes });
  const before = statesBefore(flow);
  return new Map(
    values.flatMap((value) => {
      const state = before.indexOf(flow.root(value));
      return state < 0 ? [] : [[value, state] as const];
    }),
  );
}

/** The tokens before block k are what its LN1 gets. */
function statesBefore(flow: Flow): string[] {
  return findNorms(flow)
    .filter((_, i) => i % 2 === 0)
    .map(({ input }) => flow.root(input));
}
