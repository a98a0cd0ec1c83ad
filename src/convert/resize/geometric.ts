/**
 * unilm's idea, which timm took over: the old offsets lie on the new grid at distances that grow geometrically, so that
 * near offsets keep their meaning and far ones are stretched.
 *
 * @see unilm `beit/run_class_finetuning.py` (`Position interpolate`), mmpretrain `BEiTAttention` load hook (the same
 *   to the bit), timm `layers/pos_embed_rel.py` `resize_rel_pos_bias_table`
 */
import { axisMap, type AxisMap } from './axis.js';
import { notAKnotSpline } from './spline.js';

/** Upstream stops its bisection here; a finer one would give other positions. */
const TOLERANCE = 1e-6;

/**
 * Where the old offsets lie on the new grid.
 *
 * @param from number of old offsets along one axis, `2 * window - 1`
 * @param to   number of new ones
 * @returns    `from` positions, symmetric about 0, about as wide as the new grid (not exactly: the ratio is the last
 *   trial of the bisection, and it stays between 1.01 and 1.5)
 */
export function geometricPositions(from: number, to: number): Float64Array {
  const half = Math.floor(from / 2);
  const wanted = Math.floor(to / 2);
  let [low, high] = [1.01, 1.5];
  let ratio = low;
  while (high - low > TOLERANCE) {
    ratio = (low + high) / 2;
    const reach = (1 - ratio ** half) / (1 - ratio);
    if (reach > wanted) high = ratio;
    else low = ratio;
  }
  const positions = new Float64Array(from);
  let distance = 1;
  for (let i = 1; i <= half; i++) {
    positions[half + i] = distance;
    positions[half - i] = -distance;
    distance += ratio ** i;
  }
  return positions;
}

/** The new offsets themselves: …, -1, 0, 1, … */
function offsets(to: number): Float64Array {
  const half = Math.floor(to / 2);
  return Float64Array.from({ length: to }, (_, i) => i - half);
}

/** Cubic spline between the geometric positions: unilm, mmpretrain. */
export function geometricCubic(from: number, to: number): AxisMap {
  return notAKnotSpline(geometricPositions(from, to), offsets(to));
}

/** Straight lines between the geometric positions, which are float32 tensors there: timm without scipy. */
export function geometricLinear(from: number, to: number): AxisMap {
  const x = geometricPositions(from, to).map(Math.fround);
  return axisMap(from, to, (put) => {
    offsets(to).forEach((wanted, target) => {
      const at = Math.min(Math.max(wanted, x[0]), x[from - 1]);
      let left = 0;
      while (left < from - 2 && x[left + 1] <= at) left += 1;
      const right = Math.min(left + 1, from - 1);
      const share = right === left ? 0 : (at - x[left]) / (x[right] - x[left]);
      put(target, left, 1 - share);
      if (right !== left) put(target, right, share);
    });
  });
}
