/**
 * A graph as an ONNX file whose size is known before its bytes: small messages are encoded with onnx-proto, the bulk
 * of every initializer stays where it is and is streamed between them.
 *
 * Field numbers and rules: ONNX `onnx/onnx.proto` (IR 8), external data: `docs/ExternalData.md`.
 */
import type { ByteRange } from '../bytes.js';
import { dtype as dtypeRow } from '../dtype.js';
import { UsageError } from '../errors.js';
import { onnx } from '../onnx-proto.js';
import { pieceLength, type Deferred, type Piece } from '../sink.js';
import { byteLength, readBytes, type Tensor } from '../tensor.js';
import type { Attribute, Graph, Initializer, Node, Port } from './graph.js';

/** IR version that belongs to an opset (ONNX `docs/Versioning.md`); the keys are the opsets that are supported. */
const IR_VERSIONS: ReadonlyMap<number, number> = new Map([
  [17, 8],
  [18, 8],
  [19, 9],
  [20, 9],
  [21, 10],
  [22, 10],
  [23, 11],
]);

export const OPSETS: readonly number[] = [...IR_VERSIONS.keys()];
export const DEFAULT_OPSET = 17;

/** @throws UsageError for an opset that is not supported */
export function irVersion(opset: number): number {
  const version = IR_VERSIONS.get(opset);
  if (version === undefined) {
    throw new UsageError(`opset ${opset} is not supported`, {
      next: `Choose ${OPSETS[0]} to ${OPSETS.at(-1)}; ${DEFAULT_OPSET} runs on the oldest runtimes.`,
    });
  }
  return version;
}

/** One protobuf message may not reach 2 GiB (protobuf's own limit, 2^31 - 1 bytes). */
export const PROTOBUF_LIMIT = 2 ** 31 - 1;
/** Smaller initializers stay in the model file: runtimes want shapes at hand, and a page per scalar helps nobody. */
const EXTERNAL_FROM_BYTES = 1024;
/** Alignment in the data file: a page for what is worth mapping, a cache line for the rest. */
const PAGE = 4096;
const PAGE_ALIGNED_FROM_BYTES = 1024 * 1024;
const LINE = 64;

export interface ModelInfo {
  readonly producerVersion: string;
  /** key and value; a value may be known only once the weights have passed by */
  readonly metadata: readonly MetadataEntry[];
}

export interface MetadataEntry {
  readonly key: string;
  /** of the same UTF-8 length as `final()` will have */
  readonly value: string;
  readonly final?: () => Promise<string>;
}

export interface OnnxLayout {
  readonly model: readonly Piece[];
  readonly modelBytes: number;
  /** the external data file, if asked for */
  readonly data?: readonly Piece[];
}

/** Where an initializer's bytes lie already, in a file beside the model; `undefined`: nowhere. */
export type Links = (
  initializer: Initializer,
) => { readonly file: string; readonly start: number } | undefined;

/**
 * @param elsewhere name of the data file to write beside the model, or links into files that are there; `undefined`:
 *   everything goes into the model's own file
 * @throws UsageError when one file would reach protobuf's limit
 */
export async function layoutOnnx(
  graph: Graph,
  info: ModelInfo,
  elsewhere?: string | Links,
): Promise<OnnxLayout> {
  const externalName = typeof elsewhere === 'string' ? elsewhere : undefined;
  const links = typeof elsewhere === 'function' ? elsewhere : undefined;
  const data: Piece[] = [];
  let dataBytes = 0;
  const initializers: Piece[] = [];
  for (const initializer of inSourceOrder(graph.initializers)) {
    const bytes = byteLength(initializer.tensor);
    const linked = bytes < EXTERNAL_FROM_BYTES ? undefined : links?.(initializer);
    if (linked) {
      initializers.push(externalReference(initializer, linked.file, linked.start, bytes));
      continue;
    }
    if (externalName === undefined || bytes < EXTERNAL_FROM_BYTES) {
      initializers.push(...(await embedded(initializer, bytes)));
      continue;
    }
    const alignment = bytes >= PAGE_ALIGNED_FROM_BYTES ? PAGE : LINE;
    const start = Math.ceil(dataBytes / alignment) * alignment;
    if (start > dataBytes) data.push(new Uint8Array(start - dataBytes));
    data.push({ tensor: initializer.tensor });
    dataBytes = start + bytes;
    initializers.push(externalReference(initializer, externalName, start, bytes));
  }

  const graphHead = onnx.GraphProto.encode({
    name: graph.name,
    node: graph.nodes.map(nodeProto),
    input: graph.inputs.map(portProto),
    output: graph.outputs.map(portProto),
  }).finish();
  const graphBytes = graphHead.length + initializers.reduce((sum, piece) => sum + pieceLength(piece), 0);

  const head = onnx.ModelProto.encode({
    irVersion: irVersion(graph.opset),
    producerName: 'convert-beit',
    producerVersion: info.producerVersion,
    opsetImport: [
      { domain: '', version: graph.opset },
      // ONNX Runtime's own operators have one version.
      ...[...new Set(graph.nodes.flatMap((node) => node.domain ?? []))].map((domain) => ({
        domain,
        version: 1,
      })),
    ],
  }).finish();
  // Metadata comes last, so that it can hold the digest of the weights that were copied before it.
  const model: Piece[] = [
    head,
    tag(7, graphBytes),
    graphHead,
    ...initializers,
    ...info.metadata.map(metadataPiece),
  ];
  const modelBytes = model.reduce((sum, piece) => sum + pieceLength(piece), 0);
  if (modelBytes > PROTOBUF_LIMIT) {
    throw new UsageError(`one ONNX file of ${modelBytes} bytes is beyond protobuf's limit of 2 GiB`, {
      next: 'Use --external-data.',
    });
  }
  return { model, modelBytes, ...(externalName === undefined ? {} : { data }) };
}

