/**
 * Where in a checkpoint the weights are, and what else it holds.
 *
 * @see unilm `beit/utils.py` (`save_model`: model, model_ema, optimizer, args), `beit2/run_class_finetuning.py`
 *   (`--model_key model|module`); mmengine `runner/runner.py` (`save_checkpoint`: meta, state_dict),
 *   `hooks/ema_hook.py` (ema_state_dict); timm `utils/checkpoint_saver.py` (state_dict, state_dict_ema)
 */
import { FormatError, InputError, listNames, printable } from '../../errors.js';
import { grouped, type ContentEntry, type OpenOptions } from '../checkpoint.js';
import { describeValue, holdsTensor, kindOf } from './pickle-print.js';
import { GlobalRef, Inert, PyDict, TensorValue, isInert, type Value } from './pickle-values.js';

/** In this order: the first that holds tensors is taken. */
const NESTS = ['model', 'module', 'state_dict'] as const;
const EMA_NESTS = ['ema_state_dict', 'model_ema', 'state_dict_ema'] as const;
/** An average may be wrapped as its model was. */
const MAX_NESTS = 3;
const MOST_ENTRIES = 50;

export interface FoundWeights {
  /** dotted path of the dict; `''` for the top level itself */
  readonly path: string;
  readonly tensors: ReadonlyMap<string, TensorValue>;
  /** entries of the top level (and of the dict) that are not the weights */
  readonly entries: readonly ContentEntry[];
  readonly notes: readonly string[];
}

interface Place {
  readonly path: string;
  readonly dict: PyDict;
}

/**
 * @param file what the checkpoint is called in messages
 * @throws InputError that names the top-level keys when there are no weights, or says which weight was not built
 */
export function findWeights(root: Value, file: string, options: OpenOptions): FoundWeights {
  const notes: string[] = [];
  const place = choose(root, file, options, notes);
  const tensors = new Map<string, TensorValue>();
  const others: ContentEntry[] = [];
  const prefix = place.path === '' ? '' : `${place.path}.`;
  for (const [key, value] of place.dict.entries) {
    if (typeof key === 'string' && value instanceof TensorValue) {
      tensors.set(key, value);
    } else {
      refuseUnbuilt(key, value, place, file);
      others.push({ path: prefix + label(key), what: describeEntry(value) });
    }
  }
  if (isAverage(place.path)) dropCounter(tensors, notes);
  const entries = root instanceof PyDict && place.path !== '' ? siblings(root, place) : [];
  if (others.length > 0 && place.path !== '') {
    notes.push(
      `${names(others)} in "${printable(place.path)}" ${others.length === 1 ? 'is no tensor' : 'are no tensors'}`,
    );
  }
  return { path: place.path, tensors, entries: [...entries, ...others].slice(0, MOST_ENTRIES), notes };
}

function choose(root: Value, file: string, { key, ema }: OpenOptions, notes: string[]): Place {
  if (!(root instanceof PyDict)) throw notADict(root, file);
  if (key !== undefined) return descend(at(root, key, file), key, root, file, '--key');
  if (ema === true) {
    const found = EMA_NESTS.filter((name) => root.entries.get(name) instanceof PyDict);
    if (found.length === 0) {
      throw new InputError(
        `${file} has no averaged weights: none of ${EMA_NESTS.join(', ')} among ${keys(root)}`,
        {
          next: 'Leave --ema out, or name the place with --key.',
        },
      );
    }
    const place = descend(root.entries.get(found[0])!, found[0], root, file, '--ema');
    notes.push(`the weights are the averaged ones at "${place.path}" (--ema)`);
    if (found[0] === 'ema_state_dict' && isMmengine(root)) {
      notes.push(
        'mmengine’s EMAHook swaps the two when it saves: its state_dict holds the averaged weights, ema_state_dict the last ones',
      );
    }
    return place;
  }
  const nested = NESTS.filter((name) => locate(root.entries.get(name), name) !== undefined);
  if (nested.length > 0) {
    const place = locate(root.entries.get(nested[0]), nested[0])!;
    const rest = nested.slice(1).map((name) => `"${name}"`);
    const averages = EMA_NESTS.filter((name) => root.entries.get(name) instanceof PyDict);
    notes.push(
      `the weights are those at "${place.path}"` +
        (rest.length > 0 ? `; ${rest.join(' and ')} has tensors too (--key)` : '') +
        (averages.length > 0 ? `; averaged ones are at "${averages[0]}" (--ema)` : ''),
    );
    return place;
  }
  if (tensorCount(root) > 0 || hasUnbuiltWeight(root)) return { path: '', dict: root };
  for (const name of NESTS) {
    const dict = root.entries.get(name);
    // Named as weights are, and nothing in it was built: it is refused for that.
    if (dict instanceof PyDict && [...dict.entries.values()].some(isInert)) return { path: name, dict };
  }
  throw noWeights(root, file);
}

