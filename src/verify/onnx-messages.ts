/**
 * The small messages of an ONNX file: nodes, attributes, ports, key-value pairs. Field numbers: ONNX `onnx/onnx.proto`.
 */
import {
  contentOf,
  fieldsOf,
  varintsOf,
  wireError,
  type Field,
  type Message,
  type WireType,
} from './protobuf.js';

/** Values of `AttributeProto`; kinds that a classifier has no use for are named, not read. */
export type OnnxAttribute =
  | { readonly kind: 'float'; readonly value: number }
  | { readonly kind: 'int'; readonly value: number }
  | { readonly kind: 'string'; readonly value: string }
  | { readonly kind: 'ints'; readonly value: readonly number[] }
  | { readonly kind: 'floats'; readonly value: readonly number[] }
  /** `bytes`: size of the encoded tensor */
  | { readonly kind: 'tensor'; readonly bytes: number }
  | { readonly kind: 'other'; readonly what: string };

export interface OnnxNode {
  readonly type: string;
  /** '' is the standard domain */
  readonly domain: string;
  readonly name: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: ReadonlyMap<string, OnnxAttribute>;
}

/** A graph input or output. */
export interface OnnxPort {
  readonly name: string;
  /** TensorProto.DataType, `undefined` when it is no tensor */
  readonly dataType: number | undefined;
  /** number = fixed, string = symbolic, `null` = says nothing; `undefined` = no shape at all */
  readonly shape: readonly (number | string | null)[] | undefined;
}

/** Bounds what a hostile file can make us remember. A BEiT-large has 8 thousand items; a labelled one 2 MB of text. */
export class Budget {
  #items = 500_000;
  #bytes = 32 * 1024 * 1024;

