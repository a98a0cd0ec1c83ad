/**
 * One row per dtype: its width and its name in every format.
 *
 * Sources: safetensors `safetensors/src/tensor.rs` (Dtype), ONNX `onnx/onnx.proto` (TensorProto.DataType),
 * PyTorch `torch/storage.py` (typed storage classes).
 */

export type DtypeName =
  | 'BOOL'
  | 'U8'
  | 'I8'
  | 'F8_E5M2'
  | 'F8_E4M3'
  | 'I16'
  | 'U16'
  | 'F16'
  | 'BF16'
  | 'I32'
  | 'U32'
  | 'F32'
  | 'C64'
  | 'F64'
  | 'I64'
  | 'U64';

export interface Dtype {
  /** safetensors name; also the name used inside this package */
  readonly name: DtypeName;
  /** bytes per element */
  readonly bytes: number;
  /** ONNX TensorProto.DataType, `null` where ONNX has none */
  readonly onnx: number | null;
  /** PyTorch's name: `torch.<name>` */
  readonly torch: string;
  /** class name of PyTorch's typed storage, `null` where there is none */
  readonly torchStorage: string | null;
  /** can hold weights that this package computes with */
  readonly weight: boolean;
}

const ROWS: readonly Dtype[] = [
  { name: 'BOOL', bytes: 1, onnx: 9, torch: 'bool', torchStorage: 'BoolStorage', weight: false },
  { name: 'U8', bytes: 1, onnx: 2, torch: 'uint8', torchStorage: 'ByteStorage', weight: false },
  { name: 'I8', bytes: 1, onnx: 3, torch: 'int8', torchStorage: 'CharStorage', weight: false },
  { name: 'F8_E5M2', bytes: 1, onnx: 19, torch: 'float8_e5m2', torchStorage: null, weight: false },
  { name: 'F8_E4M3', bytes: 1, onnx: 17, torch: 'float8_e4m3fn', torchStorage: null, weight: false },
  { name: 'I16', bytes: 2, onnx: 5, torch: 'int16', torchStorage: 'ShortStorage', weight: false },
  { name: 'U16', bytes: 2, onnx: 4, torch: 'uint16', torchStorage: null, weight: false },
  { name: 'F16', bytes: 2, onnx: 10, torch: 'float16', torchStorage: 'HalfStorage', weight: true },
  { name: 'BF16', bytes: 2, onnx: 16, torch: 'bfloat16', torchStorage: 'BFloat16Storage', weight: true },
  { name: 'I32', bytes: 4, onnx: 6, torch: 'int32', torchStorage: 'IntStorage', weight: false },
  { name: 'U32', bytes: 4, onnx: 12, torch: 'uint32', torchStorage: null, weight: false },
  { name: 'F32', bytes: 4, onnx: 1, torch: 'float32', torchStorage: 'FloatStorage', weight: true },
  { name: 'C64', bytes: 8, onnx: 14, torch: 'complex64', torchStorage: 'ComplexFloatStorage', weight: false },
  { name: 'F64', bytes: 8, onnx: 11, torch: 'float64', torchStorage: 'DoubleStorage', weight: true },
  { name: 'I64', bytes: 8, onnx: 7, torch: 'int64', torchStorage: 'LongStorage', weight: false },
  { name: 'U64', bytes: 8, onnx: 13, torch: 'uint64', torchStorage: null, weight: false },
];

/** Every dtype by its safetensors name. A `Map`, because names come from files. */
export const DTYPES: ReadonlyMap<string, Dtype> = new Map(ROWS.map((row) => [row.name, row]));

export function dtype(name: DtypeName): Dtype {
  return DTYPES.get(name)!;
}
