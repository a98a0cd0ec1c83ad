/** Other ways to bring a map to another size than the right one. */
import type { bilinear, Readable, Size } from '../oracle-grid.js';

/** Other ways to bring a map to another size than bilinear with pixel centres at halves. */
export const RESAMPLINGS: readonly { readonly what: string; readonly sample: typeof bilinear }[] = [
  {
    what: 'maps are resized with aligned corners',
    sample: (map, from, to, place) =>
      between(map, from, to, place, (at, side, was) => (side > 1 ? (at * (was - 1)) / (side - 1) : 0)),
  },
  {
    what: 'maps are resized with pixel centres at whole numbers (asymmetric)',
    sample: (map, from, to, place) => between(map, from, to, place, (at, side, was) => (at * was) / side),
  },
  {
    what: 'maps are resized by the nearest neighbour',
    sample: (map, from, to, place) =>
      between(map, from, to, place, (at, side, was) => Math.floor((at * was) / side)),
  },
];

function between(
  map: Readable,
  from: Size,
  to: Size,
  place: number,
  source: (at: number, side: number, was: number) => number,
): Float64Array {
  const [y, x] = [Math.floor(place / to[1]), place % to[1]].map((at, i) => source(at, to[i], from[i]));
  const [top, left] = [Math.min(Math.floor(y), from[0] - 1), Math.min(Math.floor(x), from[1] - 1)];
  const [down, right] = [Math.min(top + 1, from[0] - 1), Math.min(left + 1, from[1] - 1)];
  const get = (row: number, column: number): Float64Array => map.get(row * from[1] + column)!;
  const [a, b, c, d] = [get(top, left), get(top, right), get(down, left), get(down, right)];
  const [v, u] = [y - top, x - left];
  return a.map((value, i) => (1 - v) * ((1 - u) * value + u * b[i]) + v * ((1 - u) * c[i] + u * d[i]));
}
