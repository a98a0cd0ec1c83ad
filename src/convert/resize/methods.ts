/**
 * The methods: which matrix each upstream uses for what, and what it cannot do.
 */
import { UsageError } from '../../errors.js';
import { RESIZE_METHODS, type ResizeMethod } from '../../resizing.js';
import type { AxisRule } from './axis.js';
import { geometricCubic, geometricLinear } from './geometric.js';
import { LEAST_POINTS } from './spline.js';
import { bicubic, bicubicAntialiased, bicubicScaled, bilinear } from './uniform.js';

export interface Method {
  /** one clause for a note */
  readonly what: string;
  /** relative position tables, from `2 * window - 1` offsets; absent: upstream has no rule */
  readonly table?: AxisRule;
  /** `pos_embed`, from `window` patches */
  readonly position: AxisRule;
  readonly targets: 'square' | 'any';
  readonly sources: 'square' | 'any';
  /** smallest source window that a table can be resized from */
  readonly leastWindow: number;
}

/**
 * @see unilm `beit/run_class_finetuning.py`; mmpretrain `models/backbones/beit.py`, `models/utils/attention.py`
 * @see timm `models/beit.py` `checkpoint_filter_fn`, `layers/pos_embed_rel.py`, `layers/pos_embed.py`
 * @see transformers `models/beit/modeling_beit.py` `BeitRelativePositionBias`, `interpolate_pos_encoding`
 * @see unilm `beit2/modeling_finetune.py` `interpolate_pos_encoding`
 */
export const METHODS: Readonly<Record<ResizeMethod, Method>> = {
  unilm: {
    what: 'geometric spacing and cubic spline; absolute positions bicubic',
    table: geometricCubic,
    position: bicubic,
    targets: 'square',
    sources: 'square',
    leastWindow: Math.ceil((LEAST_POINTS + 1) / 2),
  },
  timm: {
    what: 'geometric spacing, linear; absolute positions bicubic, antialiased',
    table: geometricLinear,
    position: bicubicAntialiased,
    targets: 'any',
    sources: 'square',
    leastWindow: 1,
  },
  'timm-simple': {
    what: 'bicubic',
    table: bicubic,
    position: bicubic,
    targets: 'any',
    sources: 'square',
    leastWindow: 1,
  },
  transformers: {
    what: 'bilinear; absolute positions bicubic',
    table: bilinear,
    position: bicubic,
    targets: 'any',
    sources: 'any',
    leastWindow: 1,
  },
  beit2: {
    what: 'absolute positions bicubic, scaled by (patches + 0.1) / patches',
    position: (from, to) => bicubicScaled(from, to, from / (to + 0.1)),
    targets: 'any',
    sources: 'square',
    leastWindow: 1,
  },
};

export interface Task {
  /** windows in patches */
  readonly from: readonly [number, number];
  readonly to: readonly [number, number];
  readonly tables: boolean;
  readonly positions: boolean;
}

/** @returns why the method cannot, one clause; `undefined` if it can */
function obstacle(name: ResizeMethod, { from, to, tables, positions }: Task): string | undefined {
  const { table, targets, sources, leastWindow } = METHODS[name];
  if (!tables && !positions) return undefined;
  if (tables && !table) return 'it knows absolute positions only, and this model has relative ones';
  if (sources === 'square' && from[0] !== from[1]) return 'it takes every source for square';
  if (targets === 'square' && to[0] !== to[1]) return 'it knows square images only';
  if (tables && from[0] < leastWindow) {
    return `a cubic spline needs ${LEAST_POINTS} points, and a window of ${from.join('×')} patches gives ${2 * from[0] - 1}`;
  }
  return undefined;
}

/** @throws UsageError that says why the method cannot do it and which ones can */
export function requireMethod(name: ResizeMethod, task: Task): Method {
  const why = obstacle(name, task);
  if (why === undefined) return METHODS[name];
  const able = RESIZE_METHODS.filter((other) => obstacle(other, task) === undefined);
  throw new UsageError(
    `${name} cannot resize from ${task.from.join('×')} to ${task.to.join('×')} patches: ${why}`,
    { next: `Methods that can: ${able.map((other) => `--resize ${other}`).join(', ')}.` },
  );
}
