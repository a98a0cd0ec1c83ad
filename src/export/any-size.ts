/**
 * A graph for images of any size: it computes its sizes from the pixels it is given, and resizes the positions to them.
 *
 * Symbols: P patch (pixels), (h, w) patches of the image at hand, N = h*w, T tokens, H heads.
 */
import type { BeitConfig } from '../beit.js';
import type { DynamicMethod } from '../dynamic-size.js';
import type { Weight } from './blocks.js';
import { float, int, ints, string, type GraphBuilder, type Value } from './graph.js';
import { COVERED, MISSING, sizesOf } from './sizes.js';

export interface AnySize {
  /** how positions are resized */
  readonly method: DynamicMethod;
  /** pixels that fill no whole patch are padded with zeros until they do, instead of left out */
  readonly pads: boolean;
}

/** Let the graph compute every size from the shape of `pixels`; to be called before anything else is built. */
export function defineSizes(
  g: GraphBuilder,
  { patchSize, classToken }: BeitConfig,
  pixels: Value,
  pads: boolean,
): void {
  g.scoped('sizes', () => {
    const sides = g.op('Shape', [pixels], { start: int(2), end: int(4) });
    const begun = pads ? g.op('Add', [sides, g.int64([patchSize - 1])]) : sides;
    const window = g.op('Div', [begun, g.int64([patchSize])], {}, 'window');
    const [rows, columns] = g.ops('Split', [window, g.int64([1, 1])], 2, { axis: int(0) });
    const patches = g.op('Mul', [rows, columns], {}, 'patches');
    g.define('rows', rows);
    g.define('columns', columns);
    g.define('patches', patches);
    g.define('tokens', classToken ? g.op('Add', [patches, g.int64([1])], {}, 'tokens') : patches);
    const covered = g.op('Mul', [window, g.int64([patchSize])], {}, 'covered');
    if (pads) g.define(MISSING, g.op('Sub', [covered, sides], {}, 'missing'));
    else g.define(COVERED, covered);
  });
}

/** Sides of the grid of displacements, `2h-1` and `2w-1`, each `[1]`. */
function displacements(g: GraphBuilder, config: BeitConfig): readonly [Value, Value] {
  const { rows, columns } = sizesOf(config);
  const [down, across] = [rows, columns].map((side) =>
    g.op('Sub', [g.op('Mul', [g.int64([side]), g.int64([2])]), g.int64([1])], {}, 'displacements'),
  );
  return [down, across];
}

/**
 * `relative_position_index` of the image at hand, int64 `[T, T]`.
 *
 * @see `relativePositionIndex` in beit.ts, which is the same for a fixed size
 */
export function positionIndex(g: GraphBuilder, config: BeitConfig): Value {
  return g.scoped('relative_position_index', () => {
    const { rows, columns, patches } = sizesOf(config);
    const [h, w, N] = [rows, columns, patches].map((size) => g.int64([size]));
    const [down, across] = displacements(g, config);
    const number = (value: Value): Value => g.op('Squeeze', [value]);
    const places = g.op('Range', [number(g.int64([0])), number(N), number(g.int64([1]))]);
    /** query minus key, moved to begin at 0: `[N, N]` */
    const apart = (at: Value, side: Value): Value => {
      const difference = g.op('Sub', [
        g.op('Unsqueeze', [at, g.int64([1])]),
        g.op('Unsqueeze', [at, g.int64([0])]),
      ]);
      return g.op('Add', [difference, g.op('Sub', [side, g.int64([1])])]);
    };
    const y = g.op('Div', [places, w]);
    const x = g.op('Sub', [places, g.op('Mul', [y, w])]);
    const pairs = g.op('Add', [g.op('Mul', [apart(y, h), across]), apart(x, w)], {}, 'patch_to_patch');
    // The three rows after the grid: class token to patch, patch to class token, class token to itself.
    const first = g.op('Mul', [down, across], {}, 'class_rows');
    const toPatches = g.op('Expand', [first, g.int64([1, patches])], {}, 'class_to_patch');
    const toClass = g.op('Expand', [g.op('Add', [first, g.int64([1])]), g.int64([patches, 1])]);
    const itself = g.op('Reshape', [g.op('Add', [first, g.int64([2])]), g.int64([1, 1])]);
    const left = g.op('Concat', [itself, toClass], { axis: int(0) }, 'to_class');
    const right = g.op('Concat', [toPatches, pairs], { axis: int(0) }, 'to_patch');
    return g.op('Concat', [left, right], { axis: int(1) }, 'index');
  });
}

