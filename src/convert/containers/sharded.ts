/**
 * A checkpoint in several files, described by `*.safetensors.index.json` or `*.bin.index.json`:
 * `{"weight_map": {tensor: file}}`. Each file is read by its own first bytes.
 *
 * The index is believed in nothing: every file it names is a plain name in its own folder, every tensor it names is
 * in the file it says, and every tensor of a file is named.
 *
 * @see https://huggingface.co/docs/safetensors/index and `huggingface_hub` `serialization/_base.py`
 */
import type { ByteSource } from '../../bytes.js';
import { FormatError, InputError, listNames, printable } from '../../errors.js';
import type { SourceFile } from '../../model.js';
import type { Tensor } from '../../tensor.js';
import {
  HEAD_BYTES,
  baseName,
  grouped,
  refuseChoice,
  shortName,
  type Container,
  type OpenSibling,
} from '../checkpoint.js';
import { decodeUtf8, parseJson } from '../json.js';
import { refuseForeign } from '../recognise.js';
import { safetensors } from './safetensors.js';
import { torchLegacy } from './torch-legacy.js';
import { torchZip } from './torch-zip.js';

const MAX_INDEX_BYTES = 100_000_000;
/** What a shard may be. */
const SHARDS: readonly Container[] = [safetensors, torchZip, torchLegacy];
/** Each one is an open file. */
const MAX_SHARDS = 256;

export const sharded: Container = {
  name: 'sharded safetensors',
  endings: ['.safetensors.index.json', '.bin.index.json'],

  matches(head, name) {
    if (head[0] !== 0x7b) return false;
    return name.endsWith('.index.json') || new TextDecoder('latin1').decode(head).includes('"weight_map"');
  },

  async open(source, sibling, options = {}) {
    refuseChoice(source, options);
    const placement = await readIndex(source);
    const files: SourceFile[] = [{ name: baseName(source.name), source }];
    const closeAll = async (): Promise<void> => {
      await Promise.all(files.map((file) => file.source.close()));
    };
    try {
      const { tensors, metadata } = await openShards(shortName(source), placement, files, sibling);
      const torch = [...new Set(placement.values())].some((file) => !file.endsWith('.safetensors'));
      const container = torch ? 'sharded PyTorch' : this.name;
      return { container, tensors, metadata, files, close: closeAll };
    } catch (error) {
      // The index itself is the caller's until this function has succeeded.
      await Promise.all(files.slice(1).map((file) => file.source.close()));
      throw error;
    }
  },
};

/** @returns file name of every tensor, in the index's order */
async function readIndex(source: ByteSource): Promise<ReadonlyMap<string, string>> {
  const index = shortName(source);
  if (source.size > MAX_INDEX_BYTES) {
    throw new FormatError(
      `${index} has ${grouped(source.size)} bytes; an index of up to ${grouped(MAX_INDEX_BYTES)} is read`,
    );
  }
  const root = parseJson(decodeUtf8(await source.read(0, source.size), index), { subject: index });
  const map = root instanceof Map ? root.get('weight_map') : undefined;
  if (!(map instanceof Map))
    throw new FormatError(`${index} has no object "weight_map"; it is not a checkpoint index`);
  if (map.size === 0) throw new FormatError(`${index} names no tensors`);
  const placement = new Map<string, string>();
  for (const [tensor, file] of map) {
    if (typeof file !== 'string') {
      throw new FormatError(`${index}: the file of tensor "${printable(tensor)}" is not a string`);
    }
    checkShardName(index, file);
    placement.set(tensor, file);
  }
  const shards = new Set(placement.values());
  if (shards.size > MAX_SHARDS) {
    throw new FormatError(`${index} names ${grouped(shards.size)} files; at most ${MAX_SHARDS} are opened`);
  }
  return placement;
}

/**
 * Names decide what is opened, so only names that cannot leave the folder pass. What a file of that name links to is
 * up to the owner of the folder: hub caches link every file to `../../blobs/…`.
 */
function checkShardName(index: string, file: string): void {
  const subject = `${index} names the file "${printable(file)}"`;
  const next = { next: 'Use the index that was published with these weights.' };

  if (file === '' || file === '.' || file === '..' || /[/\\:\u0000]/.test(file)) {
    throw new FormatError(`${subject}; only plain file names in the index's own folder are opened`, next);
  }
  if (!/\.(safetensors|bin|pth|pt)$/.test(file)) {
    throw new FormatError(`${subject}; only .safetensors, .bin, .pth and .pt files are read`, next);
  }
}

async function openShards(
  index: string,
  placement: ReadonlyMap<string, string>,
  files: SourceFile[],
  sibling: OpenSibling,
): Promise<{ tensors: Map<string, Tensor>; metadata: Map<string, string> }> {
  const stored = new Map<string, { shard: string; tensor: Tensor }>();
  const metadata = new Map<string, string>();
  for (const shard of new Set(placement.values())) {
    const source = await openShard(index, shard, sibling);
    files.push({ name: shard, source });
    const head = await source.read(0, Math.min(HEAD_BYTES, source.size));
    const container = SHARDS.find((one) => one.matches(head, shard));
    if (!container) refuseForeign(source, head);
    const content = await (container ?? safetensors).open(source, sibling);
    // Its own source checks what is read through it.
    files.splice(-1, 1, ...content.files);
    for (const [key, text] of content.metadata) metadata.set(key, text);
    for (const [name, tensor] of content.tensors) {
      const other = stored.get(name)?.shard;
      if (other !== undefined) {
        throw new FormatError(
          `${index}: tensor "${printable(name)}" is in both ${printable(other)} and ${printable(shard)}`,
        );
      }
      stored.set(name, { shard, tensor });
    }
  }
  const unnamed = [...stored.keys()].filter((name) => !placement.has(name));
  if (unnamed.length > 0) {
    const shard = printable(stored.get(unnamed[0])!.shard);
    throw new FormatError(
      `${index} does not name ${grouped(unnamed.length)} of the stored tensors: ${listNames(unnamed)} (${shard})`,
    );
  }
  const tensors = new Map<string, Tensor>();
  for (const [name, shard] of placement) {
    const found = stored.get(name);
    if (found?.shard !== shard) {
      const where = found ? `; it is in ${printable(found.shard)}` : '';
      throw new FormatError(
        `${index} says that tensor "${printable(name)}" is in ${printable(shard)}, where it is not${where}`,
      );
    }
    tensors.set(name, found.tensor);
  }
  return { tensors, metadata };
}

async function openShard(index: string, shard: string, sibling: OpenSibling): Promise<ByteSource> {
  try {
    return await sibling(shard);
  } catch (cause) {
    if (!(cause instanceof InputError)) throw cause;
    throw new InputError(`${index} names ${printable(shard)}: ${cause.message}`, {
      next: 'Put all files that the index names into its folder.',
      cause,
    });
  }
}
