/**
 * Weights for the oracle, in ranges of rows: one range is worked on while the next one is read.
 */
import { dtype } from '../dtype.js';
import { FormatError } from '../errors.js';
import { bytesOf, describeTensor, elementCount, toFloat32, type StateDict, type Tensor } from '../tensor.js';
import { PANEL } from './kernels.js';
import { SLOT_BYTES } from './oracle-memory.js';

/** Rows `[firstRow, firstRow + rows)` of a matrix, now in a slot. */
export interface WeightRange {
  readonly name: string;
  readonly slot: 0 | 1;
  /** 4: float32 (float16 and bfloat16 are widened, which is exact), 8: float64 */
  readonly weightBytes: 4 | 8;
  readonly firstRow: number;
  readonly rows: number;
  /** of the whole matrix; a convolution kernel `[out, in, h, w]` is a matrix `[out, in*h*w]` */
  readonly outputs: number;
  readonly depth: number;
}

function sides(tensor: Tensor): { outputs: number; depth: number; weightBytes: 4 | 8; rows: number } {
  const outputs = tensor.shape[0];
  const depth = elementCount(tensor.shape.slice(1));
  const weightBytes = tensor.dtype === 'F64' ? 8 : 4;
  const panels = Math.max(1, Math.floor(SLOT_BYTES / (PANEL * depth * weightBytes)));
  return { outputs, depth, weightBytes, rows: Math.min(outputs, panels * PANEL) };
}

/** Bytes a slot must have for these matrices. */
export function slotBytes(tensors: StateDict, names: readonly string[]): number {
  return Math.max(
    ...names.map((name) => {
      const { rows, depth, weightBytes } = sides(tensors.get(name)!);
      return rows * depth * weightBytes;
    }),
  );
}

/** Reads matrices in the order given. */
export class WeightStream {
  readonly #ranges: AsyncGenerator<WeightRange, void, undefined>;
  #ahead: Promise<IteratorResult<WeightRange, void>>;

  constructor(
    tensors: StateDict,
    names: readonly string[],
    slots: readonly [SharedArrayBuffer, SharedArrayBuffer],
  ) {
    this.#ranges = readRanges(tensors, names, slots);
    this.#ahead = this.#startNext();
  }

  /**
   * The next range; the one before it must not be used any more, its slot is being filled again.
   * @throws FormatError if a tensor delivers more or less than its shape says
   */
  async next(): Promise<WeightRange> {
    const { value } = await this.#ahead;
    this.#ahead = this.#startNext();
    if (!value) throw new RangeError('no weights left');
    return value;
  }

  async close(): Promise<void> {
    await this.#ahead.catch(() => undefined);
    await this.#ranges.return();
  }

  #startNext(): Promise<IteratorResult<WeightRange, void>> {
    const ahead = this.#ranges.next();
    // Reported by next(); until somebody asks it must not count as unhandled.
    ahead.catch(() => undefined);
    return ahead;
  }
}

async function* readRanges(
  tensors: StateDict,
  names: readonly string[],
  slots: readonly [SharedArrayBuffer, SharedArrayBuffer],
): AsyncGenerator<WeightRange, void, undefined> {
  let slot: 0 | 1 = 0;
  for (const name of names) {
    const tensor = tensors.get(name)!;
    const { outputs, depth, weightBytes, rows } = sides(tensor);
    const bytes = new SequentialBytes(tensor, name);
    try {
      for (let firstRow = 0; firstRow < outputs; firstRow += rows) {
        const count = Math.min(rows, outputs - firstRow);
        await bytes.fill(new Uint8Array(slots[slot], 0, count * depth * weightBytes));
        if (firstRow + count === outputs) await bytes.end();
        yield { name, slot, weightBytes, firstRow, rows: count, outputs, depth };
        slot = slot === 0 ? 1 : 0;
      }
    } finally {
      await bytes.close();
    }
  }
}

/** A tensor's elements, one after the other, as float32 or float64 bytes. */
class SequentialBytes {
  readonly #tensor: Tensor;
  readonly #name: string;
  readonly #chunks: AsyncIterator<Uint8Array>;
  #chunk: Uint8Array = new Uint8Array(0);
  #at = 0;

  constructor(tensor: Tensor, name: string) {
    this.#tensor = tensor;
    this.#name = name;
    this.#chunks = tensor.chunks()[Symbol.asyncIterator]();
    if (!dtype(tensor.dtype).weight) {
      throw new FormatError(`${name} is ${describeTensor(tensor)}, which is no floating-point weight`);
    }
  }

  async fill(target: Uint8Array): Promise<void> {
    for (let filled = 0; filled < target.length;) {
      if (this.#at === this.#chunk.length && !(await this.#pull())) throw this.#miscounted('ends early');
      const part = this.#chunk.subarray(this.#at, this.#at + target.length - filled);
      target.set(part, filled);
      this.#at += part.length;
      filled += part.length;
    }
  }

  async end(): Promise<void> {
    while (this.#at === this.#chunk.length) if (!(await this.#pull())) return;
    throw this.#miscounted('goes on after its last element');
  }

  async close(): Promise<void> {
    await this.#chunks.return?.();
  }

  async #pull(): Promise<boolean> {
    const { value, done } = await this.#chunks.next();
    if (done) return false;
    const { dtype: from } = this.#tensor;
    this.#chunk = from === 'F32' || from === 'F64' ? value : bytesOf(toFloat32(from, value));
    this.#at = 0;
    return true;
  }

  #miscounted(what: string): FormatError {
    return new FormatError(`${this.#name} is ${describeTensor(this.#tensor)}, but its data ${what}`);
  }
}