/** How upstreams' `torch.nn.functional.interpolate(align_corners=False)` is said in ONNX. */
const LINEAR = { mode: string('linear'), coordinate_transformation_mode: string('half_pixel') };
/** ONNX' own defaults for the border (repeated) are PyTorch's. */
const CUBIC = {
  mode: string('cubic'),
  coordinate_transformation_mode: string('half_pixel'),
  cubic_coeff_a: float(-0.75),
  exclude_outside: int(0),
};
const TABLE_RULES: Readonly<Record<DynamicMethod, typeof LINEAR | typeof CUBIC>> = {
  transformers: LINEAR,
  'timm-simple': CUBIC,
};

/**
 * Weights with the positions brought to the image at hand: `[(2h-1)(2w-1)+3, H]` tables, `[1, T, E]` absolute positions.
 *
 * @see transformers `models/beit/modeling_beit.py` `BeitRelativePositionBias`, `interpolate_pos_encoding`;
 *   timm `layers/pos_embed_rel.py` `resize_rel_pos_bias_table_simple`
 */
export function resizingWeights(
  g: GraphBuilder,
  config: BeitConfig,
  method: DynamicMethod,
  weight: Weight,
): Weight {
  const [height, width] = config.window;
  const made = new Map<string, Value>();
  const resized = (name: string): Value => {
    const stored = weight(name);
    if (name === 'backbone.pos_embed') {
      const { rows, columns } = sizesOf(config);
      const sides = [rows, columns].map((side) => g.int64([side]));
      const kept = config.classToken ? 1 : 0;
      const grid = slice(g, stored, 1, kept, kept + height * width);
      const to = resizeGrid(g, grid, [height, width], sides, config.hiddenSize, CUBIC);
      const whole = g.op('Unsqueeze', [to, g.int64([0])]);
      return kept === 0
        ? whole
        : g.op('Concat', [slice(g, stored, 1, 0, kept), whole], { axis: int(1) }, 'positions');
    }
    const from = [2 * height - 1, 2 * width - 1] as const;
    const cells = from[0] * from[1];
    const grid = slice(g, stored, 0, 0, cells);
    const to = resizeGrid(g, grid, from, displacements(g, config), config.heads, TABLE_RULES[method]);
    return g.op('Concat', [to, slice(g, stored, 0, cells, cells + 3)], { axis: int(0) }, 'table');
  };
  return (name) => {
    if (name !== 'backbone.pos_embed' && !name.endsWith('relative_position_bias_table')) return weight(name);
    const value = made.get(name) ?? resized(name);
    made.set(name, value);
    return value;
  };
}

function slice(g: GraphBuilder, value: Value, axis: number, start: number, end: number): Value {
  return g.op('Slice', [value, g.int64([start]), g.int64([end]), g.int64([axis])]);
}

/** Rows of `channels` values on a grid (any leading axis of 1) to the rows of another grid, `[cells, channels]`. */
function resizeGrid(
  g: GraphBuilder,
  rows: Value,
  from: readonly [number, number],
  to: readonly Value[],
  channels: number,
  rule: typeof LINEAR | typeof CUBIC,
): Value {
  const image = g.op('Reshape', [rows, g.int64([1, ...from, channels])]);
  const planes = g.op('Transpose', [image], { perm: ints(0, 3, 1, 2) });
  const sizes = g.op('Concat', [g.int64([1, channels]), ...to], { axis: int(0) });
  const resized = g.op('Resize', [planes, null, null, sizes], rule);
  return g.op('Reshape', [g.op('Transpose', [resized], { perm: ints(0, 2, 3, 1) }), g.int64([-1, channels])]);
}
