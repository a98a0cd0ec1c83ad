/**
 * Class names from files: one per line, a JSON array, a JSON object id → name, or the
 * `config.json` of transformers or timm.
 */
import { InputError, printable } from './errors.js';
import { fieldsOf } from './preprocessing-routes.js';

/** The usual ImageNet-22k list has names that no picture has: official 22k heads do without these two. */
const FULL_22K = 21_843;
const UNUSED_22K: readonly number[] = [9_205, 15_027];

/**
 * Names in order of their ids.
 *
 * The ids must be 0, 1, 2, …; one list is known to have gaps: ImageNet-22k without the ids 9205 and 15027 (as
 * transformers' converter leaves it), whose later names move up to fit a head of 21,841 classes.
 *
 * @throws InputError if an id is missing
 * @see transformers `models/beit/convert_beit_unilm_to_pytorch.py`
 */
export function labelsById(byId: ReadonlyMap<string, string>, file: string): readonly string[] {
  const without =
    byId.size === FULL_22K - UNUSED_22K.length && UNUSED_22K.every((id) => !byId.has(String(id)))
      ? UNUSED_22K
      : [];
  const labels: string[] = [];
  for (let id = 0; labels.length < byId.size; id++) {
    if (without.includes(id)) continue;
    const label = byId.get(String(id));
    if (label === undefined) {
      throw new InputError(`${file}: there are ${byId.size} class names, but none for id "${id}"`);
    }
    labels.push(label);
  }
  return labels;
}

/** What transformers writes where nobody gave names. */
export function isPlaceholder(label: string, id: number): boolean {
  return label === `LABEL_${id}`;
}

/** The full ImageNet-22k list for a head of 21,841 classes: the two unused names go. Any other list as it is. */
export function fitLabels(labels: readonly string[], classes: number): readonly string[] {
  if (labels.length !== FULL_22K || classes !== FULL_22K - UNUSED_22K.length) return labels;
  return labels.filter((_, id) => !UNUSED_22K.includes(id));
}

/**
 * @param text of the file; a byte order mark is allowed
 * @param file its name, for messages
 * @throws InputError if there are no names in it
 */
export function parseLabels(text: string, file: string): readonly string[] {
  const plain = text.replace(/^\ufeff/, '');
  const labels = /^\s*[[{]/.test(plain) ? fromJson(plain, file) : fromLines(plain);
  if (labels.length === 0) throw new InputError(`${file} holds no class names`);
  return labels;
}

/** An empty line inside the list is a class without a name; at the end it is nothing. */
function fromLines(text: string): readonly string[] {
  const body = text.trimEnd();
  return body === '' ? [] : body.split(/\r?\n/).map((line) => line.trim());
}

function fromJson(text: string, file: string): readonly string[] {
  let root: unknown;
  try {
    root = JSON.parse(text);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new InputError(`${file} is no valid JSON: ${printable(why)}`, { cause });
  }
  if (Array.isArray(root)) {
    const odd = root.findIndex((name) => typeof name !== 'string');
    if (odd >= 0) throw new InputError(`${file}: name ${odd} is no string`);
    return root as string[];
  }
  const object = fieldsOf(root);
  if (!object) throw new InputError(`${file} must hold an array or an object of names`);
  const timm = object.get('label_names');
  if (Array.isArray(timm)) return fromJson(JSON.stringify(timm), file);
  const names = fieldsOf(object.get('id2label')) ?? object;
  for (const [id, name] of names) {
    if (!/^\d+$/.test(id) || typeof name !== 'string') {
      throw new InputError(
        `${file}: "${printable(id, 40)}" is no class id with a name; needed is {"0": "first class", …}`,
      );
    }
  }
  return labelsById(names as ReadonlyMap<string, string>, file);
}
