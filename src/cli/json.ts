/**
 * One JSON object per run, on one line for a program and indented for a terminal.
 */

// JSON escapes C0 controls only; the rest of what a terminal acts on is escaped here, which keeps it the same JSON.
const UNSAFE = /[\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** Maps become objects, sets and typed arrays arrays; what JSON has no number for becomes its name (`"NaN"`). */
function replacer(_key: string, value: unknown): unknown {
  if (typeof value === 'number' && !Number.isFinite(value)) return String(value);
  if (typeof value === 'bigint') return value.toString();
  // fromEntries defines own properties: a tensor named __proto__ stays a key.
  if (value instanceof Map) return Object.fromEntries(value);
  if (value instanceof Set) return [...value];
  if (ArrayBuffer.isView(value) && !(value instanceof DataView)) return Array.from(value as Uint8Array);
  return value;
}

/** @returns the object's text with a newline at the end */
export function toJson(value: object, indent = false): string {
  const text = JSON.stringify(value, replacer, indent ? 2 : undefined);
  return `${text.replace(UNSAFE, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`)}\n`;
}
