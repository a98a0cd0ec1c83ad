/**
 * Layouts at work: which one a file has, its tensors under canonical names, and back.
 */
import { LayoutError, ShapeError, listNames, printable } from '../errors.js';
import type { StateDict, Tensor } from '../tensor.js';
import { grouped } from './checkpoint.js';
import { bystanderOf, claim, namesOf, type Layout, type Op, type Rule, type Table } from './layout-table.js';

export {
  buffer,
  bystanderOf,
  claim,
  namesOf,
  same,
  sourceNameOf,
  stacked,
  weight,
  type Bystander,
  type Claim,
  type Layout,
  type Op,
  type Role,
  type Rule,
  type Table,
} from './layout-table.js';

export interface AppliedLayout {
  readonly layout: Layout;
  readonly table: Table;
  /** weights by canonical name */
  readonly tensors: StateDict;
  /** canonical name → name(s) in the file, ` + ` between several */
  readonly sourceNames: ReadonlyMap<string, string>;
  /** buffers by the file's name */
  readonly buffers: StateDict;
  /** canonical name → the file's name, of every buffer */
  readonly bufferNames: ReadonlyMap<string, string>;
  /** stripped from every name of the file, `''` when there is none */
  readonly prefix: string;
  /** names of the file that were not read, by what they are */
  readonly leftOut: ReadonlyMap<string, readonly string[]>;
}

/** What DataParallel, a Lightning module and torch.compile put before every name; nested when wrapped twice. */
const WRAPPERS = ['module.', 'model.', '_orig_mod.'] as const;

/** The wrapper prefix that every name carries, `''` when there is none. */
export function wrapperPrefix(names: Iterable<string>): string {
  const all = [...names];
  if (all.length === 0) return '';
  let prefix = '';
  for (;;) {
    const next = WRAPPERS.find((wrapper) => all.every((name) => name.startsWith(prefix + wrapper)));
    if (next === undefined) return prefix;
    prefix += next;
  }
}

/** The table of a layout that knows most of these names (without prefix). */
function bestTable(
  layout: Layout,
  names: readonly string[],
  side: 'source' | 'canonical',
): { table: Table; known: number } {
  const scored = layout.tables.map((table) => ({
    table,
    known: names.filter((name) => claim(table, name, side) ?? (side === 'source' && bystanderOf(table, name)))
      .length,
  }));
  return scored.reduce((best, next) => (next.known > best.known ? next : best));
}

/** The layout and table that know most of these names; of equals the first. */
export function detectLayout(
  layouts: readonly Layout[],
  tensors: StateDict,
): { layout: Layout; table: Table; known: number } {
  const prefix = wrapperPrefix(tensors.keys());
  const names = [...tensors.keys()].map((name) => name.slice(prefix.length));
  const scored = layouts.map((layout) => ({ layout, ...bestTable(layout, names, 'source') }));
  return scored.reduce((best, next) => (next.known > best.known ? next : best));
}

/** Names of one rule and layer, gathered until all are there. */
interface Group {
  readonly rule: Rule;
  readonly layer: string | undefined;
  readonly tensors: (Tensor | undefined)[];
}

/**
 * Translate a file's tensors to canonical names. Every tensor is claimed by exactly one rule, or it is an error.
 *
 * @throws LayoutError for unknown names, for half of a rule's tensors, or when two names mean the same tensor
 */
export function applyLayout(layout: Layout, tensors: StateDict): AppliedLayout {
  const prefix = wrapperPrefix(tensors.keys());
  const names = [...tensors.keys()].map((name) => name.slice(prefix.length));
  const { table } = bestTable(layout, names, 'source');
  const { groups, unknown, leftOut } = gather(table, tensors, 'source', prefix);
  if (unknown.length > 0) {
    throw unknownNames(layout, unknown, tensors.size, isMixed(layout, unknown, prefix));
  }

  const weights = new Map<string, Tensor>();
  const sourceNames = new Map<string, string>();
  const buffers = new Map<string, Tensor>();
  const bufferNames = new Map<string, string>();
  for (const { rule, layer, tensors: found } of groups) {
    const sources = namesOf(rule, 'source', layer).map((name) => prefix + name);
    const together = sources.join(' + ');
    const results = operate(rule.op, 'forward', complete(found, sources, together), together);
    for (const [i, canonical] of namesOf(rule, 'canonical', layer).entries()) {
      const other = sourceNames.get(canonical) ?? bufferNames.get(canonical);
      if (other !== undefined) {
        throw new LayoutError(
          `${printable(other)} and ${printable(together)} are the same tensor (${canonical})`,
        );
      }
      if (rule.role === 'weight') {
        weights.set(canonical, results[i]);
        sourceNames.set(canonical, together);
      } else {
        buffers.set(sources[i], found[i]!);
        bufferNames.set(canonical, sources[i]);
      }
    }
  }
  return { layout, table, tensors: weights, sourceNames, buffers, bufferNames, prefix, leftOut };
}

