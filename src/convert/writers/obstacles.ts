/**
 * What keeps a model from being written in a layout: tensors without a name there, and things its code cannot compute.
 */
import { SHARED_TABLE, TABLE, type BeitConfig } from '../../beit.js';
import type { StateDict } from '../../tensor.js';
import { claim, type Layout } from '../layout.js';
import { limitOf } from '../limits.js';

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
  [/^(neck|head)\.cls_pt_/, 'mmpretrain', 'it has one norm and one head for both outputs of pre-training'],
  [/^neck\.|^head\.cls_pt_/, undefined, 'it has no second output in pre-training'],
  [/^backbone\.mask_token$|^head\.cls_head\./, undefined, 'it has no pre-training models'],
  [/^decode_head\.|^auxiliary_head\.|\.fpn\d\./, undefined, 'it has no segmentation models'],
];

/**
 * Everything that stands in the way, in the model's order.
 *
 * @param keyBiases canonical names of qkv biases whose part for k is not zero, where the layout has no such part
 */
export function obstacles(
  config: BeitConfig,
  tensors: StateDict,
  layout: Layout,
  keyBiases: readonly string[],
): Obstacle[] {
  const named = [...tensors.keys()]
    .filter((name) => !(splitsBias(layout) && isQkvBias(name)))
    .map((name) => normName(name, layout));
  const why =
    'it has no bias of k; softmax does not see one, so leaving it out changes nothing but rounding, and q and v keep theirs';
  return [
    ...homeless(named, layout),
    ...notComputed(config, tensors, layout),
    ...(keyBiases.length > 0 ? [{ names: keyBiases, why, droppable: true }] : []),
  ];
}

/** Does the layout have q_bias and v_bias only? */
export function splitsBias(layout: Layout): boolean {
  return layout.name !== 'mmpretrain';
}

/**
 * The norm that both outputs of BEiT v2 pre-training share is, for a layout that knows one output only, the norm
 * behind the last block.
 */
export function normName(canonical: string, layout: Layout): string {
  const oneOutput = layout.name === 'transformers' || layout.name === 'timm';
  return oneOutput ? canonical.replace(/^neck\.norm\./, 'backbone.ln1.') : canonical;
}

/** mmpretrain `bias=True`: one bias of q, k and v. */
export function isQkvBias(canonical: string): boolean {
  return canonical.endsWith('.attn.qkv.bias');
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

/** What has a name, but no place in the target's code; or is missing, where the target cannot be without it. */
function notComputed(config: BeitConfig, tensors: StateDict, layout: Layout): Obstacle[] {
  const out: Obstacle[] = [];
  const named = (fits: (name: string) => boolean): string[] => [...tensors.keys()].filter(fits);
  const limit = limitOf(layout, config);
  if (limit && tensors.has(limit.tensor)) {
    const module = limit.tensor.slice(0, limit.tensor.lastIndexOf('.') + 1);
    out.push({ names: named((name) => name.startsWith(module)), why: limit.why, droppable: true });
  } else if (limit) {
    out.push({ names: [limit.tensor], why: limit.why, droppable: false });
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
