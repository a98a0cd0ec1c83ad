/**
 * Pick a container by the first bytes and open it. A new container is one line in {@link CONTAINERS}.
 */
import { readdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { ByteSource } from '../bytes.js';
import { FormatError, InputError, listNames, printable } from '../errors.js';
import { attempt, openFile } from '../file-source.js';
import {
  HEAD_BYTES,
  baseName,
  shortName,
  type Checkpoint,
  type Container,
  type OpenOptions,
  type OpenSibling,
} from './checkpoint.js';
import { safetensors } from './containers/safetensors.js';
import { sharded } from './containers/sharded.js';
import { torchLegacy } from './containers/torch-legacy.js';
import { torchZip } from './containers/torch-zip.js';
import { refuseForeign } from './recognise.js';

export type { Checkpoint, Container } from './checkpoint.js';

/** In the order in which they are asked. */
export const CONTAINERS: readonly Container[] = [safetensors, sharded, torchZip, torchLegacy];

/** Names that mean “the checkpoint of this folder”: the first row that any file fits decides. */
const PREFERRED: readonly RegExp[] = [
  /^model\.safetensors$|\.safetensors\.index\.json$/,
  /\.safetensors$/,
  /^pytorch_model\.bin$|\.bin\.index\.json$/,
  // What a trainer writes beside a model is none.
  /^(?!(training_args|optimizer|scheduler|scaler|rng_state)).*\.(pth|pt|bin)$/i,
];

/**
 * Open a checkpoint without reading its weights.
 *
 * @param path a file, or a folder with exactly one plausible checkpoint
 * @param options which weights of a file with several
 * @param open opens `path` and the files beside it, when they are not simply on the disk; then `path` is no folder
 * @throws InputError if it is no checkpoint (the message says what it is instead)
 * @throws FormatError if it breaks the rules of its container
 */
export async function openCheckpoint(
  path: string,
  options: OpenOptions = {},
  open?: (path: string) => Promise<ByteSource>,
): Promise<Checkpoint> {
  const openPath = open ?? openFile;
  const file = open ? path : await checkpointFile(path);
  const source = await openPath(file);
  try {
    // Links are not resolved: a hub cache keeps the names in one folder and the bytes in another.
    return await openSource(source, (name) => openPath(join(dirname(file), name)), options);
  } catch (error) {
    await source.close();
    throw error;
  }
}

/** The same for bytes from anywhere. The source stays the caller's when this throws. */
export async function openSource(
  source: ByteSource,
  sibling: OpenSibling,
  options: OpenOptions = {},
): Promise<Checkpoint> {
  const head = await source.read(0, Math.min(HEAD_BYTES, source.size));
  const name = baseName(source.name);
  const byBytes = CONTAINERS.find((container) => container.matches(head, name));
  if (byBytes) return byBytes.open(source, sibling, options);
  refuseForeign(source, head);
  const byName = CONTAINERS.find((container) => container.endings.some((ending) => name.endsWith(ending)));
  // Opening it says which rule of the promised format the bytes break.
  if (byName) return byName.open(source, sibling, options);
  const bytes = [...head.subarray(0, 8)].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
  throw new FormatError(`${shortName(source)} is in no known format (it starts with ${bytes})`, {
    next: 'Give a .safetensors, .pth, .pt or .bin file, or a *.index.json with its shards beside it.',
  });
}

/** The checkpoint file that a path means: itself, or the one in a folder. */
export async function checkpointFile(path: string): Promise<string> {
  const found = await attempt(
    path,
    'open',
    () => stat(path),
    'Check the path, or name an official model (convert-beit list shows them).',
  );
  if (!found.isDirectory()) return path;
  const folder = printable(path);
  const names = (await attempt(path, 'read', () => readdir(path))).sort();
  const plausible =
    PREFERRED.map((row) => names.filter((name) => row.test(name))).find((found) => found.length > 0) ?? [];
  if (plausible.length === 1) return join(path, plausible[0]);
  if (plausible.length > 1) {
    throw new InputError(`${folder} holds ${plausible.length} checkpoints: ${listNames(plausible)}`, {
      next: 'Name the file to convert.',
    });
  }
  const others = names.filter((name) =>
    /\.(bin|pth?|pt|ckpt|h5|msgpack|onnx|pb|index|zip|tar|gz)$/i.test(name),
  );
  throw new InputError(
    others.length > 0
      ? `${folder} holds no .safetensors, .pth, .pt or .bin checkpoint, only ${listNames(others)}`
      : `${folder} is a folder without a checkpoint (${names.length === 0 ? 'empty' : listNames(names)})`,
    { next: 'Give a checkpoint file, or a folder with a model.safetensors or a pytorch_model.bin.' },
  );
}
