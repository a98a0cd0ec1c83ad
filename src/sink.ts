/**
 * Writing large files: pieces flow through a few reused buffers, hashed beside the copy; nothing is joined in memory.
 */
import type { FileHandle } from 'node:fs/promises';
import { open } from 'node:fs/promises';
import type { ByteSource } from './bytes.js';
import { formatBytes } from './bytes.js';
import { createDigest, type Digest, type SourceDigest } from './digest.js';
import { EnvironmentError, FormatError, printable } from './errors.js';
import { byteLength, describeTensor, type Tensor } from './tensor.js';

/** Bytes whose length is known now and whose content only after everything before them was written. */
export interface Deferred {
  readonly length: number;
  bytes(): Promise<Uint8Array>;
}

/**
 * Bytes whose content is known only when everything else was written (a header that names digests of what follows
 * it): room is left for them, and they are filled in at the end.
 */
export interface Late extends Deferred {
  readonly late: true;
}

export interface TensorPiece {
  readonly tensor: Tensor;
  /** sees the tensor's bytes in order, as they pass by; a view is valid during the call only */
  readonly observe?: (bytes: Uint8Array) => void;
}

/** What a file is made of, in order. */
export type Piece = Uint8Array | Deferred | Late | TensorPiece;

export interface WriteOptions {
  readonly signal?: AbortSignal;
  /** bytes written so far */
  readonly onProgress?: (done: number) => void;
  /** digests of the sources that tensors are stored in; fed while their bytes pass by */
  readonly sourceDigests?: ReadonlyMap<ByteSource, SourceDigest>;
  /** wait until the bytes are on the disk */
  readonly flush?: boolean;
  /** compute the sha256 of what is written; default true */
  readonly digest?: boolean;
  /** compute it in this thread, whatever the size */
  readonly digestHere?: boolean;
  /** size of each of the few buffers; default 4 MiB */
  readonly bufferBytes?: number;
}

export interface Written {
  readonly bytes: number;
  readonly sha256?: string;
}

const BUFFER_BYTES = 4 * 1024 * 1024;
/** One is filled, one is written, one is hashed, one is spare. */
const BUFFERS = 4;

/** Length of a piece in bytes. */
export function pieceLength(piece: Piece): number {
  if (piece instanceof Uint8Array) return piece.length;
  return 'tensor' in piece ? byteLength(piece.tensor) : piece.length;
}

interface Slot {
  readonly bytes: Uint8Array;
  /** set while the slot's bytes are still being written or hashed */
  busy: Promise<unknown>;
}

/**
 * Write `pieces` to a new file.
 *
 * @param path must not exist
 * @returns    length and sha256 of what was written; no sha256 for a file with {@link Late} pieces
 * @throws EnvironmentError when the file system refuses; whatever a tensor's source throws
 */
export async function writePieces(
  path: string,
  pieces: readonly Piece[],
  options: WriteOptions = {},
): Promise<Written> {
  const total = pieces.reduce((sum, piece) => sum + pieceLength(piece), 0);
  const file = await open(path, 'wx').catch((error: unknown) =>
    Promise.reject(fileError(error, path, total)),
  );
  // A digest runs from the first byte to the last: with late pieces nobody knows the first ones in time.
  const inOrder = !pieces.some((piece) => 'late' in piece);
  const digest =
    inOrder && (options.digest ?? true) ? createDigest(options.digestHere ? 0 : total) : undefined;
  const slots = makeSlots(total, options.bufferBytes ?? BUFFER_BYTES);
  const writer = new SlotWriter(file, slots, options, digest);
  try {
    for (const piece of pieces) {
      options.signal?.throwIfAborted();
      if (piece instanceof Uint8Array) await writer.put(piece);
      else if ('tensor' in piece) await writer.putTensor(piece);
      else if ('late' in piece) await writer.reserve(piece);
      else await writer.putDeferred(piece);
    }
    await writer.finish();
    if (options.flush) await file.datasync();
    return { bytes: total, ...(digest && { sha256: await digest.hex() }) };
  } catch (error) {
    digest?.abandon();
    await writer.settle();
    throw fileError(error, path, total);
  } finally {
    await file.close();
  }
}

function makeSlots(total: number, bufferBytes: number): Slot[] {
  const size = Math.max(1, Math.min(bufferBytes, total));
  const count = Math.min(BUFFERS, Math.ceil(total / size) || 1);
  // Shared memory, so that the hashing thread reads the same bytes without a copy.
  return Array.from({ length: count }, () => ({
    bytes: new Uint8Array(new SharedArrayBuffer(size)),
    busy: Promise.resolve(),
  }));
}