/** The dict itself if tensors are in it, or in one that it wraps. */
function locate(value: Value | undefined, path: string): Place | undefined {
  let here = value;
  let where = path;
  for (let level = 0; level < MAX_NESTS && here instanceof PyDict; level++) {
    if (tensorCount(here) > 0 || (level === 0 && hasUnbuilt(here))) return { path: where, dict: here };
    const dict: PyDict = here;
    const inner = NESTS.find((name) => dict.entries.get(name) instanceof PyDict);
    if (inner === undefined) return undefined;
    here = dict.entries.get(inner);
    where = `${where}.${inner}`;
  }
  return undefined;
}

function descend(value: Value, path: string, root: PyDict, file: string, option: string): Place {
  const place = locate(value, path);
  if (place) return place;
  throw new InputError(
    `${file}: "${printable(path)}" (${option}) is ${describeEntry(value)}, not a dict of tensors`,
    {
      next: `The top level has ${keys(root)}.`,
    },
  );
}

/** Keys may hold dots themselves: the longest that exists is taken first. */
function at(root: PyDict, path: string, file: string): Value {
  let here: Value = root;
  const parts = path === '' ? [] : path.split('.');
  while (parts.length > 0) {
    let taken = parts.length;
    while (taken > 0 && !(here instanceof PyDict && here.entries.has(parts.slice(0, taken).join('.'))))
      taken -= 1;
    if (taken === 0 || !(here instanceof PyDict)) {
      throw new InputError(
        `${file} has nothing at "${printable(path)}" (--key): no ${printable(parts[0])} in ${kindOf(here)}`,
        {
          next: `The top level has ${keys(root)}.`,
        },
      );
    }
    here = here.entries.get(parts.splice(0, taken).join('.'))!;
  }
  return here;
}

function tensorCount(dict: PyDict): number {
  let count = 0;
  for (const [key, value] of dict.entries)
    if (typeof key === 'string' && value instanceof TensorValue) count += 1;
  return count;
}

/** Tensors that were not built are weights as well: found, and then refused. */
function hasUnbuilt(dict: PyDict): boolean {
  for (const value of dict.entries.values()) if (value instanceof Inert && isTensorLike(value)) return true;
  return false;
}

/** At the top level other things lie beside the weights (epoch, args, …); only a dotted name is a weight's. */
function hasUnbuiltWeight(dict: PyDict): boolean {
  return [...dict.entries].some(([key, value]) => isWeightName(key) && isInert(value));
}

function isWeightName(key: Value): boolean {
  return typeof key === 'string' && /^[^.]+\.(?:[^.]+\.)*[^.]+$/.test(key);
}

function isTensorLike(value: Inert): boolean {
  return /^torch\._(utils|tensor)\.|^torch\.nn\./.test(value.path) || holdsTensor(value);
}

