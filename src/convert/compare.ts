/**
 * Two tensors of one shape, element by element, a block of each in memory at a time.
 */
import { dtype, type DtypeName } from '../dtype.js';
import { FormatError } from '../errors.js';
import { describeTensor, elementCount, toFloat32, type Tensor } from '../tensor.js';

export interface TensorDifference {
  /** elements whose values differ, or whose bits do where the dtypes are the same (0 and -0, two NaNs) */
  readonly differing: number;
  /** largest |a - b|; NaN where one side has one; absent for dtypes without numbers (complex, float8) */
  readonly maxAbs?: number;
  /** position of the largest difference, one index per side of the shape */
  readonly at: readonly number[];
}

const BLOCK_ELEMENTS = 128 * 1024;

/**
 * @returns `undefined` if the tensors are equal: every bit for one dtype, every value for two
 * @throws FormatError if a tensor delivers fewer bytes than it declares; whatever its source throws
 */
export async function compareTensors(
  a: Tensor,
  b: Tensor,
  signal?: AbortSignal,
): Promise<TensorDifference | undefined> {
  const left = new BlockReader(a);
  const right = new BlockReader(b);
  const total = elementCount(a.shape);
  let differing = 0;
  let maxAbs: number | undefined = 0;
  let worst = 0;
  try {
    for (let at = 0; at < total; at += BLOCK_ELEMENTS) {
      signal?.throwIfAborted();
      const count = Math.min(BLOCK_ELEMENTS, total - at);
      const [x, y] = await Promise.all([left.next(count), right.next(count)]);
      if (a.dtype === b.dtype && Buffer.compare(x, y) === 0) continue;
      const block = compareBlocks({ dtype: a.dtype, bytes: x }, { dtype: b.dtype, bytes: y }, count);
      if (block.differing === 0) continue;
      // The first difference counts even where it is 0 and -0; NaN, once seen, is the largest of all.
      if (differing === 0 || greater(block.maxAbs, maxAbs)) worst = at + block.at;
      if (block.maxAbs === undefined) maxAbs = undefined;
      else if (greater(block.maxAbs, maxAbs)) maxAbs = block.maxAbs;
      differing += block.differing;
    }
  } finally {
    await Promise.all([left.close(), right.close()]);
  }
  if (differing === 0) return undefined;
  return { differing, ...(maxAbs !== undefined && { maxAbs }), at: position(worst, a.shape) };
}

function greater(next: number | undefined, best: number | undefined): boolean {
  if (next === undefined || best === undefined || Number.isNaN(best)) return false;
  return Number.isNaN(next) || next > best;
}

interface Block {
  readonly dtype: DtypeName;
  readonly bytes: Uint8Array;
}

function compareBlocks(
  a: Block,
  b: Block,
  count: number,
): { differing: number; maxAbs: number | undefined; at: number } {
  const x = numbers(a);
  const y = numbers(b);
  const sameBits = a.dtype === b.dtype ? bitComparison(a, b) : undefined;
  let differing = 0;
  let maxAbs = 0;
  let at = 0;
  for (let i = 0; i < count; i++) {
    const same = sameBits
      ? sameBits(i)
      : x !== undefined && y !== undefined && (x[i] === y[i] || (Number.isNaN(x[i]) && Number.isNaN(y[i])));
    if (same) continue;
    const gap = x && y ? distance(x[i], y[i]) : 0;
    if (differing === 0 || greater(gap, maxAbs)) [maxAbs, at] = [gap, i];
    differing += 1;
  }
  return { differing, maxAbs: x && y ? maxAbs : undefined, at };
}

/** Are the i-th elements the same bits? */
function bitComparison(a: Block, b: Block): (i: number) => boolean {
  const words = ({ dtype: name, bytes }: Block): Uint8Array | Uint16Array | Uint32Array => {
    const { buffer, byteOffset, length } = bytes;
    const width = dtype(name).bytes;
    if (width === 1) return bytes;
    return width === 2
      ? new Uint16Array(buffer, byteOffset, length / 2)
      : new Uint32Array(buffer, byteOffset, length / 4);
  };
  const [x, y] = [words(a), words(b)];
  if (dtype(a.dtype).bytes < 8) return (i) => x[i] === y[i];
  return (i) => x[2 * i] === y[2 * i] && x[2 * i + 1] === y[2 * i + 1];
}

function distance(x: number, y: number): number {
  if (x === y || (Number.isNaN(x) && Number.isNaN(y))) return 0;
  return Math.abs(x - y);
}

/** Elements as numbers; `undefined` for dtypes that have none. Integers beyond 2^53 lose their last digits. */
function numbers({ dtype: name, bytes }: Block): ArrayLike<number> | undefined {
  const { buffer, byteOffset, length } = bytes;
  switch (name) {
    case 'F32':
    case 'F16':
    case 'BF16':
      return toFloat32(name, bytes);
    case 'F64':
      return new Float64Array(buffer, byteOffset, length / 8);
    case 'BOOL':
    case 'U8':
      return bytes;
    case 'I8':
      return new Int8Array(buffer, byteOffset, length);
    case 'I16':
      return new Int16Array(buffer, byteOffset, length / 2);
    case 'U16':
      return new Uint16Array(buffer, byteOffset, length / 2);
    case 'I32':
      return new Int32Array(buffer, byteOffset, length / 4);
    case 'U32':
      return new Uint32Array(buffer, byteOffset, length / 4);
    case 'I64':
      return Array.from(new BigInt64Array(buffer, byteOffset, length / 8), Number);
    case 'U64':
      return Array.from(new BigUint64Array(buffer, byteOffset, length / 8), Number);
    case 'C64':
    case 'F8_E4M3':
    case 'F8_E5M2':
      return undefined;
  }
}

/** `[layer, row, column]` of a flat position. */
function position(flat: number, shape: readonly number[]): number[] {
  const out: number[] = [];
  let rest = flat;
  for (const side of [...shape].reverse()) {
    out.unshift(rest % side);
    rest = Math.floor(rest / side);
  }
  return out;
}

/** A tensor's elements, so many at a time, in one reused and aligned buffer. */
class BlockReader {
  readonly #tensor: Tensor;
  readonly #width: number;
  readonly #memory: Uint8Array;
  #at = 0;
  #chunks: AsyncIterator<Uint8Array> | undefined;
  #rest: Uint8Array = new Uint8Array(0);

  constructor(tensor: Tensor) {
    this.#tensor = tensor;
    this.#width = dtype(tensor.dtype).bytes;
    this.#memory = new Uint8Array(Math.min(BLOCK_ELEMENTS, elementCount(tensor.shape)) * this.#width);
  }

  async next(count: number): Promise<Uint8Array> {
    const block = this.#memory.subarray(0, count * this.#width);
    const { stored } = this.#tensor;
    if (stored) await stored.source.readInto(block, stored.start + this.#at);
    else await this.#gather(block);
    this.#at += block.length;
    return block;
  }

  async close(): Promise<void> {
    await this.#chunks?.return?.();
  }

  async #gather(block: Uint8Array): Promise<void> {
    this.#chunks ??= this.#tensor.chunks()[Symbol.asyncIterator]();
    for (let filled = 0; filled < block.length;) {
      if (this.#rest.length === 0) {
        const { value, done } = await this.#chunks.next();
        if (done) throw new FormatError(`a tensor ${describeTensor(this.#tensor)} ended too early`);
        this.#rest = value;
        continue;
      }
      const part = this.#rest.subarray(0, block.length - filled);
      block.set(part, filled);
      filled += part.length;
      this.#rest = this.#rest.subarray(part.length);
    }
  }
}
