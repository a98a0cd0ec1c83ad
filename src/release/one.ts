/** One model as a folder, outside of a release: what `--format hub` writes. */
import { mkdir, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { InterruptedError, printable } from '../errors.js';
import type { CommonOptions } from '../results.js';
import { openFolderTarget } from '../target.js';
import { buildFolder, type Extra } from './folder.js';
import type { ReleaseItem } from './manifest.js';
import { sourceDateEpoch } from './names.js';
import { modelPath } from './plan.js';
import type { ReleasedItem } from './record.js';

export interface FolderOptions extends CommonOptions {
  /** folder to write; one that exists keeps what else it holds */
  readonly out: string;
  readonly noClobber?: boolean;
  readonly verify?: boolean;
  readonly extra?: Extra;
}

export interface FolderResult extends ReleasedItem {
  readonly path: string;
  readonly seconds: number;
}

const FILES = [
  'README.md',
  'SHA256SUMS',
  'config.json',
  'model.safetensors',
  'parity.html',
  'parity.json',
  'parity.svg',
  'preprocessor_config.json',
];

/** A name for the model: what its folder is called. */
export function nameOfFolder(out: string): string {
  return printable(basename(resolve(out))) || 'beit';
}

/**
 * The folder appears whole, or stays as it was.
 *
 * @throws like `convert`; UsageError if `out` is no folder
 */
export async function convertFolder(item: ReleaseItem, options: FolderOptions): Promise<FolderResult> {
  const start = performance.now();
  const { signal, env, onNote, onProgress, out, noClobber } = options;
  const dtypes = item.dtype ?? ['fp32'];
  const target = await openFolderTarget(out, { noClobber, files: [...FILES, ...dtypes.map(modelPath)] });
  try {
    const released = await buildFolder(
      item,
      target.staged,
      {
        signal,
        env,
        onNote,
        onProgress,
        nameStyle: 'plain',
        epoch: sourceDateEpoch(env ?? process.env),
        verify: options.verify ?? true,
      },
      options.extra,
    );
    if (signal?.aborted) throw new InterruptedError('interrupted; nothing was written');
    const existing = await stat(target.path).catch(() => undefined);
    if (existing) await mkdir(join(target.path, 'onnx'), { recursive: true });
    await target.publish(released.files.map(({ path }) => path));
    return { ...released, path: target.path, seconds: (performance.now() - start) / 1000 };
  } finally {
    await target.discard();
  }
}