/** Beside weights anything may lie; what stands for a weight must be one. */
function refuseUnbuilt(key: Value, value: Value, place: Place, file: string): void {
  if (!isInert(value)) return;
  if (place.path === '' && !isWeightName(key) && !(value instanceof Inert && isTensorLike(value))) return;
  const where = value instanceof Inert ? ` (byte ${value.at} of the pickle)` : '';
  const name = `${file}: "${prefixed(place.path, label(key))}"`;
  if (value instanceof Inert && value.path.startsWith('torch.') && isKnown(value)) {
    const args = value.args.map((arg) => describeValue(arg, 1)).join(', ');
    throw new FormatError(
      `${name} should be made by ${printable(value.path)}, which makes no tensor of ${printable(`(${args})`, 200)}${where}`,
    );
  }
  throw new InputError(`${name} is ${describeValue(value)}${where}`, {
    next: 'A weight must be a plain tensor. In Python: torch.save(model.state_dict(), path) writes such a file.',
  });
}

function isKnown({ callee }: Inert): boolean {
  return callee instanceof GlobalRef && callee.build !== undefined;
}

function isAverage(path: string): boolean {
  return EMA_NESTS.some((name) => path === name || path.startsWith(`${name}.`));
}

/** `AveragedModel.state_dict()` counts its updates in a tensor beside `module.*`. */
function dropCounter(tensors: Map<string, TensorValue>, notes: string[]): void {
  for (const counter of ['steps', 'n_averaged']) {
    if (tensors.get(counter)?.shape.length !== 0) continue;
    tensors.delete(counter);
    notes.push(`"${counter}" of the averaged weights counts updates: left out`);
  }
}

function isMmengine(root: PyDict): boolean {
  const ema = root.entries.get('ema_state_dict');
  return root.entries.has('state_dict') && ema instanceof PyDict && ema.entries.has('steps');
}

function siblings(root: PyDict, place: Place): ContentEntry[] {
  const entries: ContentEntry[] = [];
  for (const [key, value] of root.entries) {
    if (value !== place.dict) entries.push({ path: label(key), what: describeEntry(value) });
  }
  return entries;
}

function describeEntry(value: Value): string {
  const count = value instanceof PyDict ? tensorCount(value) : 0;
  return count > 0 ? `${grouped(count)} tensors` : printable(describeValue(value), 300);
}

function label(key: Value): string {
  return typeof key === 'string' ? printable(key) : describeValue(key);
}

function prefixed(path: string, key: string): string {
  return path === '' ? key : `${printable(path)}.${key}`;
}

function names(entries: readonly ContentEntry[]): string {
  return listNames(entries.map(({ path }) => path.split('.').at(-1) ?? path));
}

function keys(root: PyDict): string {
  return root.entries.size === 0
    ? 'nothing'
    : listNames(
        [...root.entries.keys()].map((key) => (typeof key === 'string' ? `"${label(key)}"` : label(key))),
        12,
      );
}

const SAVE_AGAIN = 'In Python: torch.save(model.state_dict(), path) writes a file of weights.';

function notADict(root: Value, file: string): InputError {
  if (root instanceof Inert && root.how === 'object') {
    return new InputError(
      `${file} holds ${printable(describeValue(root), 160)}: a whole program object, not its weights`,
      {
        next: SAVE_AGAIN,
      },
    );
  }
  return new InputError(`${file} holds ${kindOf(root)}; weights are in a dict of names and tensors`, {
    next: SAVE_AGAIN,
  });
}

/** Where dicts of tensors lie, as `--key` wants it. */
function placesOfTensors(dict: PyDict, path: string, level = 1): string[] {
  return [...dict.entries].flatMap(([key, value]) => {
    if (!(value instanceof PyDict) || typeof key !== 'string') return [];
    const place = path === '' ? key : `${path}.${key}`;
    if (tensorCount(value) > 0) return [place];
    return level < MAX_NESTS ? placesOfTensors(value, place, level + 1) : [];
  });
}

function noWeights(root: PyDict, file: string): InputError {
  const others = placesOfTensors(root, '');
  return new InputError(
    `${file} has no weights where publishers put them (${NESTS.join(', ')}, top level); its top level has ${keys(root)}`,
    {
      next:
        others.length > 0
          ? `There are tensors at ${listNames(others)}: name the place with --key.`
          : 'Give the file that was saved with the model’s weights; an optimizer’s or a trainer’s state has none.',
    },
  );
}
