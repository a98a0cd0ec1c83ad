/**
 * `relative_position_index` buffers: what window they belong to, and whether they are the ones we rebuild.
 *
 * @see unilm `beit/modeling_finetune.py` `Attention.__init__`
 */
import { relativePositionIndex, tableRows, tokenCount, type BeitConfig } from '../beit.js';
import { dtype } from '../dtype.js';
import { LayoutError, printable } from '../errors.js';
import { describeTensor, type StateDict, type Tensor } from '../tensor.js';

const CHECK_BYTES = 1024 * 1024;

/**
 * The window `[Wh, Ww]`, in patches, that an index buffer was made for. Reads one row.
 *
 * In the row of patch (0, 0) the entries fall by one along the first row of patches and then jump, so the length of
 * the first run is Ww.
 *
 * @param index `[N+1, N+1]` int64 or int32
 * @param rows  rows of the table that it points into
 * @returns `undefined` if the buffer does not fit the table or cannot tell (1×N and N×1 have the same index)
 */
export async function indexWindow(
  index: Tensor,
  rows: number,
): Promise<readonly [number, number] | undefined> {
  const [tokens] = index.shape;
  if (!isIndex(index) || index.shape.length !== 2 || index.shape[1] !== tokens || tokens < 2)
    return undefined;
  const row = await readRow(index, 1, tokens);
  const patches = tokens - 1;
  let width = 1;
  while (width < patches && row[width + 1] === row[width] - 1) width += 1;
  const window = [patches / width, width] as const;
  if (!Number.isInteger(window[0]) || tableRows(window) !== rows) return undefined;
  return patches > 1 && (window[0] === 1 || width === 1) ? undefined : window;
}

/**
 * Every index buffer in the file must be the one that the window gives, element by element: a stale one means that
 * the tables belong to another grid.
 *
 * @param buffers by the file's names
 * @param bufferNames canonical name → the file's name
 * @throws LayoutError that names the buffer, the position, what is there and what is needed
 */
export async function checkIndexBuffers(
  buffers: StateDict,
  bufferNames: ReadonlyMap<string, string>,
  config: BeitConfig,
): Promise<void> {
  const expected = new Map<number, Uint8Array>();
  for (const [canonical, name] of bufferNames) {
    const index = buffers.get(name)!;
    checkPlace(canonical, name, config);
    checkShape(name, index, config);
    const width = dtype(index.dtype).bytes;
    let bytes = expected.get(width);
    if (!bytes) expected.set(width, (bytes = indexBytes(config.window, width)));
    await compare(name, index, bytes, config);
  }
}

function isIndex(index: Tensor): boolean {
  return index.dtype === 'I64' || index.dtype === 'I32';
}

function checkPlace(canonical: string, name: string, config: BeitConfig): void {
  const layer = /^backbone\.layers\.(\d+)\./.exec(canonical)?.[1];
  const belongs =
    layer === undefined
      ? config.sharedRelativePosition
      : config.relativePosition && Number(layer) < config.depth;
  if (belongs) return;
  throw new LayoutError(
    `${printable(name)} is there, but no relative_position_bias_table that it belongs to`,
  );
}

function checkShape(name: string, index: Tensor, config: BeitConfig): void {
  const tokens = tokenCount(config);
  if (isIndex(index) && index.shape.length === 2 && index.shape.every((side) => side === tokens)) return;
  throw new LayoutError(
    `${printable(name)} is ${describeTensor(index)}; a window of ${config.window.join('×')} patches needs i64[${tokens}, ${tokens}]`,
    STALE,
  );
}

const STALE = {
  next: 'The index was not rebuilt when the file was changed: get the original, or remove the index tensors.',
};

async function compare(name: string, index: Tensor, expected: Uint8Array, config: BeitConfig): Promise<void> {
  let at = 0;
  for await (const chunk of pieces(index)) {
    const needed = expected.subarray(at, at + chunk.length);
    if (Buffer.compare(chunk, needed) !== 0)
      throw firstDifference(name, chunk, needed, at, dtype(index.dtype).bytes, config);
    at += chunk.length;
  }
}

/** The bytes through one reused buffer where they are stored in one piece. */
async function* pieces(tensor: Tensor): AsyncIterable<Uint8Array> {
  if (!tensor.stored) return yield* tensor.chunks();
  const { source, start, end } = tensor.stored;
  const memory = new Uint8Array(Math.min(CHECK_BYTES, end - start));
  for (let at = start; at < end; at += memory.length) {
    const piece = memory.subarray(0, Math.min(memory.length, end - at));
    await source.readInto(piece, at);
    yield piece;
  }
}

function firstDifference(
  name: string,
  chunk: Uint8Array,
  needed: Uint8Array,
  offset: number,
  width: number,
  config: BeitConfig,
): LayoutError {
  const element = Math.floor(chunk.findIndex((byte, i) => byte !== needed[i]) / width);
  const tokens = tokenCount(config);
  const position = offset / width + element;
  const found = elementAt(chunk, element, width);
  return new LayoutError(
    `${printable(name)}[${Math.floor(position / tokens)}, ${position % tokens}] is ${found}; a window of ${config.window.join('×')} patches needs ${elementAt(needed, element, width)}`,
    STALE,
  );
}

function elementAt(bytes: Uint8Array, element: number, width: number): bigint | number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return width === 8 ? view.getBigInt64(element * 8, true) : view.getInt32(element * 4, true);
}

/** The rebuilt index as little-endian integers of 4 or 8 bytes. */
export function indexBytes(window: readonly [number, number], width: number): Uint8Array {
  const index = relativePositionIndex(window);
  if (width === 4) return new Uint8Array(index.buffer);
  // All entries are small and positive: the upper halves stay zero.
  const halves = new Int32Array(index.length * 2);
  for (let i = 0; i < index.length; i++) halves[2 * i] = index[i];
  return new Uint8Array(halves.buffer);
}

/** One row of an index, as numbers (entries beyond 2^53 lose their last digits, which no valid index has). */
async function readRow(index: Tensor, row: number, columns: number): Promise<number[]> {
  const width = dtype(index.dtype).bytes;
  const from = row * columns * width;
  const to = from + columns * width;
  const bytes = index.stored
    ? await index.stored.source.read(index.stored.start + from, index.stored.start + to)
    : await slice(index, from, to);
  return Array.from({ length: columns }, (_, i) => Number(elementAt(bytes, i, width)));
}

async function slice(tensor: Tensor, from: number, to: number): Promise<Uint8Array> {
  const out = new Uint8Array(to - from);
  let at = 0;
  for await (const chunk of tensor.chunks()) {
    const part = chunk.subarray(Math.max(0, from - at), Math.max(0, to - at));
    out.set(part, Math.max(0, at - from));
    at += chunk.length;
    if (at >= to) break;
  }
  return out;
}
