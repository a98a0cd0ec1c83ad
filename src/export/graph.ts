/**
 * Builds an ONNX graph node by node; knows nothing of BEiT and nothing of protobuf.
 */
import { ConvertBeitError } from '../errors.js';
import { bytesOf, memoryTensor, type Tensor } from '../tensor.js';

/** The name of something that flows between nodes. */
export interface Value {
  readonly name: string;
}

export type Attribute =
  | { readonly kind: 'int'; readonly value: number }
  | { readonly kind: 'ints'; readonly value: readonly number[] }
  | { readonly kind: 'float'; readonly value: number }
  | { readonly kind: 'string'; readonly value: string };

export interface Node {
  readonly type: string;
  readonly name: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: ReadonlyMap<string, Attribute>;
  /** absent: the standard operators */
  readonly domain?: 'com.microsoft';
}

/** A number that the graph may compute instead: see {@link GraphBuilder.define}. */
export interface Size {
  readonly name: string;
  /** where it is fixed */
  readonly value: number;
}

export interface Initializer {
  readonly name: string;
  readonly tensor: Tensor;
  /** what it is made from, where that is not `tensor` itself; decides its place in the file, so that reading is sequential */
  readonly origin?: Tensor;
}

/** A graph input or output; a string is a symbolic dimension. */
export interface Port {
  readonly name: string;
  /** float32 when absent */
  readonly dtype?: 'bool';
  readonly shape: readonly (number | string)[];
}

export interface Graph {
  readonly name: string;
  readonly opset: number;
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  readonly nodes: readonly Node[];
  readonly initializers: readonly Initializer[];
}

export type Attributes = Readonly<Record<string, Attribute>>;

export const int = (value: number): Attribute => ({ kind: 'int', value });
export const ints = (...value: readonly number[]): Attribute => ({ kind: 'ints', value });
export const string = (value: string): Attribute => ({ kind: 'string', value });
export const float = (value: number): Attribute => ({ kind: 'float', value });

export class GraphBuilder {
  readonly opset: number;
  readonly #nodes: Node[] = [];
  readonly #initializers = new Map<string, Initializer>();
  readonly #names = new Set<string>();
  readonly #inputs: Port[] = [];
  readonly #outputs: Port[] = [];
  readonly #defined = new Map<string, Value>();
  readonly #vectors = new Map<string, Value>();
  #scope = '';

  constructor(opset: number) {
    this.opset = opset;
  }

  /** Prefix the names of everything built inside, so that a graph viewer shows which block a node belongs to. */
  scoped<T>(scope: string, build: () => T): T {
    const before = this.#scope;
    this.#scope = `${before}${scope}/`;
    try {
      return build();
    } finally {
      this.#scope = before;
    }
  }

  input(name: string, shape: Port['shape'], dtype?: Port['dtype']): Value {
    this.#inputs.push({ name: this.#claim(name), shape, ...(dtype && { dtype }) });
    return { name };
  }

  /** Make `value` an output of the graph under `name`. */
  output(value: Value, name: string, shape: Port['shape']): void {
    this.#outputs.push({ name, shape });
    this.#claim(name);
    const index = this.#nodes.findIndex((node) => node.outputs.includes(value.name));
    if (index < 0) throw new ConvertBeitError(`graph output ${name} is computed by no node`);
    const node = this.#nodes[index];
    const rename = (other: string): string => (other === value.name ? name : other);
    this.#nodes[index] = { ...node, outputs: node.outputs.map(rename) };
    for (let i = 0; i < this.#nodes.length; i++) {
      const user = this.#nodes[i];
      if (user.inputs.includes(value.name)) this.#nodes[i] = { ...user, inputs: user.inputs.map(rename) };
    }
  }

