/** Editing a written ONNX file: decode all of it, change something, encode again. */
import { readFileSync, writeFileSync } from 'node:fs';
import onnxProto from '#onnx-proto';

const { onnx } = onnxProto;

export type Model = ReturnType<typeof onnx.ModelProto.decode>;
export type Node = ReturnType<typeof onnx.NodeProto.decode>;
type NodeFields = NonNullable<Parameters<typeof onnx.NodeProto.create>[0]>;
type Tensor = NonNullable<NonNullable<Model['graph']>['initializer']>[number];

export class OnnxEditor {
  readonly model: Model;

  constructor(bytes: Uint8Array) {
    // Not a Buffer: its slices are views.
    this.model = onnx.ModelProto.decode(new Uint8Array(bytes));
  }

  get nodes(): Node[] {
    return this.model.graph!.node as Node[];
  }

  set nodes(nodes: Node[]) {
    this.model.graph!.node = nodes;
  }

  get initializers(): Tensor[] {
    return this.model.graph!.initializer!;
  }

  initializer(name: string): Tensor {
    const found = this.initializers.find((tensor) => tensor.name === name);
    if (!found) throw new Error(`no initializer ${name}`);
    return found;
  }

  /** A copy: change it and hand it to {@link setFloats}. */
  floats(name: string): Float32Array {
    return new Float32Array(this.initializer(name).rawData!.slice().buffer);
  }

  setFloats(name: string, values: Float32Array): void {
    this.initializer(name).rawData = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  }

  addFloats(name: string, dims: number[], values: Float32Array): string {
    this.initializers.push({ name, dims, dataType: 1, rawData: new Uint8Array(values.buffer) });
    return name;
  }

  addInt64(name: string, values: readonly number[]): string {
    const raw = new Uint8Array(BigInt64Array.from(values, BigInt).buffer);
    this.initializers.push({ name, dims: [values.length], dataType: 7, rawData: raw });
    return name;
  }

  /** Values of an int64 initializer, `undefined` for anything else. */
  int64(name: string): number[] | undefined {
    const found = this.initializers.find((tensor) => tensor.name === name);
    if (found?.dataType !== 7 || !found.rawData) return undefined;
    return Array.from(new BigInt64Array(found.rawData.slice().buffer), Number);
  }

  removeInitializer(name: string): void {
    this.initializer(name);
    this.model.graph!.initializer = this.initializers.filter((tensor) => tensor.name !== name);
  }

  ofType(type: string): Node[] {
    return this.nodes.filter((node) => node.opType === type);
  }

  /** The only node whose output has this name, or whose inputs include it. */
  producer(value: string): Node {
    return only(
      this.nodes.filter((node) => node.output!.includes(value)),
      `producer of ${value}`,
    );
  }

  consumers(value: string): Node[] {
    return this.nodes.filter((node) => node.input!.includes(value));
  }

  consumer(value: string): Node {
    return only(this.consumers(value), `consumer of ${value}`);
  }

  replaceInput(node: Node, before: string, after: string): void {
    if (!node.input!.includes(before)) throw new Error(`${node.name} does not use ${before}`);
    node.input = node.input!.map((name) => (name === before ? after : name));
  }

  /** Take a node out; whoever used its output uses `instead`. */
  bypass(node: Node, instead: string): void {
    const [gone] = node.output!;
    this.nodes = this.nodes.filter((other) => other !== node);
    for (const user of this.nodes) user.input = user.input!.map((name) => (name === gone ? instead : name));
  }

  insertBefore(node: Node, ...fresh: NodeFields[]): void {
    const nodes = this.nodes;
    nodes.splice(nodes.indexOf(node), 0, ...fresh.map((each) => onnx.NodeProto.create(each)));
  }

  append(...fresh: NodeFields[]): void {
    this.nodes = [...this.nodes, ...fresh.map((each) => onnx.NodeProto.create(each))];
  }

  encode(): Uint8Array {
    return onnx.ModelProto.encode(this.model).finish();
  }
}

export function editOnnx(from: string, to: string, edit: (editor: OnnxEditor) => void): void {
  const editor = new OnnxEditor(readFileSync(from));
  edit(editor);
  writeFileSync(to, editor.encode());
}

export function only<T>(found: readonly T[], what: string): T {
  if (found.length !== 1) throw new Error(`${what}: ${found.length}`);
  return found[0];
}
