/**
 * A layout is a table of names: each rule says what a file calls some tensors and what we call them. Read forward it
 * converts a checkpoint, read backward it writes one.
 */
import { LayoutError, listNames, printable } from '../errors.js';
import type { StateDict, Tensor } from '../tensor.js';
import { grouped } from './checkpoint.js';

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

/** `buffer`: no weight but a function of the config (an index); checked, then rebuilt. */
export type Role = 'weight' | 'buffer';

/** Names may hold one placeholder `{layer}`: a decimal number without leading zeros. */
export interface Rule {
  readonly source: readonly string[];
  readonly canonical: readonly string[];
  readonly op: Op;
  readonly role: Role;
}

export interface Layout {
  readonly name: string;
  readonly rules: readonly Rule[];
}

/** A row of a table: one tensor, unchanged. */
export function weight(source: string, canonical: string): Rule {
  return { source: [source], canonical: [canonical], op: same, role: 'weight' };
}

/** A row of a table: an index buffer. */
export function buffer(source: string, canonical: string): Rule {
  return { source: [source], canonical: [canonical], op: same, role: 'buffer' };
}

export interface AppliedLayout {
  readonly layout: Layout;
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
}

/** What DataParallel puts before every name; nested when a model was wrapped twice. */
const WRAPPER = 'module.';
const PLACEHOLDER = '{layer}';
const LAYER_NUMBER = /^(0|[1-9]\d{0,5})$/;

/** The wrapper prefix that every name carries, `''` when there is none. */
export function wrapperPrefix(names: Iterable<string>): string {
  const all = [...names];
  let prefix = '';
  while (all.length > 0 && all.every((name) => name.startsWith(prefix + WRAPPER))) prefix += WRAPPER;
  return prefix;
}

export interface Claim {
  readonly rule: Rule;
  /** which of the rule's names on the asked side */
  readonly position: number;
  /** number that stands for `{layer}`, `undefined` for names without it */
  readonly layer: string | undefined;
}

/** The rule that knows this name (without prefix). */
export function claim(
  layout: Layout,
  name: string,
  side: 'source' | 'canonical' = 'source',
): Claim | undefined {
  for (const rule of layout.rules) {
    for (const [position, pattern] of rule[side].entries()) {
      const at = pattern.indexOf(PLACEHOLDER);
      if (at < 0) {
        if (pattern === name) return { rule, position, layer: undefined };
        continue;
      }
      const tail = pattern.length - at - PLACEHOLDER.length;
      if (name.length <= at + tail || !name.startsWith(pattern.slice(0, at))) continue;
      if (tail > 0 && !name.endsWith(pattern.slice(-tail))) continue;
      const layer = name.slice(at, name.length - tail);
      if (LAYER_NUMBER.test(layer)) return { rule, position, layer };
    }
  }
  return undefined;
}

/** A rule's names on one side, for one layer. */
export function namesOf(rule: Rule, side: 'source' | 'canonical', layer: string | undefined): string[] {
  return rule[side].map((pattern) => (layer === undefined ? pattern : pattern.replace(PLACEHOLDER, layer)));
}

/** What this layout calls a canonical tensor; the canonical name itself where it has none. */
export function sourceNameOf(layout: Layout, canonical: string, prefix = ''): string {
  const claimed = claim(layout, canonical, 'canonical');
  if (!claimed) return canonical;
  return namesOf(claimed.rule, 'source', claimed.layer)
    .map((name) => prefix + name)
    .join(' + ');
}

/** The layout that knows most of these names, and the names it doesn't know. */
export function detectLayout(
  layouts: readonly Layout[],
  tensors: StateDict,
): { layout: Layout; known: number; unknown: readonly string[] } {
  const prefix = wrapperPrefix(tensors.keys());
  const scored = layouts.map((layout) => {
    const unknown = [...tensors.keys()].filter((name) => !claim(layout, name.slice(prefix.length)));
    return { layout, known: tensors.size - unknown.length, unknown };
  });
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
  const { groups, unknown } = gather(layout, tensors, 'source', prefix);
  if (unknown.length > 0) throw unknownNames(layout, unknown, tensors.size);

  const weights = new Map<string, Tensor>();
  const sourceNames = new Map<string, string>();
  const buffers = new Map<string, Tensor>();
  const bufferNames = new Map<string, string>();
  for (const { rule, layer, tensors: found } of groups) {
    const sources = namesOf(rule, 'source', layer).map((name) => prefix + name);
    const together = sources.join(' + ');
    const results = rule.op.forward(complete(found, sources, together));
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
  return { layout, tensors: weights, sourceNames, buffers, bufferNames, prefix };
}

/**
 * Translate canonical tensors (weights, and buffers if wanted) to a layout's own names: the inverse of
 * {@link applyLayout} for files without a prefix.
 *
 * @throws LayoutError for a canonical tensor that this layout has no name for
 */
export function invertLayout(layout: Layout, canonical: StateDict): StateDict {
  const { groups, unknown } = gather(layout, canonical, 'canonical', '');
  if (unknown.length > 0) {
    throw new LayoutError(`the ${layout.name} layout has no name for ${listNames(unknown)}`);
  }
  const out = new Map<string, Tensor>();
  for (const { rule, layer, tensors } of groups) {
    const names = namesOf(rule, 'canonical', layer);
    const results = rule.op.backward(complete(tensors, names, names.join(' + ')));
    for (const [i, name] of namesOf(rule, 'source', layer).entries()) out.set(name, results[i]);
  }
  return out;
}

function gather(
  layout: Layout,
  tensors: StateDict,
  side: 'source' | 'canonical',
  prefix: string,
): { groups: Iterable<Group>; unknown: string[] } {
  const groups = new Map<string, Group>();
  const unknown: string[] = [];
  for (const [name, tensor] of tensors) {
    const claimed = claim(layout, name.slice(prefix.length), side);
    if (!claimed) {
      unknown.push(name);
      continue;
    }
    const { rule, layer, position } = claimed;
    const key = `${layout.rules.indexOf(rule)} ${layer ?? ''}`;
    let group = groups.get(key);
    if (!group) groups.set(key, (group = { rule, layer, tensors: rule[side].map(() => undefined) }));
    group.tensors[position] = tensor;
  }
  return { groups: groups.values(), unknown };
}

function complete(
  found: readonly (Tensor | undefined)[],
  names: readonly string[],
  together: string,
): Tensor[] {
  const missing = names.filter((_, i) => found[i] === undefined);
  if (missing.length > 0) {
    throw new LayoutError(`${listNames(missing)} is missing; ${printable(together)} belong together`);
  }
  return found as Tensor[];
}

function unknownNames(layout: Layout, unknown: readonly string[], total: number): LayoutError {
  const wrapped = unknown.filter((name) => name.startsWith(WRAPPER)).length;
  const padded = unknown.filter((name) => /\.0\d+\./.test(name)).length;
  const why =
    wrapped > 0
      ? `: ${grouped(wrapped)} of them start with "${WRAPPER}", the other tensors of the file don't`
      : padded > 0
        ? ': layer numbers must have no leading zeros'
        : '';
  return new LayoutError(
    `${grouped(unknown.length)} of ${grouped(total)} tensors ${unknown.length === 1 ? 'is' : 'are'} unknown to the ${layout.name} layout (${listNames(unknown)})${why}`,
    { next: 'Run convert-beit inspect on the file to see what it holds; no tensor is left out silently.' },
  );
}
