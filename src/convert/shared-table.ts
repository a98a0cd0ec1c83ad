/**
 * One relative position bias table for all blocks → one per block.
 */
import { inventory } from '../beit.js';
import { LayoutError } from '../errors.js';
import type { BeitModel } from '../model.js';
import type { Tensor } from '../tensor.js';

const TABLE = 'relative_position_bias_table';
const SHARED = `backbone.rel_pos_bias.${TABLE}`;

/**
 * Give every block the shared table as its own. The same network: the bytes are the same in every block.
 *
 * @returns the model itself when it has no shared table
 * @throws LayoutError if the blocks have tables of their own too (upstream adds both; a sum would be a new weight)
 * @see unilm `beit/run_class_finetuning.py` (`Expand the shared relative position embedding`)
 */
export function spreadSharedTable(model: BeitModel): BeitModel {
  const { config } = model;
  if (!config.sharedRelativePosition) return model;
  const sharedName = model.sourceNames.get(SHARED)!;
  if (config.relativePosition) {
    throw new LayoutError(`${sharedName} cannot be spread: every block has a table of its own as well`, {
      next: 'Keep it shared (the default).',
    });
  }
  const spread = { ...config, sharedRelativePosition: false, relativePosition: true };
  const tensors = new Map<string, Tensor>();
  const sourceNames = new Map<string, string>();
  for (const canonical of inventory(spread).keys()) {
    const from = canonical.endsWith(`.attn.${TABLE}`) ? SHARED : canonical;
    tensors.set(canonical, model.tensors.get(from)!);
    sourceNames.set(canonical, model.sourceNames.get(from)!);
  }
  return {
    ...model,
    config: spread,
    tensors,
    sourceNames,
    notes: [...model.notes, `the shared table ${sharedName} is copied to all ${config.depth} blocks`],
  };
}
