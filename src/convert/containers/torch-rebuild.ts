/**
 * Tensors as a pickle describes them: a storage that lies elsewhere, and how to look at it.
 *
 * @see PyTorch `torch/_utils.py` (`_rebuild_tensor_v2`, `_rebuild_tensor_v3`, `_rebuild_parameter`)
 */
import { dtype as dtypeRow } from '../../dtype.js';
import {
  PyDict,
  PyTuple,
  StorageValue,
  TensorValue,
  TorchName,
  isInert,
  type Builder,
  type StorageFacts,
  type Value,
} from './pickle-values.js';

/** As NumPy. */
const MAX_RANK = 64;

/** `(storage, offset, size, stride, requires_grad, hooks[, metadata])` */
export const rebuildTensor: Builder = (args, at) => {
  const [storage, offset, size, stride, , , metadata] = args;
  if (!(storage instanceof StorageValue) || dependsOnInert(args)) return undefined;
  const { dtype } = storage.facts;
  // Before typed storages were dropped, an untyped one came with `_rebuild_tensor_v3` only.
  if (dtype === 'untyped') return undefined;
  return view(storage.facts, dtype, offset, size, stride, metadata, at);
};

/** `(storage, offset, size, stride, requires_grad, hooks, dtype[, metadata])`: for dtypes without a storage class */
export const rebuildTensorV3: Builder = (args, at) => {
  const [storage, offset, size, stride, , , dtype, metadata] = args;
  if (!(storage instanceof StorageValue) || !(dtype instanceof TorchName) || dependsOnInert(args))
    return undefined;
  return view(storage.facts, dtype.dtype, offset, size, stride, metadata, at);
};

/** `(tensor, requires_grad, hooks[, state])`: the tensor itself */
export const rebuildParameter: Builder = (args) => {
  const [data, , hooks] = args;
  const plain = !args.some(isInert) && !(hooks instanceof PyDict && hooks.entries.size > 0);
  return data instanceof TensorValue && plain ? data : undefined;
};

function view(
  storage: StorageFacts,
  dtype: TensorValue['dtype'],
  offset: Value | undefined,
  size: Value | undefined,
  stride: Value | undefined,
  metadata: Value | undefined,
  at: number,
): TensorValue | undefined {
  const shape = integers(size);
  const strides = integers(stride);
  if (!shape || !strides || shape.length !== strides.length) return undefined;
  if (!isSize(offset)) return undefined;
  const tensor = new TensorValue(storage, dtype, offset, shape, strides, at);
  if (dtype === undefined) tensor.problem = `its numbers are of ${storage.type}, which is not read`;
  // `conj` and `neg` bits: the stored numbers are not the tensor's.
  if (metadata instanceof PyDict && metadata.entries.size > 0) {
    tensor.problem = 'it carries metadata that changes what its numbers mean';
  }
  return tensor;
}

/** An argument that was never built. Hooks are code: a dict of them is empty in every file. */
function dependsOnInert(args: readonly Value[]): boolean {
  const [, , , , , hooks] = args;
  return args.some(isInert) || (hooks instanceof PyDict && hooks.entries.size > 0);
}

function integers(value: Value | undefined): number[] | undefined {
  if (!(value instanceof PyTuple) || value.items.length > MAX_RANK) return undefined;
  return value.items.every(isSize) ? [...value.items] : undefined;
}

function isSize(value: Value | undefined): value is number {
  return typeof value === 'number' && value >= 0;
}

/** Length of a storage in bytes, `undefined` for classes that are not read. */
export function storageBytes({ dtype, length }: StorageFacts): number | undefined {
  if (dtype === undefined) return undefined;
  return dtype === 'untyped' ? length : length * dtypeRow(dtype).bytes;
}
