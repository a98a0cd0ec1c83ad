/**
 * Two checkpoints of any layouts, tensor by tensor under canonical names. They need not be whole models.
 */
import type { DtypeName } from '../dtype.js';
import { byteLength, memoryTensor, type StateDict, type Tensor } from '../tensor.js';
import type { Checkpoint } from './checkpoint.js';
import { compareTensors } from './compare.js';
import {
  applyLayout,
  claim,
  detectLayout,
  namesOf,
  wrapperPrefix,
  type Layout,
  type Table,
} from './layout.js';
import { LAYOUTS } from './layouts/index.js';
import { indexBytes, indexWindow } from './relative-position.js';

/**
 * - `equal`: the same dtype, shape and bits
 * - `different`: other bits; `dtype`: another dtype (its values are compared too); `shape`: another shape
 * - `only-a`, `only-b`: the other side has no such tensor
 * - `rebuilt`: an index buffer on one side only, which is what every loader makes of the window; no difference
 */
export type DiffStatus = 'equal' | 'different' | 'dtype' | 'shape' | 'only-a' | 'only-b' | 'rebuilt';

export interface DiffTensor {
  /** in the file; several that make one canonical tensor are joined by ` + ` */
  readonly name: string;
  readonly dtype: DtypeName;
  readonly shape: readonly number[];
}

export interface DiffRow {
  /** canonical; the file's own for tensors that no layout knows */
  readonly name: string;
  readonly status: DiffStatus;
  readonly a?: DiffTensor;
  readonly b?: DiffTensor;
  /** elements that differ */
  readonly differing?: number;
  /** largest |a - b|; NaN where one side has one */
  readonly maxAbs?: number;
  /** where the largest difference is */
  readonly at?: readonly number[];
}

export interface DiffSide {
  readonly container: string;
  /** the layout its names fit best; absent when they fit none */
  readonly layout?: string;
  readonly tensors: number;
}

export interface CheckpointDiff {
  readonly a: DiffSide;
  readonly b: DiffSide;
  /** in the order of A, then what only B has */
  readonly rows: readonly DiffRow[];
  /** how many rows have each status */
  readonly counts: Readonly<Record<DiffStatus, number>>;
  /** largest `maxAbs` of all rows, when any row has one */
  readonly maxAbs?: number;
}

interface Entry {
  readonly name: string;
  readonly tensor: Tensor;
}

interface Side {
  readonly layout: Layout | undefined;
  /** by canonical name, or by the file's where no layout knows it */
  readonly entries: ReadonlyMap<string, Entry>;
}

export interface DiffOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * Compare two open checkpoints. A block of two tensors is in memory at a time.
 *
 * @throws LayoutError if two names of one file mean the same tensor, ShapeError if tensors that belong together do not
 *   fit each other
 */
export async function diffCheckpoints(
  a: Checkpoint,
  b: Checkpoint,
  options: DiffOptions = {},
): Promise<CheckpointDiff> {
  const [left, right] = [sideOf(a.tensors), sideOf(b.tensors)];
  const names = [...new Set([...left.entries.keys(), ...right.entries.keys()])];
  const total = names.reduce((sum, name) => sum + bytesOf(left, name) + bytesOf(right, name), 0);
  const rows: DiffRow[] = [];
  let done = 0;
  for (const name of names) {
    options.signal?.throwIfAborted();
    rows.push(await row(name, left, right, options.signal));
    done += bytesOf(left, name) + bytesOf(right, name);
    options.onProgress?.(done, total);
  }
  const counts = { equal: 0, different: 0, dtype: 0, shape: 0, 'only-a': 0, 'only-b': 0, rebuilt: 0 };
  for (const { status } of rows) counts[status] += 1;
  const gaps = rows.flatMap(({ maxAbs }) => (maxAbs === undefined ? [] : [maxAbs]));
  return {
    a: summary(a, left),
    b: summary(b, right),
    rows,
    counts,
    ...(gaps.length > 0 && { maxAbs: Math.max(...gaps) }),
  };
}

