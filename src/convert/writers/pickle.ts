/**
 * A pickle of plain data and tensor records, protocol 2: what `torch.save` puts into `data.pkl`, and nothing else.
 * The globals it names are the four that `torch.load(weights_only=True)` allows for tensors.
 *
 * @see Python `Lib/pickletools.py` (opcodes); torch `torch/serialization.py` (`persistent_id`), `torch/_utils.py`
 *   (`_rebuild_tensor_v2`)
 */
import { dtype, type DtypeName } from '../../dtype.js';
import { FormatError } from '../../errors.js';
import { elementCount } from '../../tensor.js';

/** A tensor whose bytes are the record `data/<key>`, contiguous from its first byte. */
export interface StoredTensor {
  readonly key: string;
  readonly dtype: DtypeName;
  readonly shape: readonly number[];
}

/** What can be written. A `Map` is an `OrderedDict`, a list of entries an ordinary `dict`. */
export type PickleValue =
  | string
  | number
  | { readonly list: readonly PickleValue[] }
  | { readonly dict: readonly (readonly [string, PickleValue])[] }
  | { readonly tensor: StoredTensor }
  | ReadonlyMap<string, PickleValue>;

const OP = {
  proto: 0x80,
  stop: 0x2e,
  mark: 0x28,
  emptyDict: 0x7d,
  emptyList: 0x5d,
  emptyTuple: 0x29,
  setItems: 0x75,
  appends: 0x65,
  tuple: 0x74,
  tuple1: 0x85,
  tuple2: 0x86,
  tuple3: 0x87,
  global: 0x63,
  reduce: 0x52,
  persistentId: 0x51,
  unicode: 0x58,
  oneByte: 0x4b,
  twoBytes: 0x4d,
  fourBytes: 0x4a,
  long: 0x8a,
  double: 0x47,
  false: 0x89,
  put: 0x71,
  longPut: 0x72,
  get: 0x68,
  longGet: 0x6a,
} as const;

const ORDERED_DICT = 'collections OrderedDict';
const REBUILD_TENSOR = 'torch._utils _rebuild_tensor_v2';
const encoder = new TextEncoder();

/**
 * @returns the pickle's bytes; the same value gives the same bytes
 * @throws FormatError for a dtype that PyTorch has no typed storage for
 */
export function pickle(value: PickleValue): Uint8Array {
  const writer = new PickleWriter();
  writer.value(value);
  return writer.finish();
}

class PickleWriter {
  readonly #parts: Uint8Array[] = [Uint8Array.of(OP.proto, 2)];
  /** strings and globals written before, by their own opcode and text */
  readonly #memo = new Map<string, number>();

  value(value: PickleValue): void {
    if (typeof value === 'string') this.#string(value);
    else if (typeof value === 'number') this.#number(value);
    else if (value instanceof Map) this.#orderedDict(value as ReadonlyMap<string, PickleValue>);
    else if ('list' in value) this.#list(value.list);
    else if ('dict' in value) this.#dict(value.dict);
    else if ('tensor' in value) this.#tensor(value.tensor);
  }

  finish(): Uint8Array {
    this.#op(OP.stop);
    return Buffer.concat(this.#parts);
  }

  #op(...bytes: number[]): void {
    this.#parts.push(Uint8Array.from(bytes));
  }

