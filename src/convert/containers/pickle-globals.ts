/**
 * The closed table: every class and function of a pickle that means something here. All others stay inert.
 *
 * A builder that is given anything unexpected answers `undefined`, which leaves the call inert as well.
 *
 * @see PyTorch `torch/_utils.py` (`_rebuild_*`), `torch/_weights_only_unpickler.py` (`_get_allowed_globals`)
 */
import { DTYPES } from '../../dtype.js';
import {
  GlobalRef,
  PyDict,
  PyFloat,
  PyList,
  PySet,
  PyTuple,
  TorchName,
  type Builder,
  type Value,
} from './pickle-values.js';
import { rebuildParameter, rebuildTensor, rebuildTensorV3 } from './torch-rebuild.js';

function itemsOf(value: Value | undefined): readonly Value[] | undefined {
  return value instanceof PyList || value instanceof PyTuple || value instanceof PySet
    ? value.items
    : undefined;
}

const set =
  (type: 'set' | 'frozenset'): Builder =>
  (args, _, charge) => {
    const items = args.length === 0 ? [] : itemsOf(args[0]);
    if (items) charge(items.length);
    return items && args.length <= 1 ? new PySet([...items], type) : undefined;
  };

const tuple =
  (type: 'tuple' | 'torch.Size'): Builder =>
  (args, _, charge) => {
    const items = args.length === 0 ? [] : itemsOf(args[0]);
    if (items) charge(items.length);
    return items && args.length <= 1 ? new PyTuple([...items], type) : undefined;
  };

/** From nothing, from a dict, or from a list of pairs. A repeated key leaves the call inert. */
const dict =
  (type: PyDict['type']): Builder =>
  (args, _, charge) => {
    const made = new PyDict(type);
    // What a defaultdict calls for a missing key is its first argument; nothing is ever missing here.
    const [content] = type === 'defaultdict' ? args.slice(1) : args;
    if (content === undefined) return made;
    if (content instanceof PyDict) {
      charge(content.entries.size);
      for (const [key, value] of content.entries) made.entries.set(key, value);
      return made;
    }
    const pairs = itemsOf(content);
    if (!pairs) return undefined;
    charge(pairs.length);
    for (const pair of pairs) {
      const items = itemsOf(pair);
      if (items?.length !== 2 || made.entries.has(items[0])) return undefined;
      made.entries.set(items[0], items[1]);
    }
    return made;
  };

const list: Builder = (args, _, charge) => {
  const items = args.length === 0 ? [] : itemsOf(args[0]);
  if (!items || args.length > 1) return undefined;
  charge(items.length);
  const made = new PyList();
  for (const item of items) made.items.push(item);
  return made;
};

const complex: Builder = (args) =>
  args.length === 2 && args.every((part) => part instanceof PyFloat)
    ? new PyTuple(args, 'complex')
    : undefined;

const device: Builder = ([type, index, ...rest]) =>
  typeof type === 'string' && (index === undefined || typeof index === 'number') && rest.length === 0
    ? new TorchName(index === undefined ? `device(${type})` : `device(${type}:${index})`)
    : undefined;

/** What one value takes in memory, about. */
const BYTES_PER_VALUE = 64;

/** Protocol 2 has no bytes: Python 3 writes them as text, one character per byte. */
const encode: Builder = ([text, encoding], _, charge) => {
  if (typeof text !== 'string' || encoding !== 'latin1') return undefined;
  charge(Math.ceil(text.length / BYTES_PER_VALUE));
  const bytes = Buffer.from(text, 'latin1');
  return bytes.toString('latin1') === text ? new Uint8Array(bytes) : undefined;
};

/** A tensor with attributes, pickled as function, class, arguments, attributes. The numbers are the function's. */
const fromType: Builder = (args, at, charge) => {
  const [make, type, inner] = args;
  if (!(make instanceof GlobalRef) || !make.path.startsWith('torch._utils._rebuild_')) return undefined;
  if (!(type instanceof GlobalRef) || !PLAIN_TENSORS.has(type.path) || !(inner instanceof PyTuple)) {
    return undefined;
  }
  return make.build?.(inner.items, at, charge);
};
const PLAIN_TENSORS: ReadonlySet<string> = new Set([
  'torch.Tensor',
  'torch._tensor.Tensor',
  'torch.nn.parameter.Parameter',
]);

const BUILTINS: readonly (readonly [string, Builder])[] = [
  ['set', set('set')],
  ['frozenset', set('frozenset')],
  ['tuple', tuple('tuple')],
  ['list', list],
  ['dict', dict('dict')],
  ['complex', complex],
];

const BUILDERS: readonly (readonly [string, Builder])[] = [
  ...BUILTINS.map(([name, build]) => [`builtins.${name}`, build] as const),
  // as protocol 2 calls them
  ...BUILTINS.map(([name, build]) => [`__builtin__.${name}`, build] as const),
  ['collections.OrderedDict', dict('OrderedDict')],
  ['collections.defaultdict', dict('defaultdict')],
  ['collections.Counter', dict('Counter')],
  ['_codecs.encode', encode],
  ['torch.Size', tuple('torch.Size')],
  ['torch.device', device],
  ['torch._utils._rebuild_tensor', rebuildTensor],
  ['torch._utils._rebuild_tensor_v2', rebuildTensor],
  ['torch._utils._rebuild_tensor_v3', rebuildTensorV3],
  ['torch._utils._rebuild_parameter', rebuildParameter],
  ['torch._utils._rebuild_parameter_with_state', rebuildParameter],
  ['torch._tensor._rebuild_from_type_v2', fromType],
];

/** Storage classes that exist and whose numbers are not read. */
const OTHER_STORAGES = ['ComplexDouble', 'QInt8', 'QUInt8', 'QInt32', 'QUInt4x2', 'QUInt2x4'];

const TABLE: ReadonlyMap<string, Pick<GlobalRef, 'build' | 'storage'>> = new Map<
  string,
  Pick<GlobalRef, 'build' | 'storage'>
>([
  ...BUILDERS.map(([path, build]) => [path, { build }] as const),
  ...[...DTYPES.values()].flatMap(({ name, torchStorage }) =>
    torchStorage === null
      ? []
      : ['torch', 'torch.cuda'].map((module) => [`${module}.${torchStorage}`, { storage: name }] as const),
  ),
  ...OTHER_STORAGES.map((name) => [`torch.${name}Storage`, { storage: null }] as const),
  ['torch.UntypedStorage', { storage: 'untyped' }],
  ['torch.storage.UntypedStorage', { storage: 'untyped' }],
  ['torch.storage._UntypedStorage', { storage: 'untyped' }],
]);

const DTYPE_NAMES: ReadonlyMap<string, TorchName> = new Map(
  [...DTYPES.values()].map(({ name, torch }) => [`torch.${torch}`, new TorchName(`torch.${torch}`, name)]),
);

/** What a name of a pickle means. Never fails: an unknown name is one without a builder. */
export function findGlobal(module: string, name: string): GlobalRef | TorchName {
  const path = `${module}.${name}`;
  const found = TABLE.get(path);
  return DTYPE_NAMES.get(path) ?? new GlobalRef(path, found?.build, found?.storage);
}