class SlotWriter {
  readonly #file: FileHandle;
  readonly #slots: readonly Slot[];
  readonly #options: WriteOptions;
  readonly #digest: Digest | undefined;
  #slot = 0;
  #used = 0;
  #position = 0;
  /** parts of the current slot that came straight from a source */
  #spans: { digest: SourceDigest; start: number; view: Uint8Array }[] = [];
  readonly #late: { piece: Late; position: number }[] = [];

  constructor(file: FileHandle, slots: readonly Slot[], options: WriteOptions, digest: Digest | undefined) {
    this.#file = file;
    this.#slots = slots;
    this.#options = options;
    this.#digest = digest;
  }

  get #free(): Uint8Array {
    return this.#slots[this.#slot].bytes.subarray(this.#used);
  }

  async put(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      const part = bytes.subarray(at, at + this.#free.length);
      this.#free.set(part);
      at += part.length;
      await this.#advance(part.length);
    }
  }

  async putDeferred(piece: Deferred): Promise<void> {
    await this.put(await announced(piece));
  }

  async reserve(piece: Late): Promise<void> {
    this.#late.push({ piece, position: this.#position + this.#used });
    await this.put(new Uint8Array(piece.length));
  }

  async putTensor({ tensor, observe }: TensorPiece): Promise<void> {
    const { stored } = tensor;
    if (!stored) {
      let delivered = 0;
      for await (const chunk of tensor.chunks()) {
        delivered += chunk.length;
        if (delivered > byteLength(tensor)) break;
        observe?.(chunk);
        await this.put(chunk);
      }
      if (delivered !== byteLength(tensor)) {
        throw new FormatError(
          `a tensor ${describeTensor(tensor)} delivered ${delivered} bytes instead of ${byteLength(tensor)}`,
        );
      }
      return;
    }
    const digest = this.#options.sourceDigests?.get(stored.source);
    for (let at = stored.start; at < stored.end;) {
      const view = this.#free.subarray(0, Math.min(this.#free.length, stored.end - at));
      await stored.source.readInto(view, at);
      observe?.(view);
      if (digest) this.#spans.push({ digest, start: at, view });
      at += view.length;
      await this.#advance(view.length);
    }
  }

  async finish(): Promise<void> {
    if (this.#used > 0) await this.#emit();
    await Promise.all(this.#slots.map((slot) => slot.busy));
    for (const { piece, position } of this.#late)
      await writeAll(this.#file, await announced(piece), position);
  }

  /** Wait for what is under way, whatever becomes of it. */
  async settle(): Promise<void> {
    await Promise.allSettled(this.#slots.map((slot) => slot.busy));
  }

  async #advance(bytes: number): Promise<void> {
    this.#used += bytes;
    if (this.#free.length === 0) await this.#emit();
  }

  async #emit(): Promise<void> {
    this.#options.signal?.throwIfAborted();
    const slot = this.#slots[this.#slot];
    const view = slot.bytes.subarray(0, this.#used);
    slot.busy = Promise.all([
      writeAll(this.#file, view, this.#position),
      this.#digest?.update(view),
      ...this.#spans.map(({ digest, start, view: part }) => digest.feed(start, part)),
    ]);
    // Awaited when the slot is needed again; a failure before that must not count as unhandled.
    slot.busy.catch(() => undefined);
    this.#position += this.#used;
    this.#options.onProgress?.(this.#position);
    this.#spans = [];
    this.#used = 0;
    this.#slot = (this.#slot + 1) % this.#slots.length;
    await this.#slots[this.#slot].busy;
  }
}

async function announced(piece: Deferred): Promise<Uint8Array> {
  const bytes = await piece.bytes();
  if (bytes.length === piece.length) return bytes;
  throw new FormatError(`a deferred piece has ${bytes.length} bytes; ${piece.length} were announced`);
}

async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let at = 0; at < bytes.length;) {
    const { bytesWritten } = await file.write(bytes, at, bytes.length - at, position + at);
    at += bytesWritten;
  }
}

/** What the file system said, in words; anything else is passed on. */
export function fileError(error: unknown, path: string, bytes?: number): unknown {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  const where = printable(path, 300);
  const size = bytes === undefined ? '' : ` (${formatBytes(bytes)} needed)`;
  switch (code) {
    case 'ENOSPC':
    case 'EDQUOT':
      return new EnvironmentError(`${where}: the disk is full${size}`, {
        next: 'Free room, or write elsewhere.',
        cause: error,
      });
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return new EnvironmentError(`${where}: not allowed to write there`, {
        next: 'Choose another --out.',
        cause: error,
      });
    case 'EFBIG':
      return new EnvironmentError(`${where}: the file system takes no file this large${size}`, {
        cause: error,
      });
    case 'EIO':
      return new EnvironmentError(`${where}: the disk reported an error`, { cause: error });
    case 'ENOENT':
    case 'ENOTDIR':
      return new EnvironmentError(`${where}: the folder is not there`, {
        next: 'Create it, or choose another --out.',
        cause: error,
      });
    default:
      return error;
  }
}
