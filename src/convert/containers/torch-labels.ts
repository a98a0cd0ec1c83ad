/**
 * Class names in the `meta` of an OpenMMLab checkpoint: `meta.dataset_meta.classes`, `meta.CLASSES`.
 *
 * @see mmengine `runner/runner.py` (`save_checkpoint`); mmcls `tools/train.py` (`checkpoint_config.meta`)
 */
import { PyDict, PyList, PyTuple, type Value } from './pickle-values.js';

const MAX_LABELS = 100_000;

/** Plain strings only, or nothing. */
export function labelsOf(root: Value): readonly string[] | undefined {
  const meta = field(root, 'meta');
  const dataset = field(meta, 'dataset_meta');
  const candidates = [field(dataset, 'classes'), field(dataset, 'CLASSES'), field(meta, 'CLASSES')];
  for (const found of candidates) {
    if (!(found instanceof PyList || found instanceof PyTuple)) continue;
    const items: readonly Value[] = found.items;
    if (items.length === 0 || items.length > MAX_LABELS) continue;
    if (items.every((item) => typeof item === 'string')) return items;
  }
  return undefined;
}

function field(value: Value | undefined, name: string): Value | undefined {
  return value instanceof PyDict ? value.entries.get(name) : undefined;
}
