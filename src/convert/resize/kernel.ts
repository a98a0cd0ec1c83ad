/**
 * Patch kernels of another size: the kernel that answers to a resized patch as the old one did to the patch.
 *
 * @see timm `layers/patch_embed.py` `resample_patch_embed`; FlexiViT, https://arxiv.org/abs/2212.08013, section 3.4
 */
import { resample, type AxisMap } from './axis.js';
import { solve } from './spline.js';
import { bicubicAntialiased } from './uniform.js';

/**
 * The pseudo-inverse of resizing one axis from `from` to `to` pixels, transposed: what a kernel's axis is multiplied
 * with. In two dimensions it is this along both axes, because the resize is.
 *
 * The resize has full rank; along one axis its condition number is 2 between 16 and 17 pixels, 4 between 64 and 65 and
 * less between sizes further apart. So the normal equations lose nothing, and torch's cut-off for small singular values
 * never applies.
 */
export function kernelAxis(from: number, to: number): AxisMap {
  const { weights: resize } = bicubicAntialiased(from, to);
  const at = (row: number, column: number): number => resize[row * from + column];
  const least = Math.min(from, to);
  const gram = new Float64Array(least * least);
  for (let i = 0; i < least; i++) {
    for (let j = 0; j < least; j++) {
      let sum = 0;
      if (to >= from) for (let k = 0; k < to; k++) sum += at(k, i) * at(k, j);
      else for (let k = 0; k < from; k++) sum += at(i, k) * at(j, k);
      gram[i * least + j] = sum;
    }
  }
  // Growing: R (RᵀR)⁻¹. Shrinking: (R Rᵀ)⁻¹ R. Both [to, from].
  if (to < from) return { from, to, weights: solve(gram, resize.slice(), to) };
  const transposed = new Float64Array(from * to);
  for (let i = 0; i < from; i++) for (let k = 0; k < to; k++) transposed[i * to + k] = at(k, i);
  const solved = solve(gram, transposed, from);
  const weights = new Float64Array(to * from);
  for (let k = 0; k < to; k++) for (let i = 0; i < from; i++) weights[k * from + i] = solved[i * to + k];
  return { from, to, weights };
}

/** Kernels resized together: enough that a call costs nothing, few enough that memory does not count. */
const TOGETHER = 64;

/**
 * Resize square kernels, a few at a time.
 *
 * @param kernels `[count, from, from]` in row-major order
 * @returns       `[count, to, to]`, in pieces
 */
export function* resizeKernels(kernels: Float64Array, from: number, to: number): Generator<Float64Array> {
  const axis = kernelAxis(from, to);
  const old = from * from;
  for (let start = 0; start < kernels.length; start += TOGETHER * old) {
    const count = Math.min(TOGETHER, (kernels.length - start) / old);
    const piece = new Float64Array(count * to * to);
    for (let i = 0; i < count; i++) {
      const one = kernels.subarray(start + i * old, start + (i + 1) * old);
      piece.set(resample(one, 1, axis, axis), i * to * to);
    }
    yield piece;
  }
}