/** Nothing differs; index buffers that everybody rebuilds do not count. */
export function isEqual({ rows }: CheckpointDiff): boolean {
  return rows.every(({ status }) => status === 'equal' || status === 'rebuilt');
}

function bytesOf(side: Side, name: string): number {
  const entry = side.entries.get(name);
  return entry ? byteLength(entry.tensor) : 0;
}

function summary(checkpoint: Checkpoint, { layout }: Side): DiffSide {
  return {
    container: checkpoint.container,
    ...(layout && { layout: layout.name }),
    tensors: checkpoint.tensors.size,
  };
}

function sideOf(tensors: StateDict): Side {
  const { layout, table, known } = detectLayout(LAYOUTS, tensors);
  const prefix = wrapperPrefix(tensors.keys());
  const whole = wholeRules(table, tensors, prefix);
  const entries = new Map<string, Entry>();
  const applied = applyLayout({ ...layout, tables: [table] }, whole);
  for (const [canonical, tensor] of applied.tensors) {
    entries.set(canonical, { name: applied.sourceNames.get(canonical)!, tensor });
  }
  for (const [canonical, name] of applied.bufferNames) {
    entries.set(canonical, { name, tensor: applied.buffers.get(name)! });
  }
  for (const [name, tensor] of tensors) {
    if (whole.has(name)) continue;
    const bare = name.slice(prefix.length);
    // A file may call a tensor what is another one's canonical name; both are shown then.
    entries.set(entries.has(bare) ? `${bare} (as it is called)` : bare, { name, tensor });
  }
  return { layout: known > 0 ? layout : undefined, entries };
}

/** The tensors whose rule has all it needs: a query without its key stays what it is. */
function wholeRules(table: Table, tensors: StateDict, prefix: string): StateDict {
  const whole = new Map<string, Tensor>();
  for (const [name, tensor] of tensors) {
    const claimed = claim(table, name.slice(prefix.length));
    if (!claimed) continue;
    const together = namesOf(claimed.rule, 'source', claimed.layer);
    if (together.every((other) => tensors.has(prefix + other))) whole.set(name, tensor);
  }
  return whole;
}

async function row(name: string, a: Side, b: Side, signal: AbortSignal | undefined): Promise<DiffRow> {
  const [left, right] = [a.entries.get(name), b.entries.get(name)];
  const both = { name, ...(left && { a: describe(left) }), ...(right && { b: describe(right) }) };
  if (!left || !right) {
    const side = left ? a : b;
    if (await isRebuilt(name, side)) return { ...both, status: 'rebuilt' };
    return { ...both, status: left ? 'only-a' : 'only-b' };
  }
  if (String(left.tensor.shape) !== String(right.tensor.shape)) return { ...both, status: 'shape' };
  const difference = await compareTensors(left.tensor, right.tensor, signal);
  const sameDtype = left.tensor.dtype === right.tensor.dtype;
  if (!difference)
    return { ...both, status: sameDtype ? 'equal' : 'dtype', ...(!sameDtype && { maxAbs: 0 }) };
  return { ...both, status: sameDtype ? 'different' : 'dtype', ...difference };
}

function describe({ name, tensor }: Entry): DiffTensor {
  return { name, dtype: tensor.dtype, shape: tensor.shape };
}

/** An index buffer that holds exactly what its own table's window gives. */
async function isRebuilt(name: string, { entries }: Side): Promise<boolean> {
  const { tensor } = entries.get(name)!;
  if (!name.endsWith('relative_position_index') || (tensor.dtype !== 'I64' && tensor.dtype !== 'I32'))
    return false;
  const table = entries.get(name.replace('relative_position_index', 'relative_position_bias_table'))?.tensor;
  const window = table?.shape.length === 2 ? await indexWindow(tensor, table.shape[0]) : undefined;
  if (!window) return false;
  const bytes = indexBytes(window, tensor.dtype === 'I64' ? 8 : 4);
  return (await compareTensors(tensor, memoryTensor(tensor.dtype, tensor.shape, bytes))) === undefined;
}
