/**
 * What config files tell, and how their fields are checked.
 */
import { z } from 'zod';
import type { ConfigHints } from '../infer-config.js';
import { InputError, printable } from '../errors.js';
import type { Preprocessing } from '../preprocessing.js';

/** What a config file tells. */
export interface ModelInfo {
  readonly hints: ConfigHints;
  /** class names in order */
  readonly labels?: readonly string[];
  readonly version?: 1 | 2;
  readonly versionEvidence?: string;
  /** the layout it belongs to, where tensor names cannot tell */
  readonly layout?: string;
  readonly preprocessing?: Preprocessing;
  /** one sentence per thing a person should know */
  readonly notes: readonly string[];
}

export const count = z.int().min(1).max(1_000_000);
const flag = z.boolean();
export type Field = readonly [schema: z.ZodType, needed: string];
export const COUNT: Field = [count, 'a positive whole number'];
export const FLAG: Field = [flag, 'true or false'];

/** Check the known fields one by one; `null` counts as absent, as transformers writes it. */
export function pick(
  root: Record<string, unknown>,
  fields: ReadonlyMap<string, Field>,
  file: string,
): unknown {
  const out: Record<string, unknown> = {};
  for (const [field, [schema, needed]] of fields) {
    const value = Object.hasOwn(root, field) ? root[field] : undefined;
    if (value === undefined || value === null) continue;
    const result = schema.safeParse(value);
    if (!result.success) {
      throw new InputError(
        `${file}: ${field} is ${printable(JSON.stringify(value), 60)}; it must be ${needed}`,
      );
    }
    out[field] = result.data;
  }
  return out;
}