  item(message: Message): void {
    this.#items -= 1;
    if (this.#items < 0)
      throw wireError(message.file, message.offset, 'there are more than 500,000 nodes and names');
  }

  bytes(file: string, { start, end }: Pick<Field, 'start' | 'end'>): void {
    this.#bytes -= end - start;
    if (this.#bytes < 0) throw wireError(file, start, 'nodes and texts take more than 32 MB');
  }
}

const UTF8 = new TextDecoder('utf-8', { fatal: true });

export function expectWire(file: string, field: Field, ...wires: readonly WireType[]): void {
  if (!wires.includes(field.wire)) {
    throw wireError(
      file,
      field.start,
      `field ${field.number} has wire type ${field.wire}, not ${wires.join(' or ')}`,
    );
  }
}

export function textOf(message: Message, field: Field): string {
  expectWire(message.file, field, 2);
  try {
    return UTF8.decode(contentOf(message, field).bytes);
  } catch {
    throw wireError(message.file, field.start, 'a text is not UTF-8');
  }
}

/** A varint as a signed 64-bit integer; what a double can't hold exactly is an error. */
export function integerOf(message: Pick<Message, 'file'>, field: Field): number {
  expectWire(message.file, field, 0);
  return exact(message.file, field.start, field.value);
}

export function exact(file: string, offset: number, value: bigint): number {
  const signed = Number(BigInt.asIntN(64, value));
  // INT64_MIN and INT64_MAX are used as "from the start" and "to the end"; rounding them does not matter.
  if (!Number.isSafeInteger(signed) && Math.abs(signed) < 2 ** 63) {
    throw wireError(file, offset, `the integer ${BigInt.asIntN(64, value)} is beyond 2^53`);
  }
  return signed;
}

/** StringStringEntryProto, also OperatorSetIdProto's domain. */
export function readEntry(message: Message): { key: string; value: string } {
  let key = '';
  let value = '';
  for (const field of fieldsOf(message)) {
    if (field.number === 1) key = textOf(message, field);
    else if (field.number === 2) value = textOf(message, field);
  }
  return { key, value };
}

export function readOpset(message: Message): { domain: string; version: number } {
  let domain = '';
  let version = 0;
  for (const field of fieldsOf(message)) {
    if (field.number === 1) domain = textOf(message, field);
    else if (field.number === 2) version = integerOf(message, field);
  }
  return { domain, version };
}

export function readNode(message: Message, budget: Budget): OnnxNode {
  let type = '';
  let domain = '';
  let name = '';
  const inputs: string[] = [];
  const outputs: string[] = [];
  const attributes = new Map<string, OnnxAttribute>();
  for (const field of fieldsOf(message)) {
    budget.item(message);
    if (field.number === 1) inputs.push(textOf(message, field));
    else if (field.number === 2) outputs.push(textOf(message, field));
    else if (field.number === 3) name = textOf(message, field);
    else if (field.number === 4) type = textOf(message, field);
    else if (field.number === 7) domain = textOf(message, field);
    else if (field.number === 5) {
      expectWire(message.file, field, 2);
      const [key, attribute] = readAttribute(contentOf(message, field), budget);
      if (attributes.has(key))
        throw wireError(message.file, field.start, `a node has two attributes of one name`);
      attributes.set(key, attribute);
    }
  }
  return { type, domain, name, inputs, outputs, attributes };
}

/** What an attribute can hold besides numbers and text, by field number. */
const OTHER_KINDS: ReadonlyMap<number, string> = new Map([
  [6, 'a subgraph'],
  [9, 'strings'],
  [10, 'tensors'],
  [11, 'subgraphs'],
  [14, 'a type'],
  [15, 'types'],
  [21, 'a reference'],
  [22, 'a sparse tensor'],
  [23, 'sparse tensors'],
]);

/** AttributeProto.AttributeType, for the kinds that are read. proto3 writers leave a zero value out: the type tells. */
const FLOAT = 1;
const INT = 2;
const STRING = 3;
const FLOATS = 6;
const INTS = 7;

function readAttribute(message: Message, budget: Budget): [string, OnnxAttribute] {
  let name = '';
  let type = 0;
  let found: OnnxAttribute | undefined;
  const ints: number[] = [];
  const floats: number[] = [];
  for (const field of fieldsOf(message)) {
    budget.item(message);
    const { number } = field;
    if (number === 1) name = textOf(message, field);
    else if (number === 20) type = integerOf(message, field);
    else if (number === 2) found = { kind: 'float', value: float32s(message, field, budget)[0] };
    else if (number === 3) found = { kind: 'int', value: integerOf(message, field) };
    else if (number === 4) found = { kind: 'string', value: textOf(message, field) };
    else if (number === 5) found = { kind: 'tensor', bytes: field.end - field.start };
    else if (number === 7) floats.push(...float32s(message, field, budget));
    else if (number === 8) ints.push(...integers(message, field, budget));
    else if (OTHER_KINDS.has(number)) found = { kind: 'other', what: OTHER_KINDS.get(number)! };
  }
  if (type === INTS || ints.length > 0) found = { kind: 'ints', value: ints };
  else if (type === FLOATS || floats.length > 0) found = { kind: 'floats', value: floats };
  else if (!found && type === FLOAT) found = { kind: 'float', value: 0 };
  else if (!found && type === INT) found = { kind: 'int', value: 0 };
  else if (!found && type === STRING) found = { kind: 'string', value: '' };
  return [name, found ?? { kind: 'other', what: 'nothing' }];
}

function float32s(message: Message, field: Field, budget: Budget): number[] {
  expectWire(message.file, field, 5, 2);
  const { bytes } = contentOf(message, field);
  if (bytes.length % 4 !== 0) throw wireError(message.file, field.start, 'a float list is cut off');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const out: number[] = [];
  for (let at = 0; at < bytes.length; at += 4) {
    budget.item(message);
    out.push(view.getFloat32(at, true));
  }
  if (field.number === 2 && out.length !== 1)
    throw wireError(message.file, field.start, 'is no single float');
  return out;
}

function integers(message: Message, field: Field, budget: Budget): number[] {
  if (field.wire === 0) return [integerOf(message, field)];
  expectWire(message.file, field, 2);
  const out: number[] = [];
  for (const value of varintsOf(contentOf(message, field))) {
    budget.item(message);
    out.push(exact(message.file, field.start, value));
  }
  return out;
}

/** ValueInfoProto. */
export function readPort(message: Message, budget: Budget): OnnxPort {
  let name = '';
  let dataType: number | undefined;
  let shape: (number | string | null)[] | undefined;
  for (const field of fieldsOf(message)) {
    if (field.number === 1) name = textOf(message, field);
    if (field.number !== 2) continue;
    for (const { inner, parent } of inside(message, field, 1)) {
      if (inner.number === 1) dataType = integerOf(parent, inner);
      if (inner.number !== 2) continue;
      shape = [];
      expectWire(parent.file, inner, 2);
      const list = contentOf(parent, inner);
      for (const dim of fieldsOf(list)) {
        budget.item(list);
        if (dim.number === 1) shape.push(readDimension(contentOf(list, dim)));
      }
    }
  }
  return { name, dataType, shape };
}

/** Fields of the messages in field `number` of the message that `field` holds. */
function* inside(
  message: Message,
  field: Field,
  number: number,
): Generator<{ inner: Field; parent: Message }> {
  expectWire(message.file, field, 2);
  const outer = contentOf(message, field);
  for (const middle of fieldsOf(outer)) {
    if (middle.number !== number) continue;
    expectWire(message.file, middle, 2);
    const parent = contentOf(outer, middle);
    for (const inner of fieldsOf(parent)) yield { inner, parent };
  }
}

function readDimension(message: Message): number | string | null {
  let found: number | string | null = null;
  for (const field of fieldsOf(message)) {
    if (field.number === 1) found = integerOf(message, field);
    else if (field.number === 2) found = textOf(message, field);
  }
  return found;
}
