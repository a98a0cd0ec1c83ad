/** A segmentation model in a file, and where its maps are looked at. */
import type { Task } from '../../task.js';
import type { Size } from '../oracle-grid.js';
import { choosePlaces } from '../oracle-segment.js';
import type { Values } from './arithmetic.js';
import type { SegmentProbes } from './probes-segment.js';
import type { Weights } from './weights.js';

export interface SegmentCase {
  readonly weights: Weights;
  readonly images: number;
  readonly task: Extract<Task, { name: 'segment' }>;
  readonly probes: SegmentProbes;
  readonly logits: string;
  /** `[images, T, E]` of the file: [0] tokens entering block 0, [k] after block k */
  tokens(state: number): Values | undefined;
  fetch(names: readonly string[]): Promise<Map<string, Float32Array>>;
}

/** Where nothing is multiplied by weights: all places of a map that is not large. */
export function somePlaces(size: Size, channels: number): readonly number[] {
  return choosePlaces(size, size[0] * size[1] * channels * 20);
}
