/** PyTorch files from a description, in both forms; `fixtures/ledger-torch.json` is made of these. */
import { dtype as dtypeRow } from '../../src/dtype.js';
import { assemble, tensorLines } from './pickle-recipe.js';
import { tensorBytes, TINY, type TensorRecipe } from './recipe.js';
import { zipBytes, type ZipEnd, type ZipRecord } from './zip-recipe.js';

export interface TorchRecipe {
  /** `zip` by default */
  readonly form?: 'zip' | 'legacy';
  /** lines of `data.pkl` (zip) or of the object (legacy); {@link STATE} by default */
  readonly pickle?: readonly string[];
  /** the storages of the whole tiny model, as {@link tinyLines} names them */
  readonly tiny?: boolean;
  /** key → bytes, all zero */
  readonly storages?: Readonly<Record<string, number>>;
  readonly root?: string;
  /** further records of the zip: path below the root → text */
  readonly records?: Readonly<Record<string, string>>;
  /** changes of a record of the zip, by its path below the root */
  readonly edit?: Readonly<Record<string, Omit<ZipRecord, 'name' | 'content'>>>;
  readonly deflate?: boolean;
  readonly drop?: readonly string[];
  readonly end?: ZipEnd;
  /** legacy: lines of the pickles before and behind the object; counts of elements */
  readonly magic?: readonly string[];
  readonly protocol?: readonly string[];
  readonly system?: readonly string[];
  readonly keys?: readonly string[];
  readonly counts?: Readonly<Record<string, string>>;
}

const MAGIC = ['PROTO 2', 'LONG1 6cfc9c46f9206aa85019', 'STOP'];
const PROTOCOL = ['PROTO 2', 'BININT2 1001', 'STOP'];
const SYSTEM = ['PROTO 2', 'EMPTY_DICT', 'STR little_endian', 'NEWTRUE', 'SETITEM', 'STOP'];

/** Items of the tiny model's state dict; storage i is tensor i. */
export function tinyLines(tensors: ReadonlyMap<string, TensorRecipe> = TINY): string[] {
  return [...tensors].flatMap(([name, { dtype = 'F32', shape }], i) => {
    const { torchStorage } = dtypeRow(dtype);
    return tensorLines(
      name,
      String(i),
      torchStorage!,
      shape.reduce((all, side) => all * side, 1),
      shape,
    );
  });
}

/** `{"model": {…tiny…}}`, with `before` and `after` it. */
export function stateLines(
  before: readonly string[] = [],
  after: readonly string[] = [],
  nest = 'model',
): string[] {
  return [
    ...['PROTO 2', 'EMPTY_DICT', ...before, `STR ${nest}`, 'EMPTY_DICT', 'MARK', ...tinyLines(), 'SETITEMS'],
    ...['SETITEM', ...after, 'STOP'],
  ];
}

/** `TINY` stands for the items of the tiny model. */
function lines(recipe: TorchRecipe): readonly string[] {
  return recipe.pickle?.flatMap((line) => (line === 'TINY' ? tinyLines() : [line])) ?? stateLines();
}

function storages({ tiny = true, storages: more = {} }: TorchRecipe): Map<string, Uint8Array> {
  const out = new Map<string, Uint8Array>();
  if (tiny) for (const [i, tensor] of [...TINY.values()].entries()) out.set(String(i), tensorBytes(tensor));
  for (const [key, bytes] of Object.entries(more)) out.set(key, new Uint8Array(bytes));
  return out;
}

export function torchBytes(recipe: TorchRecipe): Buffer {
  return recipe.form === 'legacy' ? legacyBytes(recipe) : zipForm(recipe);
}

function zipForm(recipe: TorchRecipe): Buffer {
  const { root = 'archive', records = {}, edit = {}, drop = [], deflate = false } = recipe;
  const paths = new Map<string, Uint8Array>([['data.pkl', assemble(lines(recipe))]]);
  for (const [key, bytes] of storages(recipe)) paths.set(`data/${key}`, bytes);
  for (const [path, text] of Object.entries({ version: '3\n', ...records }))
    paths.set(path, Buffer.from(text));
  const all = [...paths]
    .filter(([path]) => !drop.includes(path))
    .map(([path, content]): ZipRecord => {
      const name = root === '' ? path : `${root}/${path}`;
      return { name, content, ...(deflate && { method: 8 }), ...edit[path] };
    });
  return zipBytes(all, recipe.end);
}

function legacyBytes(recipe: TorchRecipe): Buffer {
  const { magic = MAGIC, protocol = PROTOCOL, system = SYSTEM, counts = {} } = recipe;
  const content = storages(recipe);
  const keys = recipe.keys ?? [
    ...['PROTO 2', 'EMPTY_LIST', 'MARK'],
    ...[...content.keys()].map((key) => `STR ${key}`),
    ...['APPENDS', 'STOP'],
  ];
  const width = (key: string): number => {
    const tensor = [...TINY.values()][Number(key)] as TensorRecipe | undefined;
    return dtypeRow(tensor?.dtype ?? 'F32').bytes;
  };
  return Buffer.concat([
    ...[magic, protocol, system, lines(recipe), keys].map((pickle) => assemble(pickle)),
    ...[...content].flatMap(([key, bytes]) => {
      const count = Buffer.alloc(8);
      count.writeBigInt64LE(BigInt(counts[key] ?? bytes.length / width(key)));
      return [count, bytes];
    }),
  ]);
}
