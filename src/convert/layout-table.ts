/**
 * A layout is a table of names: each rule says what a file calls some tensors and what we call them. Read forward it
 * converts a checkpoint, read backward it writes one.
 */
import { concatRows, splitRows } from '../tensor-rows.js';
import { ShapeError } from '../errors.js';
import { describeTensor, type Tensor } from '../tensor.js';

/** Maps tensors, never sees names. Lazy: nothing is read. */
export interface Op {
  readonly name: string;
  /** one tensor per source name of the rule → one per canonical name */
  forward(sources: readonly Tensor[]): readonly Tensor[];
  /** the exact inverse of {@link forward} */
  backward(canonical: readonly Tensor[]): readonly Tensor[];
}

/** The tensors as they are, in the same order. */
export const same: Op = {
  name: 'same',
  forward: (sources) => sources,
  backward: (canonical) => canonical,
};

/** Several matrices one below the other, of equally many rows each: q, k and v to qkv. A bijection. */
export function stacked(count: number): Op {
  return {
    name: `stacked ${count}`,
    forward: (sources) => {
      // Heights that differ may still add up to the right one.
      if (new Set(sources.map(describeTensor)).size > 1) {
        throw new ShapeError(`${sources.map(describeTensor).join(', ')} must be of one dtype and shape`);
      }
      return [concatRows(sources)];
    },
    backward: ([whole]) => splitRows(whole, count),
  };
}

/** `buffer`: no weight but a function of the config (an index); checked, then rebuilt. */
export type Role = 'weight' | 'buffer';

/** Names may hold one placeholder `{layer}` between dots: a decimal number without leading zeros. */
export interface Rule {
  readonly source: readonly string[];
  readonly canonical: readonly string[];
  readonly op: Op;
  readonly role: Role;
}

/** Names that a framework's files hold beside the model: not read, and said. */
export interface Bystander {
  /** what the names start with */
  readonly prefix: string;
  /** what they are: “the target generator of the training run” */
  readonly what: string;
}

/** One consistent set of names. A layout has several where one name means different things in different models. */
export interface Table {
  readonly rules: readonly Rule[];
  readonly bystanders?: readonly Bystander[];
}

export interface Layout {
  readonly name: string;
  /** the first one that knows most of the names is taken, in both directions */
  readonly tables: readonly Table[];
  /** are index buffers part of this framework's own files? They are read in any case. */
  readonly storesIndex: boolean;
}

/** A row of a table: one tensor, unchanged. */
export function weight(source: string, canonical: string): Rule {
  return { source: [source], canonical: [canonical], op: same, role: 'weight' };
}

/** A row of a table: an index buffer. */
export function buffer(source: string, canonical: string): Rule {
  return { source: [source], canonical: [canonical], op: same, role: 'buffer' };
}

const PLACEHOLDER = '{layer}';
const LAYER_NUMBER = /^(0|[1-9]\d{0,5})$/;

export interface Claim {
  readonly rule: Rule;
  /** which of the rule's names on the asked side */
  readonly position: number;
  /** number that stands for `{layer}`, `undefined` for names without it */
  readonly layer: string | undefined;
}

/** Where a pattern stands in a table. */
interface Place {
  readonly rule: Rule;
  readonly position: number;
  /** rules above it win */
  readonly row: number;
}

/** One side of a table, to look names up in. */
interface Index {
  readonly names: Map<string, Place>;
  /** names with a placeholder */
  readonly patterns: Map<string, Place>;
  /** the most parts between dots that a pattern has: hostile names have more */
  parts: number;
}

/** A file's names are looked up in every table of every layout to see whose they are: a table is read once. */
const indices = new WeakMap<Table, Record<'source' | 'canonical', Index>>();

function indexOf(table: Table, side: 'source' | 'canonical'): Index {
  let both = indices.get(table);
  if (!both)
    indices.set(table, (both = { source: index(table, 'source'), canonical: index(table, 'canonical') }));
  return both[side];
}

function index(table: Table, side: 'source' | 'canonical'): Index {
  const found: Index = { names: new Map(), patterns: new Map(), parts: 0 };
  for (const [row, rule] of table.rules.entries()) {
    for (const [position, name] of rule[side].entries()) {
      const parts = name.split('.');
      const places = parts.includes(PLACEHOLDER) ? found.patterns : found.names;
      if (!places.has(name)) places.set(name, { rule, position, row });
      found.parts = Math.max(found.parts, parts.length);
    }
  }
  return found;
}

/** The rule that knows this name (without prefix). */
export function claim(
  table: Table,
  name: string,
  side: 'source' | 'canonical' = 'source',
): Claim | undefined {
  const { names, patterns, parts: most } = indexOf(table, side);
  let best = names.get(name);
  let layer: string | undefined;
  const parts = name.split('.', most + 1);
  if (parts.length > most) return undefined;
  for (const [i, part] of parts.entries()) {
    if (!LAYER_NUMBER.test(part)) continue;
    const place = patterns.get(parts.with(i, PLACEHOLDER).join('.'));
    if (place && (!best || place.row < best.row)) [best, layer] = [place, part];
  }
  return best && { rule: best.rule, position: best.position, layer };
}

/** A rule's names on one side, for one layer. */
export function namesOf(rule: Rule, side: 'source' | 'canonical', layer: string | undefined): string[] {
  return rule[side].map((pattern) => (layer === undefined ? pattern : pattern.replace(PLACEHOLDER, layer)));
}

/** What files of this table call a canonical tensor; the canonical name itself where they have none. */
export function sourceNameOf(table: Table, canonical: string, prefix = ''): string {
  const claimed = claim(table, canonical, 'canonical');
  if (!claimed) return canonical;
  return namesOf(claimed.rule, 'source', claimed.layer)
    .map((name) => prefix + name)
    .join(' + ');
}

/** What a name is, when it belongs to no model. */
export function bystanderOf(table: Table, name: string): string | undefined {
  return table.bystanders?.find(({ prefix }) => name.startsWith(prefix))?.what;
}
