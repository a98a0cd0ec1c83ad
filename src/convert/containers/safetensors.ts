/**
 * The safetensors container: 8 bytes of header length (u64, little-endian), a JSON header, then the tensors' bytes.
 *
 * Only the header is read here. Every rule of the format is checked before any tensor is handed out.
 *
 * @see https://github.com/huggingface/safetensors `safetensors/src/tensor.rs` (`read_metadata`, `Metadata::validate`)
 */
import type { ByteSource } from '../../bytes.js';
import { DTYPES, type Dtype } from '../../dtype.js';
import { FormatError, printable } from '../../errors.js';
import { storedTensor, type StateDict, type Tensor } from '../../tensor.js';
import { baseName, grouped, refuseChoice, shortName, type Container } from '../checkpoint.js';
import { decodeUtf8, parseJson, type Json, type JsonObject } from '../json.js';

/** The format's own limit. */
const MAX_HEADER_BYTES = 100_000_000;
/** The largest published BEiT has 415; beyond this a header is an attack on memory, not a model. */
const MAX_TENSORS = 100_000;
/** As NumPy. */
const MAX_RANK = 64;
const FIELDS: ReadonlySet<string> = new Set(['dtype', 'shape', 'data_offsets']);

/** Dtypes the format knows and this package has no use for. */
const UNSUPPORTED_DTYPES: ReadonlySet<string> = new Set([
  'F4',
  'F6_E2M3',
  'F6_E3M2',
  'F8_E8M0',
  'F8_E4M3FNUZ',
  'F8_E5M2FNUZ',
]);

export interface SafetensorsContent {
  /** in the header's order */
  readonly tensors: StateDict;
  readonly metadata: ReadonlyMap<string, string>;
}

interface Entry {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** relative to the data region, half-open */
  readonly start: number;
  readonly end: number;
}

/**
 * Read and check the header.
 *
 * @throws FormatError naming the file, the tensor and the rule that is broken
 */
export async function readSafetensors(source: ByteSource): Promise<SafetensorsContent> {
  const file = shortName(source);
  const { header, dataStart } = await readHeader(source, file);
  const metadata = readMetadata(header.get('__metadata__'), file);
  header.delete('__metadata__');
  if (header.size > MAX_TENSORS) {
    throw new FormatError(
      `${file} describes ${grouped(header.size)} tensors; at most ${grouped(MAX_TENSORS)} are read`,
    );
  }
  const entries: Entry[] = [];
  for (const [name, value] of header) entries.push(readEntry(name, value, file));
  checkCoverage(entries, source.size - dataStart, file);

  const tensors = new Map<string, Tensor>();
  for (const { name, dtype, shape, start, end } of entries) {
    tensors.set(
      name,
      storedTensor(dtype.name, shape, { source, start: dataStart + start, end: dataStart + end }),
    );
  }
  return { tensors, metadata };
}

export const safetensors: Container = {
  name: 'safetensors',
  endings: ['.safetensors'],

  matches(head) {
    // Eight printable characters are no length but text: JSON, for one, may have "{" as its ninth byte.
    return (
      head.length > 8 && head[8] === 0x7b && head.subarray(0, 8).some((byte) => byte < 0x09 || byte > 0x7e)
    );
  },

  async open(source, _, options = {}) {
    refuseChoice(source, options);
    const { tensors, metadata } = await readSafetensors(source);
    return {
      container: this.name,
      tensors,
      metadata,
      files: [{ name: baseName(source.name), source }],
      close: () => source.close(),
    };
  },
};

async function readHeader(
  source: ByteSource,
  file: string,
): Promise<{ header: JsonObject; dataStart: number }> {
  const again = { next: 'Download or copy it again.' };
  if (source.size < 8) {
    throw new FormatError(
      `${file} has ${source.size} bytes; a safetensors file starts with 8 bytes that hold its header's length`,
      again,
    );
  }
  const first = await source.read(0, 8);
  // As bigint until it is known to be small: a number would round, 32 bits would wrap.
  const declared = new DataView(first.buffer, first.byteOffset, 8).getBigUint64(0, true);
  if (declared > BigInt(MAX_HEADER_BYTES)) {
    throw new FormatError(
      `${file} says that its header has ${grouped(declared)} bytes; the format allows ${grouped(MAX_HEADER_BYTES)}`,
    );
  }
  const length = Number(declared);
  if (length > source.size - 8) {
    throw new FormatError(
      `${file} is cut off: its header has ${grouped(length)} bytes, only ${grouped(source.size - 8)} follow the length`,
      again,
    );
  }
  const subject = `${file}: the header`;
  const bytes = await source.read(8, 8 + length);
  if (bytes[0] !== 0x7b) {
    const found = length === 0 ? 'is empty' : `starts with byte 0x${bytes[0].toString(16).padStart(2, '0')}`;
    throw new FormatError(`${subject} ${found}; it must start with "{"`);
  }
  const header = parseJson(decodeUtf8(bytes, subject), {
    subject,
    integersOnly: true,
    maxValues: MAX_TENSORS * 20,
  });
  return { header: header as JsonObject, dataStart: 8 + length };
}

