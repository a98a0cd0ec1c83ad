/**
 * The registry: what each precision does to a graph. Heads know nothing of it, and it knows nothing of heads.
 */
import type { PrecisionName } from '../../precision.js';
import type { Graph } from '../graph.js';
import { fp16 } from './fp16.js';
import { int8 } from './int8.js';
import { q4 } from './q4.js';
import { q4f16 } from './q4f16.js';
import { q8 } from './q8.js';
import type { PrecisionOptions } from './rewrite.js';
import { uint8 } from './uint8.js';

export type { PrecisionOptions } from './rewrite.js';

const TRANSFORMS: Readonly<Record<PrecisionName, (graph: Graph, options: PrecisionOptions) => Graph>> = {
  fp32: (graph) => graph,
  fp16,
  q8,
  int8,
  uint8,
  q4,
  q4f16,
};

/** The same graph in another precision. Weights are converted when they are written, not here. */
export function inPrecision(graph: Graph, name: PrecisionName, options: PrecisionOptions): Graph {
  return TRANSFORMS[name](graph, options);
}
