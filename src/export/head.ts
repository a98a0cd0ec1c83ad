/** What a head is: given the pixels, it builds everything up to the outputs. */
import type { BeitConfig } from '../beit.js';
import type { Weight } from './blocks.js';
import type { GraphBuilder, Value } from './graph.js';

export interface HeadInput {
  readonly g: GraphBuilder;
  readonly config: BeitConfig;
  readonly weight: Weight;
  /** `[B, C, H, W]` */
  readonly pixels: Value;
  /** images per run, or the name of the symbolic dimension */
  readonly batch: number | string;
}

/** Builds everything between input and outputs; the outputs come in the order of `taskOutputs`. */
export type Head = (input: HeadInput) => readonly Value[];
