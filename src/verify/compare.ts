/**
 * Logits of the written file against the oracle's: how far apart, and how far one must expect.
 */

/**
 * What `max |error| / expected rms float32 noise` may be. Derivation and measurements:
 * `docs/decisions/0002-parity-tolerances.md`.
 */
export const NOISE_UNITS_ALLOWED = 32;

/** Direction of the logit vector; follows from the bound above for every sound model, and reads well in a report. */
export const COSINE_NEEDED = 1 - 1e-6;

export interface LogitsComparison {
  /** largest |written - oracle|; Infinity when the written file gives NaN or infinity */
  readonly maxAbs: number;
  /** `maxAbs` divided by the oracle's largest |logit| */
  readonly maxRel: number;
  readonly cosine: number;
  /** `maxAbs` divided by `expectedNoise` */
  readonly noiseUnits: number;
  /** expected rms float32 error of one logit, not below the rounding of the logits themselves */
  readonly expectedNoise: number;
  /** a class whose oracle logit is within the tolerance of the best one counts as the best: ties are no disagreement */
  readonly top1: boolean;
  /** same, for the set of the five best */
  readonly top5: boolean;
}

/**
 * @param written       logits of one image, float32
 * @param oracle        logits of the same image, float64
 * @param expectedNoise rms float32 error that a sound implementation must be expected to have, one logit
 */
export function compareLogits(
  written: Float32Array,
  oracle: Float64Array,
  expectedNoise: number,
): LogitsComparison {
  let maxAbs = 0;
  let largest = 0;
  let [product, writtenSquares, oracleSquares] = [0, 0, 0];
  for (let i = 0; i < oracle.length; i++) {
    const error = Math.abs(written[i] - oracle[i]);
    maxAbs = Math.max(maxAbs, Number.isFinite(error) ? error : Infinity);
    largest = Math.max(largest, Math.abs(oracle[i]));
    product += written[i] * oracle[i];
    writtenSquares += written[i] * written[i];
    oracleSquares += oracle[i] * oracle[i];
  }
  // A float32 result can't be nearer than its own rounding: 2^-24 relative at most, 1/sqrt(3) of that rms.
  const noise = Math.max(expectedNoise, (largest * 2 ** -24) / Math.sqrt(3));
  const cosine = product / Math.sqrt(writtenSquares * oracleSquares);
  const tie = 2 * NOISE_UNITS_ALLOWED * noise;
  return {
    maxAbs,
    maxRel: maxAbs === 0 ? 0 : maxAbs / largest,
    cosine: maxAbs === 0 ? 1 : Number.isFinite(cosine) ? cosine : 0,
    noiseUnits: maxAbs === 0 ? 0 : maxAbs / noise,
    expectedNoise: noise,
    top1: agree(written, oracle, 1, tie),
    top5: agree(written, oracle, 5, tie),
  };
}

/** Every one of the `count` best by `written` is, by the oracle, at most `tie` worse than its own last of `count`. */
export function agree(
  written: Float32Array | Float64Array,
  oracle: Float64Array,
  count: number,
  tie: number,
): boolean {
  const least = oracle[best(oracle, count).at(-1)!];
  return best(written, count).every((index) => oracle[index] >= least - tie);
}

/** Indices of the largest values, largest first; among equals the first. NaN is the least. */
export function best(values: ArrayLike<number>, count: number): number[] {
  const found: number[] = [];
  const above = (a: number, b: number): boolean => a > b || (Number.isNaN(b) && !Number.isNaN(a));
  for (let i = 0; i < values.length; i++) {
    if (found.length === count && !above(values[i], values[found[count - 1]])) continue;
    let place = found.length;
    while (place > 0 && above(values[i], values[found[place - 1]])) place -= 1;
    found.splice(place, 0, i);
    if (found.length > count) found.pop();
  }
  return found;
}
