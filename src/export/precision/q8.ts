/**
 * What browsers load by default (`model_quantized.onnx`), so it must be right on machines that nobody has seen: int8
 * with 7-bit weights unless told otherwise. Processors without VNNI (AVX2, relaxed SIMD in browsers) add two products
 * of bytes in 16 bits, saturating; 64 · 255 · 2 = 32640 can't overflow.
 */
import type { Graph } from '../graph.js';
import { integerProducts } from './int8.js';
import type { PrecisionOptions } from './rewrite.js';

export function q8(graph: Graph, options: PrecisionOptions): Graph {
  return integerProducts(graph, options, 0);
}
