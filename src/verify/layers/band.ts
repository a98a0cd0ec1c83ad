/**
 * How far a file of each precision may be from float64, where nothing is wrong.
 */
import type { PrecisionName } from '../../precision.js';
import { STEP_UNITS_ALLOWED, type Step } from './step.js';

export interface Band {
  /** unit roundoff of what is computed between the matrices, in that of float32 */
  readonly roundings: number;
  /** rms error of one product with narrowed weights, relative to its result, from which on it is a mistake */
  readonly product: number;
  /** rms error of the tokens between the blocks, relative to them, that must be expected */
  readonly stream: number;
}

const FLOAT16 = 2 ** 13;

/** Measured on the goldens: docs/decisions/0011-layer-noise-and-reports.md. */
const BANDS: Readonly<Record<PrecisionName, Band>> = {
  fp32: { roundings: 1, product: 0, stream: 0 },
  fp16: { roundings: FLOAT16, product: 0, stream: 0 },
  q8: { roundings: 1, product: 0.12, stream: 0.03 },
  int8: { roundings: 1, product: 0.12, stream: 0.03 },
  uint8: { roundings: 1, product: 0.12, stream: 0.03 },
  q4: { roundings: 1, product: 0.5, stream: 0.1 },
  q4f16: { roundings: FLOAT16, product: 0.5, stream: 0.1 },
};

export function bandOf(precision: PrecisionName): Band {
  return BANDS[precision];
}

/** The step with the noise that this precision must be expected to have in it. */
export function widened(step: Step, { roundings, product }: Band, size: number): Step {
  const narrowed = step.product ? (product / STEP_UNITS_ALLOWED) * size : 0;
  if (roundings === 1 && narrowed === 0) return step;
  const noise = Math.hypot(step.noise * roundings, narrowed);
  return { ...step, noise, mistakes: () => step.mistakes() };
}

/** rms error that must be expected in the stream after some blocks. */
export function pointNoise({ roundings, stream }: Band, expected: number, size: number): number {
  return Math.hypot(expected * roundings, stream * size);
}