/** Bytes of all initializers together: decides whether one file can hold them. */
export function initializerBytes(graph: Graph): number {
  return graph.initializers.reduce((sum, { tensor }) => sum + byteLength(tensor), 0);
}

/**
 * Constants first, then weights in the order in which their sources store them: reading stays sequential, and each
 * source is hashed while it is copied.
 */
function inSourceOrder(initializers: readonly Initializer[]): Initializer[] {
  const place = ({ origin, tensor }: Initializer): ByteRange | undefined => (origin ?? tensor).stored;
  const constants = initializers.filter((initializer) => !place(initializer));
  const stored = initializers.filter((initializer) => place(initializer));
  const rank = new Map<unknown, number>();
  for (const initializer of stored) {
    const { source } = place(initializer)!;
    if (!rank.has(source)) rank.set(source, rank.size);
  }
  stored.sort((a, b) => {
    const [left, right] = [place(a)!, place(b)!];
    return rank.get(left.source)! - rank.get(right.source)! || left.start - right.start;
  });
  return [...constants, ...stored];
}

async function embedded({ name, tensor, origin }: Initializer, bytes: number): Promise<Piece[]> {
  const head = onnx.TensorProto.encode(tensorHead(name, tensor)).finish();
  if (bytes < EXTERNAL_FROM_BYTES && !tensor.stored && !origin) {
    const whole = await readBytes(tensor);
    const message = concat([head, tag(9, whole.length), whole]);
    return [tag(5, message.length), message];
  }
  const raw = tag(9, bytes);
  return [concat([tag(5, head.length + raw.length + bytes), head, raw]), { tensor }];
}

function externalReference(
  { name, tensor }: Initializer,
  file: string,
  start: number,
  bytes: number,
): Uint8Array {
  const message = onnx.TensorProto.encode({
    ...tensorHead(name, tensor),
    dataLocation: onnx.TensorProto.DataLocation.EXTERNAL,
    externalData: [
      { key: 'location', value: file },
      { key: 'offset', value: String(start) },
      { key: 'length', value: String(bytes) },
    ],
  }).finish();
  return concat([tag(5, message.length), message]);
}

function tensorHead(name: string, tensor: Tensor): { name: string; dims: number[]; dataType: number } {
  return { name, dims: [...tensor.shape], dataType: dtypeRow(tensor.dtype).onnx! };
}

function nodeProto(node: Node): Parameters<typeof onnx.NodeProto.encode>[0] {
  return {
    opType: node.type,
    name: node.name,
    ...(node.domain && { domain: node.domain }),
    input: [...node.inputs],
    output: [...node.outputs],
    attribute: [...node.attributes].map(([name, attribute]) => attributeProto(name, attribute)),
  };
}

function attributeProto(
  name: string,
  attribute: Attribute,
): Parameters<typeof onnx.AttributeProto.encode>[0] {
  const { AttributeType } = onnx.AttributeProto;
  switch (attribute.kind) {
    case 'int':
      return { name, type: AttributeType.INT, i: attribute.value };
    case 'ints':
      return { name, type: AttributeType.INTS, ints: [...attribute.value] };
    case 'float':
      return { name, type: AttributeType.FLOAT, f: attribute.value };
    case 'string':
      return { name, type: AttributeType.STRING, s: new TextEncoder().encode(attribute.value) };
  }
}

function portProto({ name, shape, dtype }: Port): Parameters<typeof onnx.ValueInfoProto.encode>[0] {
  const dim = shape.map((side) => (typeof side === 'number' ? { dimValue: side } : { dimParam: side }));
  const { BOOL, FLOAT } = onnx.TensorProto.DataType;
  const elemType = dtype === 'bool' ? BOOL : FLOAT;
  return { name, type: { tensorType: { elemType, shape: { dim } } } };
}

function metadataPiece(entry: MetadataEntry): Piece {
  const encode = (value: string): Uint8Array => {
    const message = onnx.StringStringEntryProto.encode({ key: entry.key, value }).finish();
    return concat([tag(14, message.length), message]);
  };
  const bytes = encode(entry.value);
  const { final } = entry;
  if (!final) return bytes;
  const deferred: Deferred = { length: bytes.length, bytes: async () => encode(await final()) };
  return deferred;
}

/** Key and length of a length-delimited field. Lengths are doubles: no bitwise arithmetic. */
function tag(field: number, length: number): Uint8Array {
  const out = [field * 8 + 2];
  let rest = length;
  while (rest >= 128) {
    out.push((rest % 128) + 128);
    rest = Math.floor(rest / 128);
  }
  out.push(rest);
  return Uint8Array.from(out);
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