function readMetadata(value: Json | undefined, file: string): ReadonlyMap<string, string> {
  const metadata = new Map<string, string>();
  if (value === undefined) return metadata;
  if (!(value instanceof Map)) {
    throw new FormatError(`${file}: __metadata__ is ${kindOf(value)}; it must be an object of strings`);
  }
  for (const [key, text] of value) {
    if (typeof text !== 'string') {
      throw new FormatError(
        `${file}: __metadata__ "${printable(key)}" is ${kindOf(text)}; it must be a string`,
      );
    }
    metadata.set(key, text);
  }
  return metadata;
}

function readEntry(name: string, value: Json, file: string): Entry {
  const tensor = `${file}: tensor "${printable(name)}"`;
  if (!(value instanceof Map)) {
    throw new FormatError(
      `${tensor} is ${kindOf(value)}; it must be an object with dtype, shape and data_offsets`,
    );
  }
  for (const field of FIELDS) {
    if (!value.has(field)) throw new FormatError(`${tensor} has no ${field}`);
  }
  for (const field of value.keys()) {
    // An unknown field may change what the bytes mean (a scale, strides): ignoring it could give wrong weights.
    if (!FIELDS.has(field))
      throw new FormatError(`${tensor} has a field "${printable(field)}" that the format lacks`);
  }
  const dtype = readDtype(value.get('dtype')!, tensor);

  const shape = integers(value.get('shape')!);
  if (!shape) throw new FormatError(`${tensor}: shape must be an array of non-negative integers`);
  if (shape.length > MAX_RANK) {
    throw new FormatError(`${tensor} has ${grouped(shape.length)} dimensions; at most ${MAX_RANK} are read`);
  }
  let bytes = dtype.bytes;
  for (const side of shape) {
    bytes *= side;
    if (!Number.isSafeInteger(bytes)) {
      throw new FormatError(
        `${tensor} has the shape [${shape.join(', ')}], which is larger than any file can be`,
      );
    }
  }

  const offsets = integers(value.get('data_offsets')!);
  if (offsets?.length !== 2)
    throw new FormatError(`${tensor}: data_offsets must be two non-negative integers`);
  const [start, end] = offsets;
  if (start > end) throw new FormatError(`${tensor}: data_offsets [${start}, ${end}] run backwards`);
  if (end - start !== bytes) {
    throw new FormatError(
      `${tensor} is ${dtype.name} [${shape.join(', ')}], which takes ${grouped(bytes)} bytes; data_offsets [${start}, ${end}] hold ${grouped(end - start)}`,
    );
  }
  return { name, dtype, shape, start, end };
}

function readDtype(value: Json, tensor: string): Dtype {
  if (typeof value !== 'string')
    throw new FormatError(`${tensor}: dtype is ${kindOf(value)}; it must be a string`);
  const dtype = DTYPES.get(value);
  if (dtype) return dtype;
  throw new FormatError(
    UNSUPPORTED_DTYPES.has(value)
      ? `${tensor} has dtype ${value}, which this version does not read`
      : `${tensor} has the unknown dtype "${printable(value)}"`,
    { next: 'Weights may be F32, F16, BF16 or F64.' },
  );
}

/** The data region must be the tensors, one after another: no overlap, no hole, nothing behind them. */
function checkCoverage(entries: readonly Entry[], dataBytes: number, file: string): void {
  const sorted = [...entries].sort((a, b) => a.start - b.start || a.end - b.end);
  let at = 0;
  let previous = '';
  for (const { name, start, end } of sorted) {
    const tensor = `${file}: tensor "${printable(name)}"`;
    if (start < at) {
      throw new FormatError(
        `${tensor} starts at byte ${start} of the data, inside of tensor "${printable(previous)}"`,
      );
    }
    if (start > at)
      throw new FormatError(
        `${tensor} starts at byte ${start} of the data; bytes ${at} to ${start} belong to no tensor`,
      );
    at = end;
    previous = name;
  }
  if (at > dataBytes) {
    throw new FormatError(
      `${file} is cut off: its tensors take ${grouped(at)} bytes, the file holds ${grouped(dataBytes)} of them`,
      { next: 'Download or copy it again.' },
    );
  }
  if (at < dataBytes) {
    throw new FormatError(
      `${file} has ${grouped(dataBytes - at)} bytes behind its last tensor that belong to no tensor`,
    );
  }
}

function integers(value: Json): number[] | undefined {
  // The parser has let only non-negative safe integers pass as numbers.
  return Array.isArray(value) && value.every((item) => typeof item === 'number') ? value : undefined;
}

function kindOf(value: Json): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'an array';
  if (value instanceof Map) return 'an object';
  return `a ${typeof value}`;
}
