/** `convert --format hub`: one model as a folder that clients load. */
import { UsageError } from '../../errors.js';
import type { PrecisionName } from '../../precision.js';
import type { ReleaseItem } from '../../release/manifest.js';
import type { OutType, TaskOptions } from '../../task.js';
import { EXIT } from '../exit.js';
import { sourceOptions, type SourceFlags } from '../options.js';
import { pushOptions, pushedLines, type PushFlags } from '../push.js';
import { ExitRequest, type Session } from '../session.js';

export interface FolderFlags extends SourceFlags, PushFlags, Omit<TaskOptions, 'outTypes'> {
  readonly out: string;
  readonly to?: string;
  readonly format?: 'hub';
  readonly withWeights?: boolean;
  readonly opset?: number;
  readonly externalData?: boolean;
  readonly dtype?: readonly PrecisionName[];
  readonly keep?: readonly string[];
  readonly reduceRange?: boolean;
  readonly link?: boolean;
  readonly dynamicSize?: boolean;
  readonly acceptQuality?: boolean;
  readonly batch?: number;
  readonly outType?: readonly OutType[];
  readonly verify: boolean;
  readonly clobber: boolean;
}

/** A folder is asked for by its name's end, or in words; `--to` means a folder of weights. */
export function writesFolder({ out, to, format }: Pick<FolderFlags, 'out' | 'to' | 'format'>): boolean {
  return to === undefined && (format === 'hub' || /[\\/]$/.test(out));
}

export async function convertToFolder(flags: FolderFlags, session: Session): Promise<void> {
  if (flags.report) {
    throw new UsageError('a folder for the hub has its own report (parity.html, parity.json)', {
      next: 'Leave --report out.',
    });
  }
  if (flags.link) {
    throw new UsageError('--link writes no weights, and a folder for the hub needs them', {
      next: 'Leave --link out.',
    });
  }
  if (flags.dynamicSize) {
    throw new UsageError(
      '--dynamic-size writes a file; the config.json of a folder for the hub states one size',
      {
        next: 'Give --out a name that ends in .onnx, or leave --dynamic-size out.',
      },
    );
  }
  if (flags.layers) {
    throw new UsageError('--layers belongs to a report of its own', {
      next: 'Leave it out, or run convert-beit verify --layers on a file of the folder.',
    });
  }
  const { convertFolder, nameOfFolder } = await import('../../release/index.js');
  const name = flags.push?.split('/').at(-1)?.replaceAll('{name}', nameOfFolder(flags.out));
  const item: ReleaseItem = {
    name: name === undefined || name === '' ? nameOfFolder(flags.out) : name,
    source: flags.src,
    config: flags.config,
    labels: flags.labels,
    dtype: flags.dtype && [...flags.dtype],
    task: flags.task,
    opset: flags.opset,
    keep: flags.keep && [...flags.keep],
    image_size: flags.imgSize && [...flags.imgSize],
    resize: flags.resize,
    beit_version: flags.beitVersion && ({ '1': 1, '2': 2 } as const)[flags.beitVersion],
    with_weights: flags.withWeights,
    external_data: flags.externalData,
    samples: flags.samples,
    push: flags.push,
  };
  const push = pushOptions(flags, [item.name]);
  const { layout, ema, key, sharedTable, patchSize, stream, seed, images, threads } = sourceOptions(flags);
  const { reduceRange, acceptQuality } = flags;
  const { batch, outType: outTypes, outIndices, finalNorm, dropHead, featureTaps, upsample } = flags;
  const { result, pushed } = await session.work(async (common) => {
    const made = await convertFolder(item, {
      ...common,
      out: flags.out,
      noClobber: !flags.clobber,
      verify: flags.verify,
      extra: {
        layout,
        ema,
        key,
        sharedTable,
        patchSize,
        stream,
        reduceRange,
        acceptQuality,
        seed,
        images,
        threads,
        batch,
        outTypes,
        outIndices,
        finalNorm,
        dropHead,
        featureTaps,
        upsample,
      },
    });
    const folders = [{ name: item.name, folder: made.path, released: made }];
    return { result: made, pushed: await push(folders, common, session) };
  });
  const failures = pushed.flatMap(({ error }) => (error ? [error] : []));
  const ok = failures.length === 0;
  await session.answer({ ok, ...result, ...(pushed.length > 0 && { pushed }) }, async () => [
    ...(await import('../show/folder.js')).showFolder(result, session),
    ...pushedLines(pushed),
  ]);
  if (!ok) {
    throw new ExitRequest(failures.every(({ kind }) => kind === 'ParityError') ? EXIT.parity : EXIT.failed);
  }
}

/** Options of folders only. */
export const FOLDER_ONLY = ['format', 'withWeights', 'push', 'dryRun', 'private', 'pr'] as const;