/**
 * Translate canonical tensors (weights, and buffers if wanted) to a layout's own names: the inverse of
 * {@link applyLayout} for files without a prefix.
 *
 * @param table the first one that knows all names by default; another one to write, say, a bare backbone
 * @throws LayoutError for a canonical tensor that this layout has no name for
 */
export function invertLayout(
  layout: Layout,
  canonical: StateDict,
  table: Table = bestTable(layout, [...canonical.keys()], 'canonical').table,
): StateDict {
  const { groups, unknown } = gather(table, canonical, 'canonical', '');
  if (unknown.length > 0) {
    throw new LayoutError(`the ${layout.name} layout has no name for ${listNames(unknown)}`);
  }
  const out = new Map<string, Tensor>();
  for (const { rule, layer, tensors } of groups) {
    const names = namesOf(rule, 'canonical', layer);
    const together = names.join(' + ');
    const results = operate(rule.op, 'backward', complete(tensors, names, together), together);
    for (const [i, name] of namesOf(rule, 'source', layer).entries()) out.set(name, results[i]);
  }
  return out;
}

function gather(
  table: Table,
  tensors: StateDict,
  side: 'source' | 'canonical',
  prefix: string,
): { groups: Iterable<Group>; unknown: string[]; leftOut: Map<string, string[]> } {
  const groups = new Map<string, Group>();
  const unknown: string[] = [];
  const leftOut = new Map<string, string[]>();
  for (const [name, tensor] of tensors) {
    const bare = name.slice(prefix.length);
    const claimed = claim(table, bare, side);
    if (!claimed) {
      const what = side === 'source' ? bystanderOf(table, bare) : undefined;
      if (what === undefined) unknown.push(name);
      else leftOut.set(what, [...(leftOut.get(what) ?? []), name]);
      continue;
    }
    const { rule, layer, position } = claimed;
    const key = `${table.rules.indexOf(rule)} ${layer ?? ''}`;
    let group = groups.get(key);
    if (!group) groups.set(key, (group = { rule, layer, tensors: rule[side].map(() => undefined) }));
    group.tensors[position] = tensor;
  }
  return { groups: groups.values(), unknown, leftOut };
}

/** An op sees no names; its error gets them here. */
function operate(
  op: Op,
  direction: 'forward' | 'backward',
  tensors: readonly Tensor[],
  names: string,
): readonly Tensor[] {
  try {
    return op[direction](tensors);
  } catch (error) {
    if (!(error instanceof ShapeError)) throw error;
    throw new ShapeError(`${printable(names, 400)}: ${error.message}`, { cause: error });
  }
}

function complete(
  found: readonly (Tensor | undefined)[],
  names: readonly string[],
  together: string,
): Tensor[] {
  const missing = names.filter((_, i) => found[i] === undefined);
  if (missing.length > 0) {
    throw new LayoutError(`${listNames(missing)} is missing; ${printable(together, 400)} belong together`);
  }
  return found as Tensor[];
}

/** Are all of these names known, only not in one model together with the others? */
function isMixed(layout: Layout, unknown: readonly string[], prefix: string): boolean {
  return unknown.every((name) => layout.tables.some((table) => claim(table, name.slice(prefix.length))));
}

function unknownNames(
  layout: Layout,
  unknown: readonly string[],
  total: number,
  mixed: boolean,
): LayoutError {
  const wrapper = WRAPPERS.find((prefix) => unknown.some((name) => name.startsWith(prefix)));
  const wrapped = wrapper === undefined ? 0 : unknown.filter((name) => name.startsWith(wrapper)).length;
  const padded = unknown.filter((name) => /\.0\d+\./.test(name)).length;
  if (mixed) {
    return new LayoutError(
      `${listNames(unknown)} and the other tensors of the file belong to different kinds of model in the ${layout.name} layout`,
      { next: 'Run convert-beit inspect on the file to see what it holds: it may be two models in one.' },
    );
  }
  const why =
    wrapped > 0
      ? `: ${grouped(wrapped)} of them start with "${wrapper}", the other tensors of the file don't`
      : padded > 0
        ? ': layer numbers must have no leading zeros'
        : '';
  return new LayoutError(
    `${grouped(unknown.length)} of ${grouped(total)} tensors ${unknown.length === 1 ? 'is' : 'are'} unknown to the ${layout.name} layout (${listNames(unknown)})${why}`,
    { next: 'Run convert-beit inspect on the file to see what it holds; no tensor is left out silently.' },
  );
}
