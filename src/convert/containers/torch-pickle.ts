/**
 * The pickle of a PyTorch checkpoint: storages are persistent ids, everything else is in the closed table.
 *
 * @see PyTorch `torch/serialization.py` (`persistent_id` of `_save` and `_legacy_save`)
 */
import type { FormatError } from '../../errors.js';
import { printable } from '../../errors.js';
import { findGlobal } from './pickle-globals.js';
import { describeValue, kindOf } from './pickle-print.js';
import { GlobalRef, Inert, PyTuple, StorageValue, type StorageFacts, type Value } from './pickle-values.js';
import { readPickle } from './pickle.js';

/** Weights are outside of it: a BEiT-large with its optimizer has 0.3 MB. */
export const MAX_PICKLE_BYTES = 64 * 1024 * 1024;

export interface TorchPickle {
  readonly value: Value;
  /** bytes of the pickle */
  readonly end: number;
  /** every storage that is named, by key */
  readonly storages: ReadonlyMap<string, StorageFacts>;
}

/** @throws FormatError with the byte offset */
export function readTorchPickle(bytes: Uint8Array, subject: string, base = 0): TorchPickle {
  const storages = new Map<string, StorageFacts>();
  const persistent = (id: Value, at: number, fail: (what: string) => FormatError): Value => {
    if (!(id instanceof PyTuple) || typeof id.items[0] !== 'string') {
      throw fail(`a persistent id that is ${kindOf(id)}, not ('storage', …),`);
    }
    const [tag, type] = id.items;
    // Source code of a pickled module travels beside it: nothing here needs it.
    if (tag === 'module' && type instanceof GlobalRef) return new Inert(type, [], 'persistent', at);
    if (tag !== 'storage') throw fail(`a persistent id of the kind "${printable(tag)}", not "storage",`);
    return new StorageValue(remember(storages, storageFacts(id.items, at, fail), fail));
  };
  const { value, end } = readPickle(bytes, { subject, base, findGlobal, persistent });
  return { value, end, storages };
}

/** `('storage', class, key, location, length[, view])` */
function storageFacts(
  items: readonly Value[],
  at: number,
  fail: (what: string) => FormatError,
): StorageFacts {
  const [, type, key, , length, view] = items;
  if (!(type instanceof GlobalRef)) throw fail(`a storage whose class is ${kindOf(type ?? null)}`);
  if (typeof key !== 'string') throw fail(`a storage whose key is ${kindOf(key ?? null)}`);
  if (key === '' || key === '.' || key === '..' || /[/\\\u0000]/.test(key)) {
    throw fail(`the storage key "${printable(key)}", which leaves the folder of the storages,`);
  }
  if (typeof length !== 'number' || length < 0) {
    throw fail(`a storage whose length is ${describeValue(length ?? null)}`);
  }
  if (view !== undefined && view !== null)
    throw fail('a storage that is a view of another (PyTorch before 0.4)');
  return { type: printable(type.path), dtype: type.storage ?? undefined, key, length, at };
}

/** One key is one storage, whoever names it. */
function remember(
  storages: Map<string, StorageFacts>,
  facts: StorageFacts,
  fail: (what: string) => FormatError,
): StorageFacts {
  const before = storages.get(facts.key);
  if (!before) {
    storages.set(facts.key, facts);
    return facts;
  }
  if (before.type !== facts.type || before.length !== facts.length) {
    throw fail(
      `storage ${printable(facts.key)} is ${facts.type} of ${facts.length} here and ${before.type} of ${before.length} before,`,
    );
  }
  return before;
}
