/**
 * Class names of a data set → class numbers of a model.
 */
import { InputError, listNames, printable } from '../errors.js';
import { fieldsOf } from '../preprocessing-routes.js';
import { parseCsv } from './csv.js';

export interface ClassMap {
  /** name in the data set → number, names in order */
  readonly numbers: ReadonlyMap<string, number>;
  /** one clause: how it was found */
  readonly how: string;
}

export interface ClassHints {
  /** classes of the model's head */
  readonly classes: number;
  readonly labels?: readonly string[] | undefined;
  /** content of a mapping file, and its name */
  readonly mapping?: { readonly text: string; readonly file: string } | undefined;
}

const isWhole = (text: string): boolean => /^(?:0|[1-9]\d{0,8})$/.test(text);

/**
 * The first rule that fits every name:
 * 1. the mapping file;
 * 2. the model's class names, whole or one of the synonyms between their commas, upper and lower case alike;
 * 3. class numbers;
 * 4. as many names as classes: their sorted order (torchvision's ImageFolder; right for ImageNet's 1,000 synsets).
 *
 * @param names distinct names of the data set
 * @throws InputError if no rule fits
 */
export function mapClasses(names: ReadonlySet<string>, hints: ClassHints): ClassMap {
  const { classes, labels, mapping } = hints;
  const sorted = [...names].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
  const by = (
    how: string,
    numberOf: (name: string, at: number) => number | undefined,
  ): ClassMap | undefined => {
    const numbers = sorted.map((name, at) => [name, numberOf(name, at)] as const);
    if (numbers.some(([, number]) => number === undefined)) return undefined;
    return { numbers: new Map(numbers as readonly (readonly [string, number])[]), how };
  };
  if (mapping) {
    const numbers = parseMapping(mapping.text, mapping.file);
    for (const [name, number] of numbers) {
      if (number >= classes) {
        throw new InputError(
          `${mapping.file} gives "${printable(name, 60)}" the number ${number}; the model has ${classes} classes, 0 to ${classes - 1}`,
        );
      }
    }
    const found = by(`the mapping ${mapping.file}`, (name) => numbers.get(name));
    if (found) return found;
    const missing = sorted.filter((name) => !numbers.has(name));
    throw new InputError(`${mapping.file} has no number for ${listNames(missing)}`);
  }
  const known = labels ? labelNumbers(labels) : new Map<string, number | undefined>();
  const found =
    by("the model's class names", (name) => known.get(name.trim().toLowerCase())) ??
    by('class numbers', (name) => (isWhole(name) && Number(name) < classes ? Number(name) : undefined)) ??
    (sorted.length === classes ? by('the sorted order of the names', (_, at) => at) : undefined);
  if (found) return found;
  const strange = sorted.filter((name) => known.get(name.trim().toLowerCase()) === undefined);
  throw new InputError(
    `${sorted.length} class names in the data, ${classes} classes in the model: it is not known which ${listNames(strange)} ${strange.length === 1 ? 'is' : 'are'}`,
    {
      next: 'Give --classes with a file: a name per line in the order of the classes, or {"name": number, …}, or name,number per line.',
    },
  );
}

/** `undefined` where one name stands for several classes (ImageNet has two cranes). */
function labelNumbers(labels: readonly string[]): Map<string, number | undefined> {
  const numbers = new Map<string, number | undefined>();
  const add = (names: readonly string[], number: number, own: Map<string, number | undefined>): void => {
    for (const name of new Set(names.map((each) => each.trim().toLowerCase()))) {
      if (name !== '') own.set(name, own.has(name) ? undefined : number);
    }
  };
  labels.forEach((label, number) => add(label.split(','), number, numbers));
  // A whole name is meant even where it is also a synonym of another class.
  const whole = new Map<string, number | undefined>();
  labels.forEach((label, number) => add([label], number, whole));
  return new Map([...numbers, ...whole]);
}

/** Lines of names in order, `name,number` rows, a JSON array or a JSON object. */
function parseMapping(text: string, file: string): ReadonlyMap<string, number> {
  const numbers = new Map<string, number>();
  const add = (name: string, number: unknown): void => {
    const value = typeof number === 'string' && isWhole(number.trim()) ? Number(number) : number;
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
      throw new InputError(`${file}: "${printable(name, 60)}" has no class number`);
    }
    if (numbers.has(name)) throw new InputError(`${file} has "${printable(name, 60)}" twice`);
    numbers.set(name, value);
  };
  const plain = text.replace(/^\ufeff/, '').trim();
  if (/^[[{]/.test(plain)) {
    let root: unknown;
    try {
      root = JSON.parse(plain);
    } catch (cause) {
      throw new InputError(`${file} is no valid JSON`, { cause });
    }
    if (Array.isArray(root)) root.forEach((name, at) => add(String(name), at));
    else for (const [name, number] of fieldsOf(root)!) add(name, number);
    return numbers;
  }
  const rows = parseCsv(plain, file);
  const numbered = rows.every((row) => row.length === 2 && isWhole(row[1].trim()));
  if (numbered) for (const [name, number] of rows) add(name.trim(), number);
  // ImageNet's own lists have the synset first and its words behind it.
  else plain.split(/\r?\n/).forEach((line, at) => add(/^n\d{8}(?=\s)/.exec(line)?.[0] ?? line.trim(), at));
  return numbers;
}
