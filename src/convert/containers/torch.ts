/**
 * A PyTorch pickle as a checkpoint: the weights found in it, as lazy tensors over the file's storages.
 */
import type { ByteSource } from '../../bytes.js';
import { printable } from '../../errors.js';
import type { Tensor } from '../../tensor.js';
import { baseName, shortName, type Checkpoint, type OpenOptions } from '../checkpoint.js';
import { listInert } from './pickle-print.js';
import type { StorageFacts, TensorValue, Value } from './pickle-values.js';
import { labelsOf } from './torch-labels.js';
import { makeTensor, type StorageContent } from './torch-tensor.js';
import { findWeights } from './torch-weights.js';

export interface TorchFile {
  readonly container: string;
  readonly source: ByteSource;
  readonly value: Value;
  readonly metadata: ReadonlyMap<string, string>;
  /**
   * Where the storages of these tensors are.
   * @returns by key, and the source that checks what is read from them
   */
  locate(
    wanted: ReadonlyMap<string, StorageFacts>,
    users: ReadonlyMap<string, readonly TensorValue[]>,
  ): Promise<{ contents: ReadonlyMap<string, StorageContent>; source: ByteSource }>;
}

/** @throws InputError without weights, FormatError when a tensor is not what the file holds */
export async function openTorch(torch: TorchFile, options: OpenOptions): Promise<Checkpoint> {
  const file = shortName(torch.source);
  const found = findWeights(torch.value, file, options);
  const wanted = new Map<string, StorageFacts>();
  const users = new Map<string, TensorValue[]>();
  for (const tensor of found.tensors.values()) {
    const { key } = tensor.storage;
    wanted.set(key, tensor.storage);
    const list = users.get(key);
    if (list) list.push(tensor);
    else users.set(key, [tensor]);
  }
  const { contents, source } = await torch.locate(wanted, users);
  const tensors = new Map<string, Tensor>();
  for (const [name, value] of found.tensors) {
    const subject = `${file}: tensor "${printable(name)}"`;
    tensors.set(name, makeTensor(value, contents.get(value.storage.key)!, subject, source.size));
  }
  const { left, total } = listInert(torch.value);
  const labels = labelsOf(torch.value);
  return {
    container: torch.container,
    tensors,
    metadata: torch.metadata,
    files: [{ name: baseName(source.name), source }],
    contents: {
      weightsAt: found.path,
      entries: found.entries,
      inert: left,
      inertCount: total,
      ...(labels && { labels }),
    },
    notes: found.notes,
    close: () => source.close(),
  };
}
