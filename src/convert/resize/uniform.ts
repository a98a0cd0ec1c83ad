/**
 * PyTorch's image resizing between evenly spaced grids (`torch.nn.functional.interpolate`, `align_corners=False`).
 *
 * Where a new point lies among the old ones, and its cubic weights, are reckoned in float32 because PyTorch does: on a
 * grid of 63 offsets that moves a point by 2e-6, more than everything else together. The sums are float64.
 *
 * @see PyTorch `aten/src/ATen/native/UpSample.h`, `aten/src/ATen/native/cpu/UpSampleKernel.cpp`
 */
import { axisMap, type AxisMap } from './axis.js';

const { fround } = Math;

/**
 * Where new point `target` lies among the old ones, in float32 like PyTorch's `area_pixel_compute_source_index`; rounded
 * once, because compilers fuse the product and the difference.
 */
function position(target: number, step: number): number {
  return fround(fround(step) * (target + 0.5) - 0.5);
}

/** `mode="bilinear"`. */
export function bilinear(from: number, to: number): AxisMap {
  return axisMap(from, to, (put) => {
    for (let target = 0; target < to; target++) {
      const at = Math.max(position(target, from / to), 0);
      const left = Math.min(Math.floor(at), from - 1);
      const share = Math.min(at - left, 1);
      put(target, left, 1 - share);
      put(target, Math.min(left + 1, from - 1), share);
    }
  });
}

/** `mode="bicubic"`: a = -0.75, points beyond the border are the border's. */
export function bicubic(from: number, to: number): AxisMap {
  return bicubicScaled(from, to, from / to);
}

/**
 * The same where the distance of new points is given apart from the number of them (`scale_factor=`).
 *
 * @param step distance of new points, measured in old ones
 */
export function bicubicScaled(from: number, to: number, step: number): AxisMap {
  return axisMap(from, to, (put) => {
    for (let target = 0; target < to; target++) {
      const at = position(target, step);
      const nearest = Math.floor(at);
      for (let source = nearest - 1; source <= nearest + 2; source++) {
        put(target, Math.min(Math.max(source, 0), from - 1), cubic(at - source, -0.75));
      }
    }
  });
}

/**
 * `mode="bicubic", antialias=True`: a = -0.5, the kernel as wide as a new point where the grid shrinks, cut off at the
 * border and brought to sum 1 again.
 */
export function bicubicAntialiased(from: number, to: number): AxisMap {
  const step = fround(from / to);
  const stretch = Math.max(step, 1);
  return axisMap(from, to, (put) => {
    for (let target = 0; target < to; target++) {
      const centre = fround(step * (target + 0.5));
      const first = Math.max(Math.trunc(centre - 2 * stretch + 0.5), 0);
      const end = Math.min(Math.trunc(centre + 2 * stretch + 0.5), from);
      const weights = Array.from({ length: end - first }, (_, i) =>
        cubic((first + i - centre + 0.5) / stretch, -0.5),
      );
      const sum = weights.reduce((total, weight) => total + weight, 0);
      weights.forEach((weight, i) => put(target, first + i, weight / sum));
    }
  });
}

/** Keys' cubic convolution kernel, with the float32 rounding of fused multiply-adds. */
function cubic(distance: number, a: number): number {
  const x = fround(Math.abs(distance));
  if (x <= 1) return fround(fround(fround((a + 2) * x - (a + 3)) * x) * x + 1);
  return x < 2 ? fround(fround(fround(a * x - 5 * a) * x + 8 * a) * x - 4 * a) : 0;
}