  #sized(op: number, length: number, content?: Uint8Array): void {
    const head = new DataView(new ArrayBuffer(5));
    head.setUint8(0, op);
    head.setUint32(1, length, true);
    this.#parts.push(new Uint8Array(head.buffer), ...(content ? [content] : []));
  }

  /** Write something once, and point to it from then on. */
  #memoized(id: string, write: () => void): void {
    const known = this.#memo.get(id);
    if (known !== undefined) {
      if (known < 256) this.#op(OP.get, known);
      else this.#sized(OP.longGet, known);
      return;
    }
    write();
    const slot = this.#memo.size;
    this.#memo.set(id, slot);
    if (slot < 256) this.#op(OP.put, slot);
    else this.#sized(OP.longPut, slot);
  }

  #string(text: string): void {
    this.#memoized(`s${text}`, () => {
      const bytes = encoder.encode(text);
      this.#sized(OP.unicode, bytes.length, bytes);
    });
  }

  #global(name: string): void {
    this.#memoized(`g${name}`, () => {
      this.#parts.push(Uint8Array.of(OP.global), encoder.encode(`${name.replace(' ', '\n')}\n`));
    });
  }

  #number(value: number): void {
    if (!Number.isSafeInteger(value)) {
      const view = new DataView(new ArrayBuffer(9));
      view.setUint8(0, OP.double);
      view.setFloat64(1, value);
      this.#parts.push(new Uint8Array(view.buffer));
    } else if (value >= 0 && value < 0x100) {
      this.#op(OP.oneByte, value);
    } else if (value >= 0 && value < 0x10000) {
      this.#op(OP.twoBytes, value & 0xff, value >> 8);
    } else if (value >= -0x80000000 && value < 0x80000000) {
      this.#sized(OP.fourBytes, value < 0 ? value + 0x100000000 : value);
    } else {
      const view = new DataView(new ArrayBuffer(10));
      view.setUint8(0, OP.long);
      view.setUint8(1, 8);
      view.setBigInt64(2, BigInt(value), true);
      this.#parts.push(new Uint8Array(view.buffer));
    }
  }

  #list(items: readonly PickleValue[]): void {
    this.#op(OP.emptyList, OP.mark);
    for (const item of items) this.value(item);
    this.#op(OP.appends);
  }

  #dict(entries: readonly (readonly [string, PickleValue])[]): void {
    this.#op(OP.emptyDict);
    this.#items(entries);
  }

  #orderedDict(entries: ReadonlyMap<string, PickleValue>): void {
    this.#global(ORDERED_DICT);
    this.#op(OP.emptyTuple, OP.reduce);
    this.#items(entries);
  }

  #items(entries: Iterable<readonly [string, PickleValue]>): void {
    this.#op(OP.mark);
    for (const [key, value] of entries) {
      this.#string(key);
      this.value(value);
    }
    this.#op(OP.setItems);
  }

  #tuple(items: readonly number[]): void {
    const short = [OP.emptyTuple, OP.tuple1, OP.tuple2, OP.tuple3].at(items.length);
    if (items.length < 4 && short !== undefined) {
      for (const item of items) this.#number(item);
      this.#op(short);
      return;
    }
    this.#op(OP.mark);
    for (const item of items) this.#number(item);
    this.#op(OP.tuple);
  }

  /** `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, backward_hooks)` */
  #tensor({ key, dtype: name, shape }: StoredTensor): void {
    const { torchStorage } = dtype(name);
    if (torchStorage === null) throw new FormatError(`PyTorch has no typed storage for ${name}`);
    this.#global(REBUILD_TENSOR);
    this.#op(OP.mark, OP.mark);
    this.#string('storage');
    this.#global(`torch ${torchStorage}`);
    this.#string(key);
    this.#string('cpu');
    this.#number(elementCount(shape));
    this.#op(OP.tuple, OP.persistentId);
    this.#number(0);
    this.#tuple(shape);
    this.#tuple(contiguousStrides(shape));
    this.#op(OP.false);
    this.#global(ORDERED_DICT);
    this.#op(OP.emptyTuple, OP.reduce, OP.tuple, OP.reduce);
  }
}

/** Elements between neighbours along each side, row-major; an empty side counts as one, as in PyTorch. */
function contiguousStrides(shape: readonly number[]): number[] {
  const strides: number[] = [];
  let step = 1;
  for (const side of [...shape].reverse()) {
    strides.unshift(step);
    step *= Math.max(side, 1);
  }
  return strides;
}
