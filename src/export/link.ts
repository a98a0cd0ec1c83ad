/**
 * Only the graph is written; its weights stay where they are, in the checkpoint beside it.
 *
 * @see ONNX `docs/ExternalData.md`: a data file is named relative to the model's folder; runtimes refuse `..` and links
 */
import { lstat, realpath } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import type { ByteSource } from '../bytes.js';
import { UsageError, listNames, printable } from '../errors.js';
import { fingerprint } from '../fingerprint.js';
import type { BeitModel } from '../model.js';
import { describeTensor, type Tensor } from '../tensor.js';
import type { Graph } from './graph.js';
import type { Links, MetadataEntry } from './onnx.js';

/** Runtimes map the file and read it in place. */
const ALIGNMENT = 4;

export interface Linked {
  readonly place: Links;
  /** the files that the model refers to */
  readonly files: readonly ByteSource[];
}

const INSTEAD = 'Leave --link out (--external-data loads as fast), ';

/**
 * @param folder where the model will be
 * @throws UsageError saying what cannot be linked, and why
 */
export async function linkWeights(model: BeitModel, graph: Graph, folder: string): Promise<Linked> {
  const files = new Map<ByteSource, string>();
  const refused = new Map<string, string[]>();
  for (const { name } of graph.initializers) {
    const source = model.tensors.get(name);
    // Shapes, numbers and the index are the graph's own. A weight, however small, has to be the source's own bytes.
    if (!source) continue;
    const reason = reasonAgainst(source);
    if (reason !== undefined) {
      refused.set(reason, [...(refused.get(reason) ?? []), `${name} (${describeTensor(source)})`]);
    } else if (!files.has(source.stored!.source)) {
      files.set(source.stored!.source, await linkableName(source.stored!.source, folder));
    }
  }
  for (const [reason, names] of refused) {
    throw new UsageError(`--link: ${listNames(names, 3)} ${reason}`, {
      next: model.resized
        ? `${INSTEAD}or link the model at its own size: without --img-size and --patch-size.`
        : `${INSTEAD}or link a float32 safetensors file of the official layout.`,
    });
  }
  return {
    files: [...files.keys()],
    place({ name, tensor }) {
      const source = model.tensors.get(name);
      // What the graph has may be another tensor under that name; only the source's own bytes can be linked.
      if (!source || source !== tensor || reasonAgainst(source) !== undefined) return undefined;
      const { source: file, start } = source.stored!;
      return { file: files.get(file)!, start };
    },
  };
}

function reasonAgainst(tensor: Tensor): string | undefined {
  if (tensor.dtype !== 'F32') return 'would have to become float32';
  if (!tensor.stored) {
    return 'does not lie in the source as the graph needs it: resized, joined from parts, strided, compressed or in another byte order';
  }
  if (tensor.stored.start % ALIGNMENT !== 0) {
    return `begins at byte ${tensor.stored.start}, where float32 cannot be mapped (a multiple of ${ALIGNMENT} is needed)`;
  }
  return undefined;
}

/** The file's name, as a model in `folder` can refer to it. */
async function linkableName({ file, name }: ByteSource, folder: string): Promise<string> {
  const shown = printable(basename(name), 300);
  const refuse = (why: string, next: string): UsageError =>
    new UsageError(`--link: ${shown} ${why}`, { next: `${INSTEAD}or ${next}.` });
  if (!file) throw refuse('is no local file', 'download it first');
  const path = resolve(file.path);
  if ((await lstat(path)).isSymbolicLink()) {
    throw refuse(
      'is a symbolic link, which runtimes refuse to follow (the hub cache is made of them)',
      'put the file itself beside the model',
    );
  }
  const [from, to] = await Promise.all([realpath(dirname(path)), realpath(resolve(folder))]);
  if (from !== to) {
    throw refuse(
      `is in ${printable(from, 200)}, the model would be in ${printable(to, 200)}; runtimes read data files only from the model's own folder`,
      `write to ${printable(`${from}/`, 200)}`,
    );
  }
  const plain = basename(path);
  if (/[\\:]/.test(plain)) throw refuse('has a name that is no plain file name everywhere', 'rename it');
  return plain;
}

/**
 * Which files the model needs, recognisable: by SHA-256 where it is known, by a {@link fingerprint} where nobody has
 * read the whole file.
 */
export async function linkMetadata(
  files: readonly ByteSource[],
  sha256: ReadonlyMap<string, string>,
): Promise<MetadataEntry> {
  const rows = await Promise.all(
    files.map(async (source) => {
      const name = basename(source.name);
      const hex = sha256.get(name);
      return {
        name,
        bytes: source.size,
        ...(hex === undefined ? { fingerprint: await fingerprint(source) } : { sha256: hex }),
      };
    }),
  );
  return { key: 'convert_beit.linked_files', value: JSON.stringify(rows) };
}
