/**
 * The stream that PyTorch wrote before 1.6, and OpenMMLab publishes: five pickles in a row (magic number, protocol,
 * the writer's system, the object, the keys of its storages), then each storage as a count and its raw numbers.
 *
 * @see PyTorch `torch/serialization.py` (`_legacy_save`, `_legacy_load`)
 */
import type { ByteSource } from '../../bytes.js';
import { FormatError, InputError, printable } from '../../errors.js';
import { counted, grouped, shortName, type Container } from '../checkpoint.js';
import { PickleCut } from './pickle-bytes.js';
import { findGlobal } from './pickle-globals.js';
import { describeValue, kindOf } from './pickle-print.js';
import { PyDict, PyList, type StorageFacts, type Value } from './pickle-values.js';
import { readPickle } from './pickle.js';
import { MAX_PICKLE_BYTES, readTorchPickle } from './torch-pickle.js';
import { storageBytes } from './torch-rebuild.js';
import type { StorageContent } from './torch-tensor.js';
import { openTorch } from './torch.js';

const MAGIC = 0x1950a86a20f9469cfc6cn;
const PROTOCOL = 1001;
/** What is read for the first look; four times as much each time a pickle turns out longer. */
const WINDOW_BYTES = 256 * 1024;
const AGAIN = { next: 'Download or copy it again.' };

export const torchLegacy: Container = {
  name: 'PyTorch (legacy stream)',
  endings: [],

  matches(head) {
    return head[0] === 0x80 && head[1] >= 2 && head[1] <= 5;
  },

  async open(source, _, options = {}) {
    const file = shortName(source);
    const plain = (bytes: Uint8Array, base: number): { value: Value; end: number } =>
      readPickle(bytes, { subject: file, base, findGlobal });
    const next = pickleReader(source);
    const magic = await next(0, plain);
    if (magic.value !== MAGIC) throw notTorch(magic.value, file);
    const protocol = await next(magic.next, plain);
    if (protocol.value !== PROTOCOL) {
      throw new FormatError(
        `${file} is a PyTorch stream of protocol ${describeValue(protocol.value)}; ${PROTOCOL} is read`,
      );
    }
    const system = await next(protocol.next, plain);
    checkByteOrder(system.value, file);
    const object = await next(system.next, (bytes, base) => readTorchPickle(bytes, file, base));
    const keys = await next(object.next, plain);
    const storages = await readStorages(source, keysOf(keys.value, file), keys.next, object.storages);
    return openTorch(
      {
        container: this.name,
        source,
        value: object.value,
        metadata: new Map(),
        locate: () => Promise.resolve({ contents: storages, source }),
      },
      options,
    );
  },
};

/** Reads pickles whose length only reading them tells; what was read ahead for one serves the next. */
function pickleReader(source: ByteSource) {
  let window: { start: number; bytes: Uint8Array } = { start: 0, bytes: new Uint8Array(0) };
  return async <T extends { end: number }>(
    start: number,
    read: (bytes: Uint8Array, base: number) => T,
  ): Promise<T & { next: number }> => {
    const most = Math.min(source.size, start + MAX_PICKLE_BYTES);
    for (;;) {
      const end = window.start + window.bytes.length;
      try {
        const found = read(window.bytes.subarray(Math.min(start, end) - window.start), start);
        return { ...found, next: start + found.end };
      } catch (error) {
        // More bytes help only where there are more, and only if the operation fits into them.
        if (!(error instanceof PickleCut) || end >= most || start + error.needed > most) throw error;
        const wanted = Math.max(WINDOW_BYTES, 4 * (end - start));
        window = { start, bytes: await source.read(start, Math.min(start + wanted, most)) };
      }
    }
  };
}

function notTorch(value: Value, file: string): InputError {
  return new InputError(
    `${file} is a Python pickle that torch.save did not write: it holds ${kindOf(value)}`,
    {
      next: 'Give a file that torch.save wrote, or a .safetensors version of the same weights.',
    },
  );
}

function checkByteOrder(system: Value, file: string): void {
  const little = system instanceof PyDict ? system.entries.get('little_endian') : undefined;
  if (little === true) return;
  if (little === false) {
    throw new InputError(
      `${file} was written on a big-endian machine: its numbers are stored the other way round`,
      {
        next: 'On any little-endian machine, torch.save(torch.load(path), new_path) writes it as needed here.',
      },
    );
  }
  throw new FormatError(`${file}: the writer's system does not say its byte order (little_endian)`);
}

function keysOf(value: Value, file: string): string[] {
  if (!(value instanceof PyList) || !value.items.every((key) => typeof key === 'string')) {
    throw new FormatError(
      `${file}: the keys of the storages are ${describeValue(value)}; they must be a list of strings`,
    );
  }
  return value.items;
}

async function readStorages(
  source: ByteSource,
  keys: readonly string[],
  start: number,
  facts: ReadonlyMap<string, StorageFacts>,
): Promise<ReadonlyMap<string, StorageContent>> {
  const file = shortName(source);
  const contents = new Map<string, StorageContent>();
  let at = start;
  for (const key of keys) {
    const storage = facts.get(key);
    const subject = `${file}: storage ${printable(key)}`;
    if (!storage)
      throw new FormatError(`${subject} is in the list of keys; no tensor of the pickle names it`);
    if (contents.has(key)) throw new FormatError(`${subject} is in the list of keys twice`);
    const declared = storageBytes(storage);
    if (declared === undefined) {
      throw new InputError(`${subject} is of ${storage.type}, whose numbers are not read`, {
        next: 'Give a file with plain floating-point weights.',
      });
    }
    if (source.size - at < 8) throw cutOff(file, key, at, 8, source.size);
    const count = await readCount(source, at);
    if (count !== storage.length) {
      throw new FormatError(
        `${subject} has ${grouped(count)} elements at byte ${grouped(at)}; the pickle says ${grouped(storage.length)} (byte ${grouped(storage.at)} of it)`,
      );
    }
    const range = { source, start: at + 8, end: at + 8 + declared };
    if (range.end > source.size) throw cutOff(file, key, at, 8 + declared, source.size);
    contents.set(key, { size: declared, bytes: range });
    at = range.end;
  }
  const missing = [...facts.values()].find(({ key }) => !contents.has(key));
  if (missing) {
    throw new FormatError(
      `${file}: storage ${printable(missing.key)} (byte ${missing.at} of the pickle) is not in the list of keys`,
    );
  }
  if (at < source.size) {
    throw new FormatError(`${file} has ${counted(source.size - at, 'byte')} behind its last storage`);
  }
  return contents;
}

/** int64, little-endian; rounded beyond 2^53, where it fits no file. */
async function readCount(source: ByteSource, at: number): Promise<number> {
  const bytes = await source.read(at, at + 8);
  return Number(new DataView(bytes.buffer, bytes.byteOffset, 8).getBigInt64(0, true));
}

function cutOff(file: string, key: string, at: number, needed: number, size: number): FormatError {
  return new FormatError(
    `${file} is cut off: storage ${printable(key)} takes ${grouped(needed)} bytes from byte ${grouped(at)} on, the file ends at ${grouped(size)}`,
    AGAIN,
  );
}
