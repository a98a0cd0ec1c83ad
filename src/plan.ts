/**
 * Which files a conversion writes, and which combinations of options cannot be: one sentence each, with one that can.
 */
import { UsageError, listNames, printable } from './errors.js';
import { precision, precisionPaths, type PrecisionName } from './precision.js';

export interface PlanOptions {
  readonly out: string;
  readonly precisions?: readonly PrecisionName[];
  readonly keep?: readonly string[];
  readonly reduceRange?: boolean;
  readonly link?: boolean;
  readonly externalData?: boolean;
  readonly verify?: boolean;
  readonly acceptQuality?: boolean;
}

/** @throws UsageError for options that exclude each other */
export function planPrecisions(
  options: PlanOptions,
): { readonly name: PrecisionName; readonly path: string }[] {
  const names = options.precisions ?? ['fp32'];
  if (names.length === 0)
    throw new UsageError('--dtype names no precision', { next: 'For example: --dtype fp32,q8.' });
  const repeated = names.filter((name, i) => names.indexOf(name) !== i);
  if (repeated.length > 0) {
    throw new UsageError(`--dtype names ${listNames(new Set(repeated))} twice`, {
      next: 'Name each precision once.',
    });
  }
  const rows = names.map((name) => precision(name));
  const converted = rows.filter(({ name }) => name !== 'fp32').map(({ name }) => name);
  if (options.link && options.externalData) {
    throw new UsageError('--link and --external-data exclude each other: a linked model copies no weights', {
      next: 'Use one of them: --link beside the checkpoint, --external-data anywhere.',
    });
  }
  if (options.link && converted.length > 0) {
    throw new UsageError(
      `--link goes with --dtype fp32 only: ${listNames(converted)} changes the weights, a link leaves them as they are`,
      { next: `Use --link --dtype fp32, or --external-data --dtype ${names.join(',')}.` },
    );
  }
  if (options.keep && converted.length === 0) {
    throw new UsageError(`--keep ${printable(options.keep.join(','))}: in fp32 everything is kept`, {
      next: 'Leave --keep out, or choose another precision: --dtype q8.',
    });
  }
  if (options.reduceRange !== undefined && !rows.some(({ weights }) => weights === 'int8')) {
    throw new UsageError(`--reduce-range is about 8-bit signed weights; ${listNames(names)} has none`, {
      next: 'Use it with --dtype int8 or q8.',
    });
  }
  if (options.acceptQuality && (options.verify === false || converted.length === 0)) {
    throw new UsageError(
      options.verify === false
        ? '--accept-quality judges what --no-verify does not look at'
        : '--accept-quality is for lower precisions: fp32 is either right or wrong',
      { next: 'Leave one of them out, or choose another precision: --dtype q4.' },
    );
  }
  return precisionPaths(options.out, names);
}

/** Options that only change what another one does. */
export interface Companions {
  readonly resize?: string;
  readonly imageSize?: unknown;
  readonly patchSize?: unknown;
  readonly dynamicSize?: boolean;
  readonly images?: readonly string[];
  readonly samples?: number;
  readonly seed?: number;
  readonly threads?: number;
  readonly verify?: boolean;
}

/** @throws UsageError for an option that would have no effect without, or beside, another one */
export function requireCompanions(options: Companions): void {
  const { resize, imageSize, patchSize, dynamicSize, images, samples, seed } = options;
  if (resize !== undefined && imageSize === undefined && patchSize === undefined && !dynamicSize) {
    throw new UsageError(`--resize ${printable(resize)} says how to resize, and nothing says to what`, {
      next: `Give the size with it: --resize ${printable(resize)} --img-size 384.`,
    });
  }
  const generated = samples !== undefined ? '--samples' : seed !== undefined ? '--seed' : undefined;
  if (images?.length && generated !== undefined) {
    throw new UsageError(`${generated} is about generated inputs; with --image the pictures are the inputs`, {
      next: 'Use one of them.',
    });
  }
  if (options.verify === false && options.threads !== undefined) {
    throw new UsageError('--threads is for the verification, and --no-verify leaves it out', {
      next: 'Use one of them.',
    });
  }
}
