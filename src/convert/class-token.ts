/**
 * A model without its class token, as mmpretrain builds it from a checkpoint that has one.
 *
 * @see mmpretrain `models/backbones/vision_transformer.py` `with_cls_token=False`: the parameter is not there, and its
 *   row of `pos_embed` is left out when a checkpoint is loaded
 */
import { LayoutError, printable } from '../errors.js';
import { sliceRows } from '../tensor-rows.js';
import type { AppliedLayout } from './layout.js';

const CLASS_TOKEN = 'backbone.cls_token';
const POSITIONS = 'backbone.pos_embed';

/** @throws LayoutError for a model with relative positions, which know the class token */
export function withoutClassToken(applied: AppliedLayout, origin: string, notes: string[]): AppliedLayout {
  const tensors = new Map(applied.tensors);
  const sourceNames = new Map(applied.sourceNames);
  if (!tensors.has(CLASS_TOKEN)) return applied;
  const table = [...tensors.keys()].find((name) => name.endsWith('relative_position_bias_table'));
  if (table !== undefined) {
    throw new LayoutError(
      `${printable(sourceNames.get(table) ?? table)} has rows for the class token; ${printable(origin)} says with_cls_token is false`,
      { next: 'Only models without relative positions can do without it.' },
    );
  }
  notes.push(`the class token is left out, as ${printable(origin)} says`);
  tensors.delete(CLASS_TOKEN);
  sourceNames.delete(CLASS_TOKEN);
  const positions = tensors.get(POSITIONS);
  if (positions?.shape.length === 3 && positions.shape[0] === 1 && positions.shape[1] > 1) {
    const [, rows, width] = positions.shape;
    const patches = sliceRows({ ...positions, shape: [rows, width] }, 1, rows);
    tensors.set(POSITIONS, { ...patches, shape: [1, rows - 1, width] });
  }
  return { ...applied, tensors, sourceNames };
}
