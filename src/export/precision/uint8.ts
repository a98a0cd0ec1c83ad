/** int8 with the weights as unsigned bytes around 128, for runtimes whose integer product takes nothing else. */
import type { Graph } from '../graph.js';
import { integerProducts } from './int8.js';
import type { PrecisionOptions } from './rewrite.js';

export function uint8(graph: Graph, options: PrecisionOptions): Graph {
  return integerProducts(graph, options, 128);
}
