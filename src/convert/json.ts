/**
 * JSON as a safetensors header needs it: objects become a `Map` (`__proto__` is an ordinary key), a repeated key is an
 * error instead of the last one winning, and depth and number of values are bounded.
 */
import { FormatError, printable } from '../errors.js';

export type Json = string | number | boolean | null | Json[] | JsonObject;
export type JsonObject = Map<string, Json>;

const MAX_DEPTH = 32;
/** No number worth reading is longer. */
const MAX_NUMBER = 64;
const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/;
const INTEGER = /^(0|[1-9]\d*)$/;
const LONE_SURROGATE = /[\ud800-\udfff]/u;
const LITERALS: readonly (readonly [string, boolean | null])[] = [
  ['true', true],
  ['false', false],
  ['null', null],
];

export interface JsonOptions {
  /** what is read, for messages: `model.safetensors: the header` */
  readonly subject: string;
  /** refuse numbers that aren't plain non-negative integers up to 2^53 - 1 */
  readonly integersOnly?: boolean;
  /** values in total, keys not counted */
  readonly maxValues?: number;
}

/**
 * Parse one JSON document.
 *
 * @throws FormatError that says what is wrong and at which character
 */
export function parseJson(text: string, options: JsonOptions): Json {
  const { subject, integersOnly = false, maxValues = 1_000_000 } = options;
  let at = 0;
  let values = 0;

  const fail = (what: string): never => {
    throw new FormatError(`${subject} is not valid JSON: ${what} at character ${at}`);
  };
  const found = (): string => (at < text.length ? `found "${printable(text[at])}"` : 'the text ends');
  const skipSpace = (): void => {
    for (; at < text.length; at++) {
      const c = text.charCodeAt(at);
      if (c !== 0x20 && c !== 0x0a && c !== 0x0d && c !== 0x09) return;
    }
  };

  const readString = (): string => {
    const start = at;
    let escaped = false;
    for (at += 1; ; at++) {
      if (at >= text.length) fail('a string without end');
      const c = text.charCodeAt(at);
      if (c === 0x22) break;
      if (c < 0x20) fail('a control character in a string');
      if (c === 0x5c) {
        escaped = true;
        at += 1;
      }
    }
    at += 1;
    if (!escaped) return text.slice(start + 1, at - 1);
    let value = '';
    try {
      value = JSON.parse(text.slice(start, at)) as string;
    } catch {
      at = start;
      fail('a string with an unknown escape');
    }
    if (LONE_SURROGATE.test(value)) fail('half a surrogate pair in a string');
    return value;
  };

  const readNumber = (): number => {
    const start = at;
    while (at < text.length && at - start <= MAX_NUMBER && '+-.0123456789eE'.includes(text[at])) at += 1;
    const literal = text.slice(start, at);
    const value = Number(literal);
    const fits = integersOnly ? INTEGER.test(literal) && Number.isSafeInteger(value) : NUMBER.test(literal);
    if (fits && literal.length <= MAX_NUMBER) return value;
    at = start;
    return fail(
      integersOnly && NUMBER.test(literal)
        ? `${literal} where only integers from 0 to 9007199254740991 may stand,`
        : `the malformed number ${printable(literal, 24)}`,
    );
  };

  const readObject = (depth: number): JsonObject => {
    const object: JsonObject = new Map();
    at += 1;
    skipSpace();
    if (text[at] === '}') {
      at += 1;
      return object;
    }
    for (;;) {
      skipSpace();
      if (text[at] !== '"') fail(`a key is needed, ${found()}`);
      const key = readString();
      if (object.has(key)) {
        throw new FormatError(`${subject} holds the key "${printable(key)}" twice`);
      }
      skipSpace();
      if (text[at] !== ':') fail(`":" is needed, ${found()}`);
      at += 1;
      object.set(key, readValue(depth + 1));
      skipSpace();
      const c = text[at];
      if (c !== ',' && c !== '}') fail(`"," or "}" is needed, ${found()}`);
      at += 1;
      if (c === '}') return object;
    }
  };

  const readArray = (depth: number): Json[] => {
    const array: Json[] = [];
    at += 1;
    skipSpace();
    if (text[at] === ']') {
      at += 1;
      return array;
    }
    for (;;) {
      array.push(readValue(depth + 1));
      skipSpace();
      const c = text[at];
      if (c !== ',' && c !== ']') fail(`"," or "]" is needed, ${found()}`);
      at += 1;
      if (c === ']') return array;
    }
  };

  const readValue = (depth: number): Json => {
    if (depth > MAX_DEPTH) fail(`more than ${MAX_DEPTH} levels`);
    values += 1;
    if (values > maxValues) fail(`more than ${maxValues.toLocaleString('en-US')} values`);
    skipSpace();
    const c = text[at];
    if (c === '{') return readObject(depth);
    if (c === '[') return readArray(depth);
    if (c === '"') return readString();
    if (c === '-' || (c >= '0' && c <= '9')) return readNumber();
    for (const [literal, value] of LITERALS) {
      if (text.startsWith(literal, at)) {
        at += literal.length;
        return value;
      }
    }
    return fail(`a value is needed, ${found()}`);
  };

  const value = readValue(0);
  skipSpace();
  if (at < text.length) fail(`nothing may follow, ${found()}`);
  return value;
}

/** Bytes to text, strictly: a malformed sequence is an error, a byte order mark stays visible. */
export function decodeUtf8(bytes: Uint8Array, subject: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new FormatError(`${subject} is not valid UTF-8`, { cause });
  }
}
