/**
 * What a pickle may turn into here: plain data, tensors that are described but not read, and inert placeholders for
 * everything else. No value has behaviour; dicts are `Map`s, as `__proto__` is an ordinary key.
 */
import type { DtypeName } from '../../dtype.js';

export type Value =
  | null
  | boolean
  /** an integer up to 2^53 */
  | number
  | bigint
  | string
  /** bytes and bytearray; a view of the pickle */
  | Uint8Array
  | PyFloat
  | PyTuple
  | PyList
  | PySet
  | PyDict
  | GlobalRef
  | Inert
  | StorageValue
  | TensorValue
  | TorchName;

/** Apart from integers: `3.0` is no size. */
export class PyFloat {
  constructor(readonly value: number) {}
}

export class PyTuple {
  constructor(
    readonly items: readonly Value[],
    readonly type: 'tuple' | 'torch.Size' | 'complex' | 'slice' = 'tuple',
  ) {}
}

export class PyList {
  readonly items: Value[] = [];
}

export class PySet {
  constructor(
    readonly items: Value[],
    readonly type: 'set' | 'frozenset',
  ) {}
}

export class PyDict {
  readonly entries = new Map<Value, Value>();
  constructor(readonly type: 'dict' | 'OrderedDict' | 'defaultdict' | 'Counter' = 'dict') {}
}

/** `torch.float16`, `torch.device('cuda', 0)`: names that mean themselves. */
export class TorchName {
  constructor(
    readonly text: string,
    readonly dtype?: DtypeName,
  ) {}
}

/**
 * Makes a value out of arguments, or answers `undefined`: then the call stays inert. Whatever takes more work or
 * memory than the opcodes that ask for it (a copy) is charged first.
 */
export type Builder = (
  args: readonly Value[],
  at: number,
  charge: (values: number) => void,
) => Value | undefined;

/** A class or function by its name. Only those of the closed table have a builder. */
export class GlobalRef {
  constructor(
    /** `module.name` */
    readonly path: string,
    readonly build?: Builder,
    /** element type of a typed storage class, `null` for a class without one that is read here */
    readonly storage?: DtypeName | 'untyped' | null,
  ) {}
}

/** Something that was not built: kept as what it says, never called. */
export class Inert {
  state: Value | undefined;
  /** what APPENDS and ADDITEMS added */
  readonly items: Value[] = [];
  /** what SETITEMS added */
  readonly entries: (readonly [Value, Value])[] = [];

  constructor(
    readonly callee: GlobalRef | Inert,
    readonly args: readonly Value[],
    /** `call`: a function's result; `object`: an instance of a class; `persistent`: stored outside of the pickle */
    readonly how: 'call' | 'object' | 'persistent',
    /** byte of the pickle that asks for it */
    readonly at: number,
  ) {}

  /** `argparse.Namespace`; the outermost callee of a chain. */
  get path(): string {
    let callee: GlobalRef | Inert = this.callee;
    while (callee instanceof Inert) callee = callee.callee;
    return callee.path;
  }
}

/** A run of numbers that lies outside of the pickle. */
export interface StorageFacts {
  /** name of its class, for messages */
  readonly type: string;
  /** `undefined` for classes whose numbers are not read here */
  readonly dtype: DtypeName | 'untyped' | undefined;
  readonly key: string;
  /** elements; bytes when untyped */
  readonly length: number;
  /** byte of the pickle that names it */
  readonly at: number;
}

export class StorageValue {
  constructor(readonly facts: StorageFacts) {}
}

/** A view of a storage, in elements. Nothing has been held against the storage's real size. */
export class TensorValue {
  /** why these numbers are not the tensor, when something was done to it that is not followed here */
  problem: string | undefined;

  constructor(
    readonly storage: StorageFacts,
    readonly dtype: DtypeName | undefined,
    readonly offset: number,
    readonly shape: readonly number[],
    readonly strides: readonly number[],
    /** byte of the pickle that makes it */
    readonly at: number,
  ) {}
}

/** A placeholder, or a name that means nothing here. */
export function isInert(value: Value): value is Inert | GlobalRef {
  return (
    value instanceof Inert || (value instanceof GlobalRef && !value.build && value.storage === undefined)
  );
}
