/** ONNX messages for tests: by onnx-proto, and field by field for what no encoder writes. */
import onnxProto from '#onnx-proto';
import { memorySource } from '../../src/bytes.js';
import { readOnnxFile, type OnnxFile } from '../../src/verify/onnx-file.js';

const { onnx } = onnxProto;
export type ModelFields = NonNullable<Parameters<typeof onnx.ModelProto.encode>[0]>;
export type TensorFields = NonNullable<Parameters<typeof onnx.TensorProto.encode>[0]>;

export const encodeModel = (fields: ModelFields): Uint8Array => onnx.ModelProto.encode(fields).finish();
export const withTensor = (tensor: TensorFields): Uint8Array =>
  encodeModel({ graph: { initializer: [tensor] } });
export const read = (bytes: Uint8Array): Promise<OnnxFile> => readOnnxFile(memorySource('m.onnx', bytes));

/** One protobuf field by hand, for what no encoder writes. */
export function field(number: number, wire: number, ...content: number[]): number[] {
  return [...varint(number * 8 + wire), ...content];
}
export function varint(value: number): number[] {
  const out: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return [...out, rest];
    out.push((rest % 128) + 128);
  }
}
export function nested(number: number, content: ArrayLike<number>): number[] {
  // Array.from, not a spread: contents can be longer than an argument list may be.
  return field(number, 2, ...varint(content.length)).concat(Array.from(content));
}
export const bytes = (...content: (number | number[])[]): Uint8Array => Uint8Array.from(content.flat());
export const text = (value: string): number[] => [...Buffer.from(value)];
