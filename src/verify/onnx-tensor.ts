/**
 * Initializers of an ONNX file: name, dtype, dims and where the bytes lie. Bulk bytes are never read here.
 *
 * @see ONNX `onnx/onnx.proto` (TensorProto), `docs/ExternalData.md`
 */
import { memorySource, type ByteRange, type ByteSource } from '../bytes.js';
import { DTYPES, type Dtype } from '../dtype.js';
import { FormatError, printable } from '../errors.js';
import { bytesOf } from '../tensor.js';
import { exact, expectWire, integerOf, readEntry, textOf, type Budget } from './onnx-messages.js';
import { varintsOf, wireError, type Field, type WireReader } from './protobuf.js';

export interface OnnxInitializer {
  readonly name: string;
  /** `undefined` for a type this package has no row for (strings, 4-bit types) */
  readonly dtype: Dtype | undefined;
  /** TensorProto.DataType as it stands in the file */
  readonly dataType: number;
  readonly dims: readonly number[];
  /** the elements, row-major, little-endian: in the model file, in `file`, or (tiny typed lists) in memory */
  readonly stored: ByteRange;
  /** name of the external data file */
  readonly file?: string;
}

/** Opens a data file beside the model. The name has been checked. */
export type OpenDataFile = (name: string) => Promise<ByteSource>;

const MAX_RANK = 64;
/** Typed lists are read into memory; weights are raw bytes. */
const MAX_LIST_BYTES = 1024 * 1024;
/** Names, texts and external references. */
const MAX_TEXT_BYTES = 64 * 1024;
const EXTERNAL = 1;

const DTYPE_BY_ONNX: ReadonlyMap<number, Dtype> = new Map(
  [...DTYPES.values()].filter(({ onnx }) => onnx !== null).map((row) => [row.onnx!, row]),
);

/** Typed lists by field number: which data types each may hold (TensorProto's comments). */
const LISTS: ReadonlyMap<number, { name: string; holds: readonly string[] }> = new Map([
  [4, { name: 'float_data', holds: ['F32', 'C64'] }],
  [
    5,
    {
      name: 'int32_data',
      holds: ['I32', 'I16', 'I8', 'U16', 'U8', 'BOOL', 'F16', 'BF16', 'F8_E4M3', 'F8_E5M2'],
    },
  ],
  [7, { name: 'int64_data', holds: ['I64'] }],
  [10, { name: 'double_data', holds: ['F64'] }],
  [11, { name: 'uint64_data', holds: ['U32', 'U64'] }],
]);

interface Parts {
  name: string;
  dataType: number;
  dims: number[];
  raw?: Field;
  location: number;
  readonly external: Map<string, string>;
  list?: { field: number; values: bigint[]; bytes: Uint8Array[] };
}

/**
 * @param range of the TensorProto in the file
 * @throws FormatError naming the tensor and the rule that is broken
 */
export async function readInitializer(
  reader: WireReader,
  range: Field,
  model: ByteSource,
  budget: Budget,
  openData: OpenDataFile,
): Promise<OnnxInitializer> {
  const parts = await readParts(reader, range, budget);
  const dtype = DTYPE_BY_ONNX.get(parts.dataType);
  const subject = `${reader.file}: initializer "${printable(parts.name)}"`;
  const external = parts.location === EXTERNAL;
  if (external && (parts.raw || parts.list))
    throw new FormatError(`${subject} has bytes here and in another file`);
  if (parts.raw && parts.list) throw new FormatError(`${subject} has raw_data and a typed list`);

  let stored: ByteRange;
  if (external) stored = await externalRange(parts.external, subject, openData);
  else if (parts.raw) stored = { source: model, start: parts.raw.start, end: parts.raw.end };
  else stored = listRange(parts, dtype, subject);

  if (dtype) {
    const needed = parts.dims.reduce((product, side) => product * side, dtype.bytes);
    if (stored.end - stored.start !== needed) {
      throw new FormatError(
        `${subject} has ${stored.end - stored.start} bytes; ${dtype.name.toLowerCase()}[${parts.dims.join(', ')}] needs ${needed}`,
      );
    }
  }
  const { name, dataType, dims } = parts;
  return {
    name,
    dtype,
    dataType,
    dims,
    stored,
    ...(external ? { file: parts.external.get('location')! } : {}),
  };
}

