/**
 * Every weight of the source is in the file, is used, and nothing else is there that nobody can explain.
 */
import { tableRows, tokenCount, type BeitConfig } from '../../beit.js';
import type { DynamicMethod } from '../../dynamic-size.js';
import { listNames, printable } from '../../errors.js';
import { elementCount } from '../../tensor.js';
import { taskParts, type Task } from '../../task.js';
import type { OnnxFile, OnnxInitializer } from '../onnx-file.js';
import { precision as precisionRow, type WeightForm } from '../../precision.js';
import type { Check } from '../report.js';
import { allowedForms, partsOf, shapeFindings, storedWeight } from '../stored-weight.js';

/** Shapes, axes, scales: what a graph needs besides weights. One head's width is the largest that is plausible. */
export const SMALL_CONSTANT_ELEMENTS = 64;
const INDEX_NAME = 'relative_position_index';
/** `Constant` nodes: the elements' bytes and the message around them. */
const SMALL_CONSTANT_BYTES = SMALL_CONSTANT_ELEMENTS * 8 + 256;

export async function checkInventory(
  file: OnnxFile,
  config: BeitConfig,
  precision = precisionRow('fp32'),
  task: Task = { name: 'classify' },
  dynamic?: DynamicMethod,
): Promise<Check> {
  const wanted = taskParts(config, task).tensors;
  const used = reaching(file);
  const findings: string[] = [];

  const parts = new Set<string>();
  const forms = new Map<WeightForm, number>();
  const allowed = allowedForms(precision);
  for (const [name, shape] of wanted) {
    const found = storedWeight(file, name);
    if (!found) {
      findings.push(`${name} is missing`);
      continue;
    }
    forms.set(found.form, (forms.get(found.form) ?? 0) + 1);
    if (!allowed.has(found.form))
      findings.push(`${name} is ${found.form}; a file in ${precision.name} has none`);
    findings.push(...shapeFindings(name, shape, found));
    for (const part of partsOf(found)) {
      parts.add(part.name);
      if (!used.has(part.name))
        findings.push(`${part.name} is in the file, but the logits do not depend on it`);
    }
  }
  if (!forms.has(precision.weights)) {
    findings.push(`the file calls itself ${precision.name}, but no weight is ${precision.weights}`);
  }

  let constants = 0;
  for (const [name, initializer] of file.initializers) {
    if (parts.has(name)) continue;
    if (name === INDEX_NAME) findings.push(...(await indexFindings(initializer, config)));
    else if (initializer.dtype && elementCount(initializer.dims) <= SMALL_CONSTANT_ELEMENTS) constants += 1;
    else findings.push(`${printable(name)} ${describe(initializer)} is no tensor of the source`);
  }
  // For images of any size the graph computes it; whether rightly, its outputs tell.
  const indexed = config.relativePosition || config.sharedRelativePosition;
  if (indexed && !dynamic && !file.initializers.has(INDEX_NAME)) {
    findings.push(`${INDEX_NAME} is missing; the position tables are looked up with it`);
  }
  const large = file.nodes.filter(({ attributes }) =>
    [...attributes.values()].some(
      (attribute) => attribute.kind === 'tensor' && attribute.bytes > SMALL_CONSTANT_BYTES,
    ),
  );
  if (large.length > 0) {
    findings.push(
      `nodes hold tensors of their own: ${listNames(large.map(({ name, type }) => name || type))}`,
    );
  }

  const index = file.initializers.get(INDEX_NAME);
  const detail =
    `${wanted.size} tensors of the source${describeForms(forms)}, ${constants} small constants` +
    (index ? `, ${INDEX_NAME} ${describe(index)}` : '');
  return {
    name: 'inventory',
    passed: findings.length === 0,
    detail: findings.length === 0 ? detail : summary(findings),
    findings,
  };
}

/** ` (64 in float32, 33 in int8)`; nothing where all are float32. */
function describeForms(forms: ReadonlyMap<WeightForm, number>): string {
  if (forms.size < 2 && forms.has('float32')) return '';
  return ` (${[...forms].map(([form, count]) => `${count} in ${form}`).join(', ')})`;
}

function summary(findings: readonly string[]): string {
  return findings.length === 1 ? findings[0] : `${findings[0]} (and ${findings.length - 1} more)`;
}

function describe({ dtype, dataType, dims }: OnnxInitializer): string {
  return `${dtype?.name.toLowerCase() ?? `type ${dataType}`}[${dims.join(', ')}]`;
}

/** Names of all values that the graph's outputs depend on. */
function reaching({ nodes, outputs }: OnnxFile): Set<string> {
  const needed = new Set(outputs.map(({ name }) => name));
  // Backwards: in a sound graph every value is made before it is used.
  for (const node of [...nodes].reverse()) {
    if (!node.outputs.some((name) => needed.has(name))) continue;
    for (const name of node.inputs) needed.add(name);
  }
  return needed;
}

/**
 * Upstream's rule, written again: row = query, column = key, token 0 = class token.
 *
 * @see unilm `beit/modeling_finetune.py` `Attention.__init__`
 */
function tableRow(window: readonly [number, number], query: number, key: number): number {
  const [height, width] = window;
  const rows = tableRows(window);
  if (query === 0 && key === 0) return rows - 1;
  if (key === 0) return rows - 2;
  if (query === 0) return rows - 3;
  const [a, b] = [query - 1, key - 1];
  const down = Math.floor(a / width) - Math.floor(b / width) + height - 1;
  const right = (a % width) - (b % width) + width - 1;
  return down * (2 * width - 1) + right;
}

async function indexFindings(initializer: OnnxInitializer, config: BeitConfig): Promise<string[]> {
  const tokens = tokenCount(config);
  const { dtype, dims, stored } = initializer;
  const shaped = String(dims) === String([tokens, tokens]) || String(dims) === String([tokens * tokens]);
  if (!shaped || (dtype?.name !== 'I32' && dtype?.name !== 'I64')) {
    return [`${INDEX_NAME} is ${describe(initializer)}; this config needs i32 or i64 [${tokens}, ${tokens}]`];
  }
  let wrong = 0;
  let first = '';
  // One row at a time: 1025 tokens at 512 pixels make 4 MB.
  const row = new Uint8Array(tokens * dtype.bytes);
  const view = new DataView(row.buffer);
  for (let query = 0; query < tokens; query++) {
    await stored.source.readInto(row, stored.start + query * row.length);
    for (let key = 0; key < tokens; key++) {
      const found =
        dtype.bytes === 4 ? view.getInt32(key * 4, true) : Number(view.getBigInt64(key * 8, true));
      const needed = tableRow(config.window, query, key);
      if (found === needed) continue;
      if (wrong === 0) first = `[${query}, ${key}] is ${found}, not ${needed}`;
      wrong += 1;
    }
  }
  if (wrong === 0) return [];
  const window = config.window.join('×');
  return [
    `${INDEX_NAME} is not that of a window of ${window} patches: ${first}; ${wrong} of ${tokens * tokens} entries differ`,
  ];
}
