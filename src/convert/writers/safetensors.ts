/**
 * A safetensors file as pieces to write: header, then the tensors' bytes.
 *
 * @see https://github.com/huggingface/safetensors `safetensors/src/tensor.rs` (`prepare`): header padded with blanks to
 *   8 bytes, wide elements first, so that every tensor lies at a multiple of its element's width
 */
import { dtype } from '../../dtype.js';
import { byteLength, type StateDict, type Tensor } from '../../tensor.js';
import type { Piece } from '../../sink.js';

/** A header whose text is final only when the tensors were written; its length never changes. */
export interface Metadata {
  /** the same length as {@link final} gives; all values are strings, as the format demands */
  readonly provisional: ReadonlyMap<string, string>;
  final(): Promise<ReadonlyMap<string, string>>;
}

const ALIGNMENT = 8;

/** Pieces of the file. Tensors keep their order within one element width. */
export function safetensorsPieces(tensors: StateDict, metadata: Metadata): Piece[] {
  const ordered = [...tensors].sort(([, a], [, b]) => dtype(b.dtype).bytes - dtype(a.dtype).bytes);
  const { length } = header(ordered, metadata.provisional);
  return [
    { length, late: true, bytes: async () => header(ordered, await metadata.final()) },
    ...ordered.map(([, tensor]) => ({ tensor })),
  ];
}

function header(
  tensors: readonly (readonly [string, Tensor])[],
  metadata: ReadonlyMap<string, string>,
): Uint8Array {
  let at = 0;
  // Entries and not properties: `__proto__` and `1` are names like any other.
  const entries = [`"__metadata__":${object(metadata)}`];
  for (const [name, tensor] of tensors) {
    const { dtype: type, shape } = tensor;
    const offsets = [at, at + byteLength(tensor)];
    entries.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype: type, shape, data_offsets: offsets })}`);
    at = offsets[1];
  }
  const json = Buffer.from(`{${entries.join(',')}}`);
  const padded = Math.ceil(json.length / ALIGNMENT) * ALIGNMENT;
  const bytes = Buffer.alloc(8 + padded, ' ');
  bytes.writeBigUInt64LE(BigInt(padded));
  json.copy(bytes, 8);
  return bytes;
}

function object(entries: ReadonlyMap<string, string>): string {
  const members = [...entries].map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`);
  return `{${members.join(',')}}`;
}
