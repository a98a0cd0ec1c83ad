/**
 * A checker for the part of JSON Schema 2020-12 that docs/report.schema.json uses. Every property of a value must be
 * described: a field that nobody documented is an error here, though the schema lets later versions have more.
 */
type Schema = Readonly<Record<string, unknown>>;

const KNOWN = new Set(
  '$schema title description type required properties items const enum anyOf minimum minItems maxItems $ref $defs'.split(
    ' ',
  ),
);
/** Objects whose fields are another type's business. */
const OPEN = new Set(['config', 'preprocessing']);

export function schemaErrors(value: unknown, schema: Schema, root: Schema = schema, path = '$'): string[] {
  const unknown = Object.keys(schema).filter((key) => !KNOWN.has(key));
  if (unknown.length > 0) return [`${path}: this checker does not know ${unknown.join(', ')}`];
  if (typeof schema.$ref === 'string') {
    const name = schema.$ref.replace('#/$defs/', '');
    return schemaErrors(value, (root.$defs as Record<string, Schema>)[name], root, path);
  }
  if (Array.isArray(schema.anyOf)) {
    const fits = (schema.anyOf as Schema[]).some(
      (each) => schemaErrors(value, each, root, path).length === 0,
    );
    return fits ? [] : [`${path}: fits no alternative`];
  }
  if ('const' in schema && value !== schema.const)
    return [`${path}: ${String(value)} is not ${String(schema.const)}`];
  if (Array.isArray(schema.enum) && !schema.enum.includes(value))
    return [`${path}: ${String(value)} is not one of ${schema.enum.join(', ')}`];
  const errors =
    typeof schema.type === 'string' && !hasType(value, schema.type) ? [`${path}: is no ${schema.type}`] : [];
  if (typeof schema.minimum === 'number' && (value as number) < schema.minimum)
    errors.push(`${path}: below ${schema.minimum}`);
  if (Array.isArray(value)) {
    if (value.length < ((schema.minItems as number | undefined) ?? 0)) errors.push(`${path}: too few`);
    if (value.length > ((schema.maxItems as number | undefined) ?? Infinity))
      errors.push(`${path}: too many`);
    value.forEach((each, i) =>
      errors.push(...schemaErrors(each, schema.items as Schema, root, `${path}[${i}]`)),
    );
  } else if (typeof value === 'object' && value !== null) {
    const properties = (schema.properties ?? {}) as Record<string, Schema>;
    for (const key of (schema.required ?? []) as string[])
      if (!(key in value)) errors.push(`${path}.${key}: is missing`);
    for (const [key, each] of Object.entries(value)) {
      if (key in properties) errors.push(...schemaErrors(each, properties[key], root, `${path}.${key}`));
      else if (!OPEN.has(path.split('.').at(-1)!)) errors.push(`${path}.${key}: is not described`);
    }
  }
  return errors;
}

function hasType(value: unknown, type: string): boolean {
  switch (type) {
    case 'object':
      return typeof value === 'object' && value !== null && !Array.isArray(value);
    case 'array':
      return Array.isArray(value);
    case 'integer':
      return Number.isInteger(value);
    default:
      return typeof value === type;
  }
}