async function readParts(reader: WireReader, range: Field, budget: Budget): Promise<Parts> {
  const { file } = reader;
  budget.item({ file, offset: range.start, bytes: new Uint8Array(0) });
  const parts: Parts = { name: '', dataType: 0, dims: [], location: 0, external: new Map() };
  for await (const field of reader.fields(range.start, range.end)) {
    const { number, start, end } = field;
    const small = async (limit: number): ReturnType<WireReader['message']> => {
      expectWire(file, field, 2);
      if (end - start > limit)
        throw wireError(file, start, `field ${number} of an initializer has ${end - start} bytes`);
      budget.bytes(file, field);
      return await reader.message(field);
    };
    if (number === 1) {
      if (field.wire === 0) parts.dims.push(integerOf(reader, field));
      else
        for (const value of varintsOf(await small(MAX_RANK * 10))) parts.dims.push(exact(file, start, value));
      if (parts.dims.length > MAX_RANK)
        throw wireError(file, start, `an initializer has more than ${MAX_RANK} dimensions`);
    } else if (number === 2) parts.dataType = integerOf(reader, field);
    else if (number === 8) parts.name = decode(await small(MAX_TEXT_BYTES));
    else if (number === 9) {
      expectWire(file, field, 2);
      if (parts.raw) throw wireError(file, start, 'an initializer has raw_data twice');
      parts.raw = field;
    } else if (number === 13) {
      const { key, value } = readEntry(await small(MAX_TEXT_BYTES));
      if (parts.external.has(key))
        throw wireError(file, start, `external_data has two entries "${printable(key)}"`);
      parts.external.set(key, value);
    } else if (number === 14) parts.location = integerOf(reader, field);
    else if (LISTS.has(number)) {
      parts.list ??= { field: number, values: [], bytes: [] };
      if (parts.list.field !== number) throw wireError(file, start, 'an initializer has two typed lists');
      if (field.wire === 2) {
        const message = await small(MAX_LIST_BYTES);
        if (number === 4 || number === 10) parts.list.bytes.push(message.bytes);
        else {
          for (const value of varintsOf(message)) {
            budget.item(message);
            parts.list.values.push(value);
          }
        }
      } else {
        budget.item({ file, offset: start, bytes: new Uint8Array(0) });
        if (field.wire === 0) parts.list.values.push(field.value);
        else parts.list.bytes.push((await reader.message(field)).bytes);
      }
    }
  }
  if (parts.dims.some((side) => side < 0) || !Number.isSafeInteger(parts.dims.reduce((a, b) => a * b, 8))) {
    throw wireError(
      file,
      range.start,
      `initializer "${printable(parts.name)}" has dims [${parts.dims.join(', ')}]`,
    );
  }
  return parts;
}

function decode(message: Parameters<typeof textOf>[0]): string {
  const { offset, bytes } = message;
  return textOf(message, { number: 8, wire: 2, start: offset, end: offset + bytes.length, value: 0n });
}

/** Elements that stand as a typed list, as the bytes they would have as raw_data. */
function listRange(parts: Parts, dtype: Dtype | undefined, subject: string): ByteRange {
  const { list } = parts;
  if (!list) return { source: memorySource(subject, new Uint8Array(0)), start: 0, end: 0 };
  const { name, holds } = LISTS.get(list.field)!;
  if (!dtype || !holds.includes(dtype.name)) {
    throw new FormatError(`${subject} has data type ${dtype?.name ?? parts.dataType} in ${name}`);
  }
  const bytes =
    list.values.length > 0
      ? integerBytes(list.values, dtype.bytes)
      : new Uint8Array(Buffer.concat(list.bytes));
  return { source: memorySource(subject, bytes), start: 0, end: bytes.length };
}

function integerBytes(values: readonly bigint[], width: number): Uint8Array {
  const words = bytesOf(BigUint64Array.from(values, (value) => BigInt.asUintN(64, value)));
  const out = new Uint8Array(values.length * width);
  for (let i = 0; i < values.length; i++) out.set(words.subarray(i * 8, i * 8 + width), i * width);
  return out;
}

/** A reference to a data file, held to ONNX's rules: a plain name beside the model, a range inside the file. */
async function externalRange(
  entries: ReadonlyMap<string, string>,
  subject: string,
  openData: OpenDataFile,
): Promise<ByteRange> {
  const location = entries.get('location');
  if (location === undefined) throw new FormatError(`${subject} is external but names no file`);
  if (!isPlainFileName(location)) {
    throw new FormatError(
      `${subject} lies in "${printable(location)}"; only a plain file name beside the model is allowed`,
    );
  }
  const source = await openData(location);
  const start = wholeNumber(entries.get('offset') ?? '0', 'offset', subject);
  const length = wholeNumber(
    entries.get('length') ?? String(Math.max(0, source.size - start)),
    'length',
    subject,
  );
  if (start + length > source.size) {
    throw new FormatError(
      `${subject} is bytes [${start}, ${start + length}) of ${printable(location)}, which has ${source.size}`,
    );
  }
  return { source, start, end: start + length };
}

function isPlainFileName(name: string): boolean {
  // Colons make drives and alternate streams on Windows.
  return name !== '' && name !== '.' && name !== '..' && name.length <= 255 && !/[/\\:\0]/.test(name);
}

function wholeNumber(text: string, key: string, subject: string): number {
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value)) {
    throw new FormatError(`${subject}: external_data ${key} is "${printable(text)}", not a byte count`);
  }
  return value;
}
