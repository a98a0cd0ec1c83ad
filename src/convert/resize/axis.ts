/**
 * Resizing along one axis is a matrix; along two, one after the other. Every method is such matrices.
 */

/** `to` new values from `from` old ones: row-major `[to, from]`, float64. */
export interface AxisMap {
  readonly from: number;
  readonly to: number;
  readonly weights: Float64Array;
}

/** How a method makes `to` points out of `from` along one axis. */
export type AxisRule = (from: number, to: number) => AxisMap;

/** @param put adds to the weight of old point `source` in new point `target` */
export function axisMap(
  from: number,
  to: number,
  fill: (put: (target: number, source: number, weight: number) => void) => void,
): AxisMap {
  const weights = new Float64Array(to * from);
  fill((target, source, weight) => {
    weights[target * from + source] += weight;
  });
  return { from, to, weights };
}

/**
 * Resize a grid of vectors.
 *
 * @param values `[down.from, across.from, channels]` row-major
 * @returns      `[down.to, across.to, channels]`
 */
export function resample(
  values: Float64Array,
  channels: number,
  down: AxisMap,
  across: AxisMap,
): Float64Array {
  const tall = along(values, 1, across.from * channels, down);
  return along(tall, down.to, channels, across);
}

/** `[outer, map.from, inner]` → `[outer, map.to, inner]` */
function along(values: Float64Array, outer: number, inner: number, map: AxisMap): Float64Array {
  const { from, to, weights } = map;
  const out = new Float64Array(outer * to * inner);
  for (let block = 0; block < outer; block++) {
    for (let target = 0; target < to; target++) {
      const at = (block * to + target) * inner;
      for (let source = 0; source < from; source++) {
        const weight = weights[target * from + source];
        // Most methods look at two or four neighbours only.
        if (weight === 0) continue;
        const start = (block * from + source) * inner;
        for (let i = 0; i < inner; i++) out[at + i] += weight * values[start + i];
      }
    }
  }
  return out;
}
