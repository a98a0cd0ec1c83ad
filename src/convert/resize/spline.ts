/**
 * The interpolating cubic spline with not-a-knot ends, as a matrix on the values it goes through.
 */
import { axisMap, type AxisMap } from './axis.js';

/** Fewer points determine no cubic. */
export const LEAST_POINTS = 4;

/**
 * The spline through values at `x`, read at `targets`; beyond the ends the end values hold.
 *
 * The same curve as FITPACK's `regrid` with s = 0: the second and the second-last point are no knots, which as a
 * condition on the second derivatives M is "the third derivative does not jump there".
 *
 * @param x strictly rising, at least {@link LEAST_POINTS}
 * @see scipy `interpolate.interp2d(kind="cubic")`, which unilm calls
 */
export function notAKnotSpline(x: Float64Array, targets: Float64Array): AxisMap {
  const points = x.length;
  if (points < LEAST_POINTS) throw new RangeError(`a cubic spline through ${points} points`);
  const curvature = secondDerivatives(x);
  return axisMap(points, targets.length, (put) => {
    targets.forEach((wanted, target) => {
      const at = Math.min(Math.max(wanted, x[0]), x[points - 1]);
      let left = 0;
      while (left < points - 2 && x[left + 1] <= at) left += 1;
      const step = x[left + 1] - x[left];
      const b = (at - x[left]) / step;
      const a = 1 - b;
      put(target, left, a);
      put(target, left + 1, b);
      const [c, d] = [((a * a * a - a) * step * step) / 6, ((b * b * b - b) * step * step) / 6];
      for (let source = 0; source < points; source++) {
        put(
          target,
          source,
          c * curvature[left * points + source] + d * curvature[(left + 1) * points + source],
        );
      }
    });
  });
}

/** Row i: the second derivative at `x[i]` as weights of the values. */
function secondDerivatives(x: Float64Array): Float64Array {
  const points = x.length;
  const last = points - 1;
  const h = (i: number): number => x[i + 1] - x[i];
  const system = new Float64Array(points * points);
  const right = new Float64Array(points * points);
  for (let i = 1; i < last; i++) {
    const row = i * points;
    system[row + i - 1] = h(i - 1);
    system[row + i] = 2 * (h(i - 1) + h(i));
    system[row + i + 1] = h(i);
    right[row + i - 1] = 6 / h(i - 1);
    right[row + i] = -6 / h(i - 1) - 6 / h(i);
    right[row + i + 1] = 6 / h(i);
  }
  for (const [row, middle] of [
    [0, 1],
    [last, last - 1],
  ]) {
    const at = row * points;
    system[at + middle - 1] = h(middle);
    system[at + middle] = -h(middle - 1) - h(middle);
    system[at + middle + 1] = h(middle - 1);
  }
  return solve(system, right, points);
}

/**
 * Gaussian elimination with row exchanges, in place.
 *
 * @param system `[n, n]`, regular
 * @param right  `[n, columns]`
 * @returns      `right`, now the solution
 */
export function solve(system: Float64Array, right: Float64Array, n: number): Float64Array {
  const columns = right.length / n;
  for (let pivot = 0; pivot < n; pivot++) {
    let best = pivot;
    for (let row = pivot + 1; row < n; row++) {
      if (Math.abs(system[row * n + pivot]) > Math.abs(system[best * n + pivot])) best = row;
    }
    if (best !== pivot) {
      exchange(system, n, best, pivot);
      exchange(right, columns, best, pivot);
    }
    for (let row = 0; row < n; row++) {
      const factor = row === pivot ? 0 : system[row * n + pivot] / system[pivot * n + pivot];
      if (factor === 0) continue;
      for (let i = pivot; i < n; i++) system[row * n + i] -= factor * system[pivot * n + i];
      for (let i = 0; i < columns; i++) right[row * columns + i] -= factor * right[pivot * columns + i];
    }
  }
  for (let row = 0; row < n; row++) {
    for (let i = 0; i < columns; i++) right[row * columns + i] /= system[row * n + row];
  }
  return right;
}

function exchange(matrix: Float64Array, width: number, a: number, b: number): void {
  const row = matrix.slice(a * width, (a + 1) * width);
  matrix.copyWithin(a * width, b * width, (b + 1) * width);
  matrix.set(row, b * width);
}
