/**
 * Several files from one pass over the source: every weight is read once and handed to all writers in step.
 *
 * A writer that is ahead waits for the others, so at most two blocks are in memory whatever the number of files. All
 * writers take large tensors in the same order (that of the source); small ones, whose place differs from precision to
 * precision, are held until the last has taken them.
 */
import type { ByteSource } from '../bytes.js';
import { ConvertBeitError } from '../errors.js';
import type { SourceDigest } from '../digest.js';
import { byteLength, readBytes, type Tensor } from '../tensor.js';
import type { Graph } from './graph.js';

/** Up to here a tensor is small. All of a large model's together are less than 3 MB. */
const SMALL_BYTES = 64 * 1024;
const BLOCK_BYTES = 2 * 1024 * 1024;

export class SharedReads {
  readonly #files: number;
  readonly #signal: AbortSignal;
  readonly #digests: ReadonlyMap<ByteSource, SourceDigest>;
  readonly #blocks: (Uint8Array<SharedArrayBuffer> | undefined)[] = [undefined, undefined];
  readonly #busy: Promise<unknown>[] = [Promise.resolve(), Promise.resolve()];
  readonly #tensors = new Map<Tensor, SharedTensor>();
  readonly #small = new Map<Tensor, { left: number; bytes: Promise<Uint8Array> }>();

  /**
   * @param files   how many graphs will be made with {@link graph}; each must be written completely
   * @param signal  ends the waiting of all when one fails
   * @param digests fed with what is read
   */
  constructor(files: number, signal: AbortSignal, digests: ReadonlyMap<ByteSource, SourceDigest>) {
    this.#files = files;
    this.#signal = signal;
    this.#digests = digests;
  }

  /** The same graph, with its source tensors read together with the other graphs'. To be called once per file. */
  graph(graph: Graph): Graph {
    const initializers = graph.initializers.map((each) => {
      const { tensor } = each;
      if (byteLength(tensor) === 0 || isConstant(tensor)) return each;
      return { ...each, tensor: this.#share(tensor), origin: each.origin ?? tensor };
    });
    return { ...graph, initializers };
  }

  #share(tensor: Tensor): Tensor {
    const { dtype, shape } = tensor;
    if (byteLength(tensor) <= SMALL_BYTES) return { dtype, shape, chunks: () => this.#smallChunks(tensor) };
    let shared = this.#tensors.get(tensor);
    if (!shared)
      this.#tensors.set(
        tensor,
        (shared = new SharedTensor(this.#files, this.#blocksOf(tensor), this.#signal)),
      );
    const source = shared;
    return { dtype, shape, chunks: () => source.chunks() };
  }

  async *#smallChunks(tensor: Tensor): AsyncGenerator<Uint8Array> {
    const held = this.#small.get(tensor) ?? { left: this.#files, bytes: this.#readSmall(tensor) };
    held.left -= 1;
    if (held.left > 0) this.#small.set(tensor, held);
    else this.#small.delete(tensor);
    yield await held.bytes;
  }

  async #readSmall(tensor: Tensor): Promise<Uint8Array> {
    const bytes = await readBytes(tensor);
    const { stored } = tensor;
    if (stored) await this.#digests.get(stored.source)?.feed(stored.start, bytes);
    return bytes;
  }

  /** Blocks of whole rows, one read ahead. */
  async *#blocksOf(tensor: Tensor): AsyncGenerator<Uint8Array> {
    const { stored } = tensor;
    if (!stored) {
      yield* tensor.chunks();
      return;
    }
    const rowBytes = byteLength(tensor) / tensor.shape[0];
    const most = rowBytes > BLOCK_BYTES ? BLOCK_BYTES : Math.floor(BLOCK_BYTES / rowBytes) * rowBytes;
    const digest = this.#digests.get(stored.source);
    const read = async (index: number, start: number): Promise<Uint8Array> => {
      const slot = index % 2;
      await this.#busy[slot];
      const block = (this.#blocks[slot] ??= new Uint8Array(new SharedArrayBuffer(BLOCK_BYTES)));
      const view = block.subarray(0, Math.min(most, stored.end - start));
      await stored.source.readInto(view, start);
      const fed = digest?.feed(start, view) ?? Promise.resolve();
      // Awaited before the block is used again; until then nobody listens.
      fed.catch(() => undefined);
      this.#busy[slot] = fed;
      return view;
    };
    let index = 0;
    let at = stored.start;
    let ahead = read(index, at);
    while (at < stored.end) {
      const block = await ahead;
      at += block.length;
      index += 1;
      if (at < stored.end) {
        ahead = read(index, at);
        ahead.catch(() => undefined);
      }
      yield block;
    }
  }
}

/** Shapes, axes, index: made by the graph, in memory, and cheap for every file to have its own. */
function isConstant(tensor: Tensor): boolean {
  return !tensor.stored && (tensor.dtype === 'I64' || tensor.dtype === 'I32' || byteLength(tensor) <= 1024);
}

/** One stream for several readers, each of which gets every block once. */
class SharedTensor {
  readonly #readers: number;
  readonly #signal: AbortSignal;
  readonly #source: AsyncGenerator<Uint8Array>;
  #opened = 0;
  #waiting: { resolve: (next: IteratorResult<Uint8Array>) => void; reject: (error: unknown) => void }[] = [];

  constructor(readers: number, source: AsyncGenerator<Uint8Array>, signal: AbortSignal) {
    this.#readers = readers;
    this.#source = source;
    this.#signal = signal;
  }

  async *chunks(): AsyncGenerator<Uint8Array> {
    this.#opened += 1;
    if (this.#opened > this.#readers)
      throw new ConvertBeitError('a weight is read more often than announced');
    for (;;) {
      const next = await this.#next();
      if (next.done) return;
      yield next.value;
    }
  }

  /** The next block, once every reader has asked for it: then all are done with the one before. */
  #next(): Promise<IteratorResult<Uint8Array>> {
    this.#signal.throwIfAborted();
    return new Promise((resolve, reject) => {
      const stop = (): void => reject(this.#signal.reason as Error);
      this.#signal.addEventListener('abort', stop, { once: true });
      this.#waiting.push({
        resolve: (next) => {
          this.#signal.removeEventListener('abort', stop);
          resolve(next);
        },
        reject: (error) => {
          this.#signal.removeEventListener('abort', stop);
          reject(error as Error);
        },
      });
      if (this.#waiting.length < this.#readers) return;
      const readers = this.#waiting;
      this.#waiting = [];
      this.#source.next().then(
        (next) => readers.forEach((reader) => reader.resolve(next)),
        (error: unknown) => readers.forEach((reader) => reader.reject(error)),
      );
    });
  }
}