  /** A weight under its own name; asking again for the same name gives the same initializer. */
  initializer(name: string, tensor: Tensor): Value {
    if (!this.#initializers.has(name)) this.#initializers.set(this.#claim(name), { name, tensor });
    return { name };
  }

  /** From here on `value` (for a {@link Size}: int64 `[1]`) stands for what is asked for by this name. */
  define(name: string, value: Value): void {
    this.#defined.set(name, value);
  }

  defined(name: string): Value | undefined {
    return this.#defined.get(name);
  }

  /** Built by the first who asks, in no scope, because everybody who asks for the same name shares it. */
  once(name: string, build: () => Value): Value {
    const known = this.#defined.get(name);
    if (known) return known;
    const before = this.#scope;
    this.#scope = '';
    try {
      const value = build();
      this.#defined.set(name, value);
      return value;
    } finally {
      this.#scope = before;
    }
  }

  /** A small int64 vector (shapes, axes), shared by content: a constant, unless it has a size that is computed. */
  int64(values: readonly (number | Size)[]): Value {
    if (values.some((value) => typeof value !== 'number' && this.#defined.has(value.name)))
      return this.#vector(values);
    const numbers = values.map((value) => (typeof value === 'number' ? value : value.value));
    const array = BigInt64Array.from(numbers, BigInt);
    return this.#constant(`const.i64.${numbers.join('_')}`, () =>
      memoryTensor('I64', [numbers.length], bytesOf(array)),
    );
  }

  #vector(values: readonly (number | Size)[]): Value {
    const parts: Value[] = [];
    let numbers: (number | Size)[] = [];
    const flush = (): void => {
      if (numbers.length > 0) parts.push(this.int64(numbers));
      numbers = [];
    };
    for (const value of values) {
      const computed = typeof value === 'number' ? undefined : this.#defined.get(value.name);
      if (computed) {
        flush();
        parts.push(computed);
      } else numbers.push(value);
    }
    flush();
    if (parts.length === 1) return parts[0];
    const key = parts.map(({ name }) => name).join(' ');
    const known = this.#vectors.get(key) ?? this.op('Concat', parts, { axis: int(0) }, 'sizes');
    this.#vectors.set(key, known);
    return known;
  }

  /** A float32 scalar constant, shared by content. */
  scalar(value: number): Value {
    return this.#constant(`const.f32.${value}`, () =>
      memoryTensor('F32', [], bytesOf(Float32Array.of(value))),
    );
  }

  /** One node with one output. `label` names it inside the current scope. */
  op(type: string, inputs: readonly (Value | null)[], attributes: Attributes = {}, label = type): Value {
    return this.ops(type, inputs, 1, attributes, label)[0];
  }

  /** One node with `count` outputs. */
  ops(
    type: string,
    inputs: readonly (Value | null)[],
    count: number,
    attributes: Attributes = {},
    label = type,
  ): Value[] {
    const name = this.#fresh(`${this.#scope}${label}`);
    const outputs =
      count === 1
        ? [this.#claim(`${name}:0`)]
        : Array.from({ length: count }, (_, i) => this.#claim(`${name}:${i}`));
    this.#nodes.push({
      type,
      name,
      inputs: inputs.map((input) => input?.name ?? ''),
      outputs,
      attributes: new Map(Object.entries(attributes)),
    });
    return outputs.map((output) => ({ name: output }));
  }

  build(name: string): Graph {
    return {
      name,
      opset: this.opset,
      inputs: this.#inputs,
      outputs: this.#outputs,
      nodes: this.#nodes,
      initializers: [...this.#initializers.values()],
    };
  }

  #constant(name: string, make: () => Tensor): Value {
    return this.#initializers.has(name) ? { name } : this.initializer(name, make());
  }

  #fresh(name: string): string {
    let candidate = name;
    for (let i = 2; this.#names.has(candidate); i++) candidate = `${name}_${i}`;
    return this.#claim(candidate);
  }

  #claim(name: string): string {
    if (this.#names.has(name)) throw new ConvertBeitError(`two things in the graph are called ${name}`);
    this.#names.add(name);
    return name;
  }
}
