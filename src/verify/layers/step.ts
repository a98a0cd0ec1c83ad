/**
 * One step of the forward pass as the file computed it, held against what it must be from the file's own inputs of
 * that step; and which mistake would explain the difference.
 */
import type { Values } from './arithmetic.js';

/** A mistake that could have been made in a step, and what the step would then give. */
export interface Mistake {
  /** clause: `q and k are swapped` */
  readonly what: string;
  /** canonical names of the tensors involved */
  readonly tensors: readonly string[];
  compute(): Values | undefined | Promise<Values | undefined>;
}

export interface Step {
  /** `LN1`, `attention scores`, `lateral convolution 2`, … */
  readonly name: string;
  /** canonical names of the tensors that the step uses */
  readonly tensors: readonly string[];
  readonly found: Float32Array;
  /** in float64, from the file's own inputs of this step; as many values as `found` */
  readonly right: Values;
  /** rms error that float32 must be expected to make in this step alone */
  readonly noise: number;
  /** rms error that weights and inputs in fewer bits must be expected to make in this step alone */
  readonly narrowed?: number;
  /** rms error from which on it is a mistake, in units of `noise` */
  readonly allowed?: number;
  mistakes(): Iterable<Mistake>;
}

export interface Deviation {
  readonly maxAbs: number;
  readonly rms: number;
  /** rms of the values that are right */
  readonly size: number;
}

/** Infinity where the file gives NaN or infinity. */
export function deviation(found: ArrayLike<number>, right: ArrayLike<number>): Deviation {
  let [maxAbs, squares, sizes] = [0, 0, 0];
  for (let i = 0; i < right.length; i++) {
    const error = Math.abs(found[i] - right[i]);
    if (!(error <= maxAbs)) maxAbs = Number.isFinite(error) ? error : Infinity;
    squares += error * error;
    sizes += right[i] * right[i];
  }
  const rms = Math.sqrt(squares / right.length);
  return {
    maxAbs,
    rms: Number.isFinite(rms) ? rms : Infinity,
    size: Math.sqrt(sizes / right.length),
  };
}

/**
 * A step's rms error in units of its own expected rms noise from which on it is a mistake. Sound steps stay below 4
 * (docs/decisions/0011-layer-noise-and-reports.md); an rms over thousands of values has no tail that would need more room.
 */
export const STEP_UNITS_ALLOWED = 12;

export interface Suspect {
  readonly mistake: string;
  readonly tensors: readonly string[];
  /** rms error that is left when this mistake is assumed */
  readonly rmsLeft: number;
  /** nothing but noise is left */
  readonly explainsAll: boolean;
}

/** A mistake that takes at least this factor off the error, and leaves more than noise, is named as a part of it. */
const PARTLY = 20;
/** Slack for explanations: an assumed value in place of an exact one (an epsilon) may leave a little more than noise. */
const EXPLAINED = 2;

/** The mistakes that explain a step's error, the best first. */
export async function findSuspects(step: Step): Promise<Suspect[]> {
  const { found, right, noise, allowed = STEP_UNITS_ALLOWED } = step;
  const before = deviation(found, right).rms;
  const suspects: Suspect[] = [];
  for (const { what, tensors, compute } of step.mistakes()) {
    const assumed = await compute();
    if (assumed?.length !== found.length) continue;
    const { rms } = deviation(found, assumed);
    // Where the mistake would not change anything it explains nothing.
    if (!(rms < before / 2)) continue;
    const explainsAll = rms <= EXPLAINED * allowed * noise;
    if (explainsAll || rms < before / PARTLY)
      suspects.push({ mistake: what, tensors, rmsLeft: rms, explainsAll });
  }
  return suspects.sort((a, b) => a.rmsLeft - b.rmsLeft);
}
