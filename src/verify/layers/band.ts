/**
 * How far a file of each precision may be from float64, where nothing is wrong.
 */
import type { PrecisionName } from '../../precision.js';
import { STEP_UNITS_ALLOWED, type Step } from './step.js';

export interface Band {
  /** unit roundoff of what is computed between the matrices, in that of float32 */
  readonly roundings: number;
  /** rms error of the tokens between the blocks, relative to them, that must be expected */
  readonly stream: number;
}

/** As `STEP_UNITS_ALLOWED`, of what weights and inputs in fewer bits cost: sound steps stay below 2. */
const NARROWED_UNITS_ALLOWED = 4;

const FLOAT16 = 2 ** 13;

/** Measured on the goldens: docs/decisions/0011-layer-noise-and-reports.md. */
const BANDS: Readonly<Record<PrecisionName, Band>> = {
  fp32: { roundings: 1, stream: 0 },
  fp16: { roundings: FLOAT16, stream: 0 },
  q8: { roundings: 1, stream: 0.03 },
  int8: { roundings: 1, stream: 0.03 },
  uint8: { roundings: 1, stream: 0.03 },
  q4: { roundings: 1, stream: 0.1 },
  q4f16: { roundings: FLOAT16, stream: 0.1 },
};

export function bandOf(precision: PrecisionName): Band {
  return BANDS[precision];
}

/** The step as this precision must be expected to compute it. */
export function inBand(step: Step, { roundings }: Band): Step & { readonly allowed: number } {
  const rounded = step.noise * roundings;
  const { narrowed = 0 } = step;
  const noise = Math.hypot(rounded, narrowed);
  const most = Math.hypot(STEP_UNITS_ALLOWED * rounded, NARROWED_UNITS_ALLOWED * narrowed);
  const allowed = noise > 0 ? most / noise : STEP_UNITS_ALLOWED;
  return { ...step, noise, allowed, mistakes: () => step.mistakes() };
}

/** rms error that must be expected in the stream after some blocks. */
export function pointNoise({ roundings, stream }: Band, expected: number, size: number): number {
  return Math.hypot(expected * roundings, stream * size);
}
