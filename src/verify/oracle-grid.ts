/** Feature maps known at some places only, and what looks at their neighbourhoods. Row-major indices. */

export type Size = readonly [height: number, width: number];

/** Channels by place. */
export type Field = ReadonlyMap<number, Float64Array>;
/** All that is asked of one where it is read place by place. */
export type Readable = Pick<Field, 'get'>;

interface Source {
  readonly index: number;
  readonly weight: number;
}

export class Grid {
  readonly #size: Size;

  constructor(size: Size) {
    this.#size = size;
  }

  /** The places of a map of size `from` that a place of this one is interpolated from (`align_corners=False`). */
  sources(place: number, from: Size): readonly Source[] {
    const [height, width] = this.#size;
    const rows = linear(Math.floor(place / width), height, from[0]);
    const columns = linear(place % width, width, from[1]);
    return rows.flatMap((row) =>
      columns.map((column) => ({
        index: row.index * from[1] + column.index,
        weight: row.weight * column.weight,
      })),
    );
  }
}

function linear(at: number, side: number, from: number): readonly Source[] {
  const source = Math.max(0, ((at + 0.5) * from) / side - 0.5);
  const low = Math.min(Math.floor(source), from - 1);
  const share = Math.min(source - low, 1);
  return low + 1 < from && share > 0
    ? [
        { index: low, weight: 1 - share },
        { index: low + 1, weight: share },
      ]
    : [{ index: low, weight: 1 }];
}

/** A map of size `from` at a place of a map of size `to`. */
export function bilinear(field: Readable, from: Size, to: Size, place: number): Float64Array {
  const sources = new Grid(to).sources(place, from);
  const out = new Float64Array(field.get(sources[0].index)!.length);
  for (const { index, weight } of sources) {
    const value = field.get(index)!;
    for (let c = 0; c < out.length; c++) out[c] += weight * value[c];
  }
  return out;
}

/** The places and their neighbours, as far as the map goes. */
export function neighbourhood(places: readonly number[], [height, width]: Size): number[] {
  const found = new Set<number>();
  for (const place of places) {
    const [y, x] = [Math.floor(place / width), place % width];
    for (let row = Math.max(0, y - 1); row <= Math.min(height - 1, y + 1); row++) {
      for (let column = Math.max(0, x - 1); column <= Math.min(width - 1, x + 1); column++) {
        found.add(row * width + column);
      }
    }
  }
  return [...found];
}

/** `weights [out, in]` times `x`, plus bias. */
export function pointwise(weights: Float32Array, x: Float64Array, bias?: Float64Array): Float64Array {
  const out = new Float64Array(weights.length / x.length);
  for (let o = 0; o < out.length; o++) {
    let sum = bias ? bias[o] : 0;
    const at = o * x.length;
    for (let i = 0; i < x.length; i++) sum += weights[at + i] * x[i];
    out[o] = sum;
  }
  return out;
}

/** Kernel `[out, in, 3, 3]`, zeros around the map. */
export class Conv3x3 {
  readonly #weights: Float32Array;
  readonly #size: Size;

  constructor(weights: Float32Array, size: Size) {
    this.#weights = weights;
    this.#size = size;
  }

  at(from: Readable, place: number): Float64Array {
    const [height, width] = this.#size;
    const [y, x] = [Math.floor(place / width), place % width];
    const patch: (Float64Array | undefined)[] = [];
    for (let row = y - 1; row <= y + 1; row++) {
      for (let column = x - 1; column <= x + 1; column++) {
        const inside = row >= 0 && row < height && column >= 0 && column < width;
        patch.push(inside ? from.get(row * width + column)! : undefined);
      }
    }
    const inputs = from.get(place)!.length;
    // As the kernel lies in memory: [in, 3, 3].
    const flat = new Float64Array(inputs * 9);
    patch.forEach((value, k) => {
      if (value) for (let i = 0; i < inputs; i++) flat[i * 9 + k] = value[i];
    });
    return pointwise(this.#weights, flat);
  }
}
