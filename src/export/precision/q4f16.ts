/** 4-bit weights and float16 between them: the smallest file, made for WebGPU. */
import type { Graph } from '../graph.js';
import { fp16 } from './fp16.js';
import { blockProducts } from './q4.js';
import type { PrecisionOptions } from './rewrite.js';

export function q4f16(graph: Graph, options: PrecisionOptions): Graph {
  return fp16(blockProducts(graph, options.keep, 'F16'), options);
}
