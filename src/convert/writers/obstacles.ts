/**
 * What keeps a model from being written in a layout: tensors without a name there, and things its code cannot compute.
 */
import { SHARED_TABLE, TABLE, type BeitConfig } from '../../beit.js';
import type { StateDict } from '../../tensor.js';
import { claim, type Layout } from '../layout.js';

export interface Obstacle {
  /** canonical */
  readonly names: readonly string[];
  /** completes “<layout> cannot express <names> (…)” */
  readonly why: string;
  /** may the tensors be left out? Not where the rest would still be computed wrongly. */
  readonly droppable: boolean;
}

/** Names that some layout has no place for, and why; the first pattern that fits is said. */
const HOMELESS: readonly (readonly [pattern: RegExp, layout: string | undefined, why: string])[] = [
  [/\.attn\.qkv\.bias$/, undefined, 'its k never has a bias, this model was built with bias=True'],
  [/^(neck|head)\.cls_pt_/, 'mmpretrain', 'it has one norm and one head for both outputs of pre-training'],
  [/^neck\.|^head\.cls_pt_/, undefined, 'it has no second output in pre-training'],
  [/^backbone\.mask_token$|^head\.cls_head\./, undefined, 'it has no pre-training models'],
  [/^decode_head\.|^auxiliary_head\.|\.fpn\d\./, undefined, 'it has no segmentation models'],
];

/** Everything that stands in the way, in the model's order. */
export function obstacles(config: BeitConfig, tensors: StateDict, layout: Layout): Obstacle[] {
  return [...homeless([...tensors.keys()], layout), ...notComputed(config, tensors, layout)];
}

function homeless(names: readonly string[], layout: Layout): Obstacle[] {
  // As invertLayout chooses: the table that knows most of the names, of equals the first.
  const unknown = layout.tables
    .map((table) => names.filter((name) => !claim(table, name, 'canonical')))
    .reduce((best, next) => (next.length < best.length ? next : best));
  const byReason = new Map<string, string[]>();
  for (const name of unknown) {
    const why =
      HOMELESS.find(([pattern, only]) => pattern.test(name) && (only ?? layout.name) === layout.name)?.[2] ??
      'it has no name for it';
    byReason.set(why, [...(byReason.get(why) ?? []), name]);
  }
  return [...byReason].map(([why, found]) => ({ names: found, why, droppable: true }));
}

/** What has a name, but another meaning or none in the target's code. */
function notComputed(config: BeitConfig, tensors: StateDict, layout: Layout): Obstacle[] {
  if (layout.name === 'mmpretrain') return [];
  const out: Obstacle[] = [];
  const named = (fits: (name: string) => boolean): string[] => [...tensors.keys()].filter(fits);
  if (!config.classToken) {
    out.push({
      names: ['backbone.cls_token'],
      why: 'it always has one, this model was built with with_cls_token=False',
      droppable: false,
    });
  }
  if (config.tokenNorm && config.pooledNorm) {
    out.push({
      names: named((name) => name.startsWith('backbone.ln1.')),
      why: 'where it averages the patch tokens it has no norm before that',
      droppable: true,
    });
  }
  const [height, width] = config.window;
  if (layout.name === 'transformers' && height !== width) {
    const tables = named((name) => name === SHARED_TABLE || name.endsWith(`.${TABLE}`));
    const why = `it swaps the sides of a window that is not square, this one has ${height}×${width} patches`;
    // @see transformers `models/beit/modeling_beit.py` `BeitRelativePositionBias.forward`: reshape to (width, height)
    if (tables.length > 0) out.push({ names: tables, why, droppable: false });
  }
  return out;
}
