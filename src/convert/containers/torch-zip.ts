/**
 * The zip container of PyTorch 1.6 and later: `<root>/data.pkl`, `<root>/data/<key>`, and a few small records.
 *
 * The pickle's checksum is compared when it is read, a storage's while it is read; `torch.load` compares none.
 *
 * @see PyTorch `torch/serialization.py` (`_save`, `_load`), `caffe2/serialize/inline_container.cc`
 */
import type { ByteSource } from '../../bytes.js';
import { FormatError, InputError, listNames, printable } from '../../errors.js';
import { counted, grouped, shortName, type Container } from '../checkpoint.js';
import { checkedSource, type CheckedPart } from './checked-source.js';
import type { StorageFacts, TensorValue } from './pickle-values.js';
import { MAX_PICKLE_BYTES, readTorchPickle } from './torch-pickle.js';
import { isWholeStorage, type StorageContent } from './torch-tensor.js';
import { openTorch } from './torch.js';
import { readZipDirectory, type ZipDirectory, type ZipEntry } from './zip-directory.js';
import { inflateRecord, locateRecord, readRecord } from './zip-record.js';
import { refuseArchive } from './zip-recognise.js';

const PICKLE = 'data.pkl';
/** `byteorder`, `version`: a word each. */
const MAX_SMALL_BYTES = 1024;
/** Local headers are read so many at a time. */
const BATCH = 64;

export const torchZip: Container = {
  name: 'PyTorch (zip)',
  endings: [],

  matches(head) {
    return (
      head[0] === 0x50 &&
      head[1] === 0x4b &&
      ((head[2] === 3 && head[3] === 4) || (head[2] === 5 && head[3] === 6))
    );
  },

  async open(source, _, options = {}) {
    const directory = await readZipDirectory(source);
    const root = rootOf(directory, source);
    await checkByteOrder(source, directory, root);
    const pickle = directory.entries.get(root + PICKLE)!;
    const bytes = await readRecord(source, directory, pickle, MAX_PICKLE_BYTES);
    const subject = `${shortName(source)}: ${printable(pickle.name)}`;
    const { value, end } = readTorchPickle(bytes, subject);
    if (end !== bytes.length) {
      throw new FormatError(
        `${subject}: ${counted(bytes.length - end, 'byte')} behind STOP at byte ${end - 1}`,
      );
    }
    return openTorch(
      {
        container: this.name,
        source,
        value,
        metadata: await readMetadata(source, directory, root),
        locate: (wanted, users) => locateStorages(source, directory, root, wanted, users),
      },
      options,
    );
  },
};

/** The folder that holds the pickle, with its slash; PyTorch names it after the file, or `archive`. */
function rootOf(directory: ZipDirectory, source: ByteSource): string {
  const names = [...directory.entries.keys()];
  const roots = names
    .filter((name) => name === PICKLE || name.endsWith(`/${PICKLE}`))
    .map((name) => name.slice(0, -PICKLE.length));
  if (roots.length > 1) {
    throw new InputError(
      `${shortName(source)} is a zip archive with ${grouped(roots.length)} checkpoints: ${listNames(roots.map((root) => root + PICKLE))}`,
      { next: 'Unpack it and give one of them.' },
    );
  }
  if (roots.length === 0) refuseArchive(names, source);
  const [root] = roots;
  if (names.includes(`${root}constants.pkl`) || names.some((name) => name.startsWith(`${root}code/`))) {
    throw new InputError(`${shortName(source)} is a TorchScript program (torch.jit.save), not a checkpoint`, {
      next: 'In Python: torch.save(torch.jit.load(path).state_dict(), new_path) writes its weights.',
    });
  }
  return root;
}

async function small(source: ByteSource, directory: ZipDirectory, name: string): Promise<string | undefined> {
  const entry = directory.entries.get(name);
  if (!entry) return undefined;
  return Buffer.from(await readRecord(source, directory, entry, MAX_SMALL_BYTES))
    .toString('latin1')
    .trim();
}

async function checkByteOrder(source: ByteSource, directory: ZipDirectory, root: string): Promise<void> {
  const order = await small(source, directory, `${root}byteorder`);
  if (order === undefined || order === 'little') return;
  throw new InputError(
    order === 'big'
      ? `${shortName(source)} was written on a big-endian machine: its numbers are stored the other way round`
      : `${shortName(source)}: record byteorder says "${printable(order)}"; it must be little or big`,
    {
      next: 'On any little-endian machine, torch.save(torch.load(path), new_path) writes it as needed here.',
    },
  );
}

async function readMetadata(
  source: ByteSource,
  directory: ZipDirectory,
  root: string,
): Promise<ReadonlyMap<string, string>> {
  const metadata = new Map<string, string>();
  for (const name of ['version', '.format_version', '.data/serialization_id']) {
    const text = await small(source, directory, root + name);
    if (text !== undefined) metadata.set(`torch ${name}`, text);
  }
  return metadata;
}

async function locateStorages(
  source: ByteSource,
  directory: ZipDirectory,
  root: string,
  wanted: ReadonlyMap<string, StorageFacts>,
  users: ReadonlyMap<string, readonly TensorValue[]>,
): Promise<{ contents: ReadonlyMap<string, StorageContent>; source: ByteSource }> {
  const entries: (readonly [string, ZipEntry])[] = [];
  for (const [key, { at }] of wanted) {
    const entry = directory.entries.get(`${root}data/${key}`);
    if (!entry) {
      throw new FormatError(
        `${shortName(source)} has no record ${printable(`${root}data/${key}`)}; the pickle names it at byte ${at}`,
        { next: 'Download or copy it again.' },
      );
    }
    entries.push([key, entry]);
  }
  const located: { key: string; entry: ZipEntry; start: number; end: number }[] = [];
  for (let i = 0; i < entries.length; i += BATCH) {
    const batch = entries.slice(i, i + BATCH).map(async ([key, entry]) => {
      const { start, end } = await locateRecord(source, directory, entry);
      return { key, entry, start, end };
    });
    located.push(...(await Promise.all(batch)));
  }
  const checked = checkedSource(
    source,
    located
      .filter(({ entry }) => entry.method === 0)
      .map(({ key, entry, start, end }): CheckedPart => {
        const whole = users.get(key)!.every((tensor) => isWholeStorage(tensor, entry.size));
        return { name: entry.name, start, end, crc32: entry.crc32, whole };
      }),
  );
  const contents = new Map<string, StorageContent>();
  for (const { key, entry, start, end } of located) {
    const range = { source: checked, start, end };
    contents.set(
      key,
      entry.method === 0
        ? { size: entry.size, bytes: range }
        : { size: entry.size, bytes: () => inflateRecord(range, entry) },
    );
  }
  return { contents, source: checked };
}
