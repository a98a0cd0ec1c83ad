/**
 * The command line that makes a report again: every option that decides what is written or compared, what was a default
 * said in words where another machine or file could have another.
 */
import type { ConvertOptions, VerifyOptions } from './results.js';
import { commandLine, type CommandPart } from './verify/report/command.js';

type Part = CommandPart | undefined;

const given = (flag: string, value: string | number | undefined): Part =>
  value === undefined ? undefined : [flag, value];
const list = (flag: string, values: readonly (string | number)[] | undefined): Part =>
  values?.length ? [flag, values.join(',')] : undefined;
const files = (flag: string, paths: readonly string[] | undefined): Part =>
  paths?.length ? [flag, paths] : undefined;
const when = (flag: string, said: boolean | undefined): Part => (said ? [flag] : undefined);
/** Two flags for the two answers; neither where nobody answered. */
const either = (said: boolean | undefined, yes: string, no: string): Part =>
  said === undefined ? undefined : [said ? yes : no];

/**
 * @param pinned  the source as it was found, a hub's with its commit
 * @param samples generated inputs that were compared
 */
export function commandOf(options: ConvertOptions | VerifyOptions, pinned: string, samples: number): string {
  const verifying = 'model' in options;
  return commandLine(verifying ? ['verify', options.model] : [], [
    ['--src', options.src.startsWith('hf:') ? pinned : options.src],
    ...(verifying ? [] : [given('--out', options.out), list('--dtype', options.precisions)]),
    when('--stream', options.stream),
    given('--config', options.configPath),
    given('--labels', options.labels),
    given('--layout', options.layout),
    given('--beit-version', options.version),
    options.sharedTable && ['--shared-bias', options.sharedTable === 'spread' ? 'layers' : 'keep'],
    when('--ema', options.ema),
    given('--key', options.key),
    given('--img-size', options.imageSize?.join('x')),
    given('--patch-size', options.patchSize),
    given('--resize', options.resize),
    ...(verifying ? [] : graphParts(options)),
    when('--accept-quality', options.acceptQuality),
    ...inputParts(options, samples),
    given('--threads', options.threads),
    when('--layers', options.layers),
    ...(verifying
      ? [
          files('--against', options.against),
          options.golden === true ? (['--golden'] as const) : given('--golden', options.golden),
        ]
      : []),
    ...(options.reports ?? []).map((path) => ['--report', path] as const),
  ]);
}

/** What the graph computes and how it is stored. That a file must not exist yet is no part of doing it again. */
function graphParts(options: ConvertOptions): Part[] {
  return [
    when('--dynamic-size', options.dynamicSize),
    given('--task', options.task),
    list('--out-type', options.outTypes),
    list('--out-indices', options.outIndices),
    either(options.finalNorm, '--final-norm', '--no-final-norm'),
    when('--drop-head', options.dropHead),
    given('--feature-taps', options.featureTaps),
    when('--upsample', options.upsample),
    given('--batch', options.batch),
    given('--opset', options.opset),
    when('--external-data', options.externalData),
    when('--link', options.link),
    options.keep && ['--keep', options.keep.join(',') || 'none'],
    either(options.reduceRange, '--reduce-range', '--no-reduce-range'),
    when('--no-verify', options.verify === false),
  ];
}

/** Masks and what fills a batch are generated beside pictures too. */
function inputParts({ images, samples, seed }: ConvertOptions | VerifyOptions, compared: number): Part[] {
  if (images?.length) return [files('--image', images), given('--seed', seed)];
  if (compared > 0) return [given('--samples', compared), given('--seed', seed ?? 0)];
  return [given('--samples', samples), given('--seed', seed)];
}
