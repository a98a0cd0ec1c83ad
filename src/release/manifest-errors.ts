/** What is wrong with a manifest, in words, with line and column. */
import { isMap, isScalar, type Document, type LineCounter, type Node, type YAMLError } from 'yaml';
import type { z } from 'zod';
import { InputError, printable } from '../errors.js';

type Path = readonly PropertyKey[];

const SHOWN = 8;

/** Turns offsets of one document into `zoo.yaml:3:11`. */
export class Places {
  readonly #document: Document;
  readonly #lines: LineCounter;
  readonly #name: string;

  /** @param name of the manifest, as messages say it */
  constructor(document: Document, lines: LineCounter, name: string) {
    this.#document = document;
    this.#lines = lines;
    this.#name = printable(name, 300);
  }

  at(offset: number): string {
    const { line, col } = this.#lines.linePos(offset);
    return `${this.#name}:${line}:${col}`;
  }

  of(path: Path): string {
    return this.at(this.offset(path));
  }

  /** Where a value begins; the nearest one around it that exists, when it is missing. */
  offset(path: Path): number {
    for (let length = path.length; length > 0; length--) {
      const node = this.#document.getIn(path.slice(0, length), true) as Node | undefined;
      if (node?.range) return node.range[0];
    }
    return this.#document.contents?.range?.[0] ?? 0;
  }

  /** Where the name of a field stands. */
  keyOffset(path: Path): number {
    const map = path.length === 1 ? this.#document.contents : this.#document.getIn(path.slice(0, -1), true);
    const keys = isMap(map) ? map.items.map(({ key }) => key) : [];
    const key = keys.find((one) => isScalar(one) && one.value === path.at(-1));
    return (isScalar(key) ? key.range?.[0] : undefined) ?? this.offset(path);
  }
}

export function yamlError(error: YAMLError, places: Places): InputError {
  const message =
    error.code === 'MULTIPLE_DOCS'
      ? 'a second document begins here; a manifest is one'
      : printable(error.message, 300);
  return new InputError(`${places.at(error.pos[0])}: ${message}`, { next: 'Correct the YAML there.' });
}

/** @param value what was checked: says what stands where something else is needed */
export function schemaError(error: z.ZodError, value: unknown, places: Places): InputError {
  const problems = error.issues.flatMap((issue) => problemsOf(issue, value, places));
  problems.sort((a, b) => a.offset - b.offset);
  const shown = problems
    .slice(0, SHOWN)
    .map(({ offset, path, message }) => `${places.at(offset)}: ${nameOf(path)}: ${printable(message, 300)}`);
  const rest = problems.length - shown.length;
  return new InputError(shown.join('\n') + (rest > 0 ? `\nand ${rest} more` : ''), {
    next: 'Correct the manifest; docs/release.md lists every field.',
  });
}

interface Problem {
  readonly offset: number;
  readonly path: Path;
  readonly message: string;
}

function problemsOf(issue: z.core.$ZodIssue, value: unknown, places: Places): Problem[] {
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => {
      const path = [...issue.path, key];
      return { offset: places.keyOffset(path), path, message: 'no such field' };
    });
  }
  const found = valueAt(value, issue.path);
  return [{ offset: places.offset(issue.path), path: issue.path, message: describe(issue, found) }];
}

function describe(issue: z.core.$ZodIssue, found: unknown): string {
  if (found === undefined) return 'it is missing';
  switch (issue.code) {
    case 'invalid_type':
      return `${needed(issue.expected)} is needed, not ${kindOf(found)}`;
    case 'invalid_value':
      return `${oneOf(issue.values)} is needed, not ${shownValue(found)}`;
    case 'too_small':
      if (issue.origin === 'number') return `${issue.minimum} or more is needed, not ${shownValue(found)}`;
      return issue.origin === 'array' ? 'the list is empty' : 'it is empty';
    case 'too_big':
      if (issue.origin === 'number') return `${issue.maximum} or less is needed, not ${shownValue(found)}`;
      return `${issue.maximum} ${issue.origin === 'array' ? 'entries' : 'characters'} are enough for any`;
    default:
      return issue.message;
  }
}

const WORDS: Readonly<Record<string, string>> = {
  string: 'text',
  int: 'a whole number',
  number: 'a number',
  boolean: 'true or false',
  array: 'a list',
  object: 'a map of fields',
};

const needed = (expected: string): string => WORDS[expected] ?? expected;

function kindOf(value: unknown): string {
  if (value === null) return 'nothing';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'a map';
  return shownValue(value);
}

function shownValue(value: unknown): string {
  if (value === null || typeof value === 'object') return kindOf(value);
  return typeof value === 'string' ? `"${printable(value, 60)}"` : String(value);
}

function oneOf(values: readonly unknown[]): string {
  const names = values.map(String);
  return names.length === 1 ? names[0] : `${names.slice(0, -1).join(', ')} or ${names.at(-1)}`;
}

function nameOf(path: Path): string {
  const name = path.map((part) => (typeof part === 'number' ? `[${part}]` : `.${String(part)}`)).join('');
  return printable(name.replace(/^\./, '')) || 'the manifest';
}

function valueAt(value: unknown, path: Path): unknown {
  let found = value;
  for (const part of path) {
    if (found === null || typeof found !== 'object') return undefined;
    found = (found as Record<PropertyKey, unknown>)[part];
  }
  return found;
}
