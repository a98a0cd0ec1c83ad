/**
 * Values of a pickle as short text, and what in it was left inert. Values may contain themselves and may be nested
 * without end: depth and number of what is shown are bounded, and nothing recurses without a bound.
 */
import { printable } from '../../errors.js';
import {
  GlobalRef,
  Inert,
  PyDict,
  PyFloat,
  PyList,
  PySet,
  PyTuple,
  StorageValue,
  TensorValue,
  TorchName,
  isInert,
  type Value,
} from './pickle-values.js';

const MAX_DEPTH = 2;
const MAX_ITEMS = 6;
/** `blocks.0.attn` of an optimizer's state: deeper paths are cut. */
const MAX_PATH = 6;
const MAX_LINE = 300;

/** `a list`, `a str`: what a value is, for messages. */
export function kindOf(value: Value): string {
  if (value === null) return 'None';
  if (typeof value === 'boolean') return 'a bool';
  if (typeof value === 'number' || typeof value === 'bigint') return 'an int';
  if (typeof value === 'string') return 'a str';
  if (value instanceof Uint8Array) return 'bytes';
  if (value instanceof PyFloat) return 'a float';
  if (value instanceof PyTuple) return `a ${value.type}`;
  if (value instanceof PyList) return 'a list';
  if (value instanceof PySet) return `a ${value.type}`;
  if (value instanceof PyDict) return value.type === 'OrderedDict' ? 'an OrderedDict' : `a ${value.type}`;
  if (value instanceof StorageValue) return 'a storage';
  if (value instanceof TensorValue) return 'a tensor';
  if (value instanceof TorchName) return value.text;
  if (value instanceof GlobalRef) return `the name ${printable(value.path)}`;
  return value.how === 'object'
    ? `an object of ${printable(value.path)}`
    : `a result of ${printable(value.path)}`;
}

/** `{epoch: 30, model: 'beit_base', … 12 more}`: one line, bounded. */
export function describeValue(value: Value, depth = 0): string {
  if (value === null) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (typeof value === 'number') return String(value);
  // Converting a thousand digits costs nothing, showing them does.
  if (typeof value === 'bigint') return printable(String(value), 24);
  if (typeof value === 'string') return `'${printable(value, 60)}'`;
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  if (value instanceof PyFloat)
    return Number.isInteger(value.value) ? `${value.value}.0` : String(value.value);
  if (value instanceof TorchName) return printable(value.text);
  if (value instanceof GlobalRef) return printable(value.path);
  if (value instanceof StorageValue) return `a storage of ${value.facts.length}`;
  if (value instanceof TensorValue) return `a tensor [${value.shape.join(', ')}]`;
  if (value instanceof Inert) return describeInert(value, depth);
  if (value instanceof PyDict) return `{${pairs([...some(value.entries)], value.entries.size, depth)}}`;
  const [open, close] =
    value instanceof PyTuple ? ['(', ')'] : value instanceof PyList ? ['[', ']'] : ['{', '}'];
  const type = value instanceof PyTuple && value.type !== 'tuple' ? value.type : '';
  return `${type}${open}${listed(value.items, depth)}${close}`;
}

/** `argparse.Namespace {epochs: 30}`; `posix.system(1 str), not called`. */
export function describeInert(value: Inert, depth = 0): string {
  const path = printable(value.path);
  if (value.how === 'persistent') return `${path}, stored outside`;
  if (depth > MAX_DEPTH) return path;
  const { state } = value;
  const fields =
    state instanceof PyDict && state.entries.size > 0
      ? ` ${describeValue(state, depth)}`
      : value.entries.length > 0
        ? ` {${pairs(value.entries.slice(0, MAX_ITEMS), value.entries.length, depth)}}`
        : '';
  if (value.how === 'object') return `${path} object${fields}`;
  const kinds = value.args.slice(0, MAX_ITEMS).map((arg) => kindOf(arg).replace(/^an? |^the /, ''));
  if (value.args.length > MAX_ITEMS) kinds.push('…');
  return `${path}(${kinds.join(', ')})${fields}, not called`;
}

function listed(items: readonly Value[], depth: number): string {
  if (depth >= MAX_DEPTH && items.length > 0) return `${items.length} items`;
  const shown = items.slice(0, MAX_ITEMS).map((item) => describeValue(item, depth + 1));
  return withRest(shown, items.length);
}

function pairs(entries: readonly (readonly [Value, Value])[], total: number, depth: number): string {
  if (depth >= MAX_DEPTH && total > 0) return `${total} items`;
  const shown = entries.map(
    ([key, value]) =>
      `${typeof key === 'string' ? printable(key, 40) : describeValue(key, depth + 1)}: ${describeValue(value, depth + 1)}`,
  );
  return withRest(shown, total);
}

function withRest(shown: readonly string[], total: number): string {
  return [...shown, ...(total > shown.length ? [`… ${total - shown.length} more`] : [])].join(', ');
}

function* some<T>(items: Iterable<T>): Iterable<T> {
  let left = MAX_ITEMS;
  for (const item of items) {
    if (left-- === 0) return;
    yield item;
  }
}

export interface Left {
  /** dotted place in the pickle */
  readonly path: string;
  /** what it is, one line */
  readonly what: string;
}

/**
 * Everything in a value that was not built, outermost first.
 *
 * @returns the first `most` of them, and how many there are
 */
export function listInert(root: Value, most = 50): { left: Left[]; total: number } {
  const left: Left[] = [];
  let total = 0;
  const seen = new Set<Value>();
  const queue: { value: Value; path: readonly string[] }[] = [{ value: root, path: [] }];
  for (const { value, path } of queue) {
    if (isInert(value)) {
      total += 1;
      if (left.length < most) {
        const what =
          value instanceof Inert
            ? printable(describeInert(value), MAX_LINE)
            : `${printable(value.path)}, a name`;
        left.push({ path: path.join('.') || '(top level)', what });
      }
    }
    for (const [key, child] of children(value)) {
      if (typeof child !== 'object' || child === null || child instanceof Uint8Array || seen.has(child))
        continue;
      seen.add(child);
      queue.push({ value: child, path: path.length < MAX_PATH ? [...path, key] : path });
    }
  }
  return { left, total };
}

/** Does anything that holds numbers outside of the pickle lie in this value? */
export function holdsTensor(root: Value): boolean {
  const seen = new Set<Value>([root]);
  for (const value of seen) {
    if (value instanceof TensorValue || value instanceof StorageValue) return true;
    for (const [, child] of children(value)) if (typeof child === 'object' && child !== null) seen.add(child);
  }
  return false;
}

function* children(value: Value): Iterable<readonly [string, Value]> {
  if (value instanceof PyDict) {
    for (const [key, item] of value.entries) {
      yield [nameOf(key), item];
      if (typeof key === 'object') yield ['(key)', key];
    }
  } else if (value instanceof PyTuple || value instanceof PyList || value instanceof PySet) {
    for (const [i, item] of value.items.entries()) yield [String(i), item];
  } else if (value instanceof Inert) {
    if (value.callee instanceof Inert) yield ['(callee)', value.callee];
    for (const [i, item] of value.args.entries()) yield [`(argument ${i})`, item];
    if (value.state instanceof PyDict) yield* children(value.state);
    else if (value.state !== undefined) yield ['(state)', value.state];
    for (const [i, item] of value.items.entries()) yield [String(i), item];
    for (const [key, item] of value.entries) yield [nameOf(key), item];
  }
}

function nameOf(key: Value): string {
  return typeof key === 'string' ? printable(key, 60) : describeValue(key, MAX_DEPTH);
}
