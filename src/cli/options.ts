/**
 * Options as the commands share them: how a value is checked, and what a shell may offer for it.
 */
import { InvalidArgumentError, Option } from 'commander';
import { printable } from '../errors.js';
import { LABEL_SETS, LABEL_WORDS, NO_LABELS } from '../label-sets.js';
import { PRECISIONS, type PrecisionName } from '../precision.js';
import type { Route } from '../preprocessing-routes.js';
import { FEATURE_TAPS, OUT_TYPES, TASKS, type OutType } from '../task.js';
import { MOST_PIXELS, RESIZE_METHODS, type ResizeMethod } from '../resizing.js';

/** What can stand where a value is expected; shell completion is made from it. */
export type ValueKind = 'source' | 'file' | 'none';

export class CliOption extends Option {
  valueKind: ValueKind = 'none';
  /** words that can be given instead of a file */
  words: readonly string[] = [];
  /** the command cannot do without it */
  needed = false;

  takes(kind: ValueKind, words: readonly string[] = []): this {
    this.valueKind = kind;
    this.words = words;
    return this;
  }

  mustBeGiven(): this {
    this.needed = true;
    return this;
  }
}

/** A whole number in `[least, most]`, written in digits. */
export function integer(least: number, most: number): (value: string) => number {
  return (value) => {
    const number = /^[+-]?\d{1,15}$/.test(value) ? Number(value) : Number.NaN;
    if (!(number >= least && number <= most)) {
      throw new InvalidArgumentError(`It must be a whole number from ${least} to ${most}.`);
    }
    return number;
  };
}

/** A name or path. One that starts with a dash is nearly always an option whose neighbour lost its value. */
export function text(value: string): string {
  if (value === '') throw new InvalidArgumentError('It must not be empty.');
  if (value.startsWith('-')) {
    throw new InvalidArgumentError(`Its value is missing; a file of that name is ./${value}.`);
  }
  return value;
}

/** `384` or `384x640` (height first), in pixels. */
export function imageSize(value: string): readonly [number, number] {
  const sides = /^(\d{1,5})(?:[x×](\d{1,5}))?$/i.exec(value);
  const [height, width] = [Number(sides?.[1]), Number(sides?.[2] ?? sides?.[1])];
  if (!(height >= 1 && height <= MOST_PIXELS && width >= 1 && width <= MOST_PIXELS)) {
    throw new InvalidArgumentError(
      `It must be N or HxW, whole numbers of pixels from 1 to ${MOST_PIXELS}, such as 384 or 384x640.`,
    );
  }
  return [height, width];
}

export function texts(value: string, before: readonly string[] | undefined): string[] {
  return [...(before ?? []), text(value)];
}

/** `a,b,c` */
function list(value: string): string[] {
  const items = text(value)
    .split(',')
    .map((item) => item.trim());
  if (items.includes('')) throw new InvalidArgumentError('An item between two commas is empty.');
  return items;
}

function outTypes(value: string): OutType[] {
  return list(value).map((item) => {
    const known = OUT_TYPES.find((type) => type === item);
    if (known) return known;
    throw new InvalidArgumentError(`${printable(item)} is none of ${OUT_TYPES.join(', ')}.`);
  });
}

function indices(value: string): number[] {
  return value.split(',').map((item) => {
    if (/^ *-?\d{1,4} *$/.test(item)) return Number(item);
    throw new InvalidArgumentError('It must be whole numbers separated by commas, such as 3,5,7,-1.');
  });
}

function precisions(value: string): PrecisionName[] {
  return list(value).map((item) => {
    const row = PRECISIONS.get(item);
    if (row) return row.name;
    throw new InvalidArgumentError(`${printable(item)} is none of ${[...PRECISIONS.keys()].join(', ')}.`);
  });
}

/** As `ROUTES` of preprocessing-routes.ts, which help texts need not load. */
const ROUTES: readonly Route[] = ['official', 'timm', 'transformers', 'mmpretrain'];

/** `2/4` */
export function shard(value: string): readonly [number, number] {
  const [, index, of] = (/^(\d{1,6})\/(\d{1,6})$/.exec(value) ?? []).map(Number);
  if (index === undefined || of === undefined || !(index >= 1 && index <= of)) {
    throw new InvalidArgumentError('It must be i/n with i from 1 to n, e.g. 1/4.');
  }
  return [index, of];
}

const make = (flags: string, description: string): CliOption => new CliOption(flags, description);

/** Every option there is. A function each: commander’s options hold state. */
export const OPTIONS = {
  src: () =>
    make('--src <source>', 'what to read: official, official:<name>, hf:<owner>/<repo>, https://…, or a path')
      .takes('source')
      .mustBeGiven()
      .argParser(text),
  out: () =>
    make(
      '--out <file>',
      'what to write, by its ending: ONNX, or weights (.safetensors, .pth, .pt, .bin); replaced only by a verified one',
    )
      .takes('file')
      .mustBeGiven()
      .argParser(text),
  to: () =>
    make(
      '--to <layout>',
      'weights for this framework (default: mmpretrain); a folder for transformers',
    ).choices(['official', 'timm', 'transformers', 'mmpretrain']),
  drop: () =>
    make(
      '--drop <name...>',
      'leave out tensors that the layout cannot express; * stands for any part of a name',
    ).argParser(texts),
  all: () => make('--all', 'show equal tensors too'),
  config: () =>
    make('--config <file>', "what shapes cannot tell, with the field names of transformers' BEiT config.json")
      .takes('file')
      .argParser(text),
  layout: () =>
    make('--layout <name>', 'whose tensor names the source has (default: told by the names)').choices([
      'official',
      'timm',
      'transformers',
      'mmpretrain',
    ]),
  stream: () => make('--stream', 'read a remote file in parts, where it is, instead of downloading it first'),
  noStream: () =>
    make('--no-stream', 'download a remote file first, instead of reading only the parts needed'),
  opset: () => make('--opset <n>', 'ONNX operator set (default: 17)').argParser(integer(1, 99)),
  task: () =>
    make('--task <name>', 'what the graph is for (default: what the checkpoint is for)').choices(TASKS),
  outTypes: () =>
    make(
      '--out-type <list>',
      'features: raw, cls_token, featmap, avg_featmap, separated by commas',
    ).argParser(outTypes),
  outIndices: () =>
    make('--out-indices <list>', 'blocks to take features after: 0,3,-1 (negative: from the end)').argParser(
      indices,
    ),
  finalNorm: () => make('--final-norm', 'features: normalise all tokens after the last block'),
  noFinalNorm: () => make('--no-final-norm', 'features: leave that norm out'),
  dropHead: () => make('--drop-head', 'a classifier without its head: the feature the head would see'),
  featureTaps: () =>
    make('--feature-taps <whose>', 'segment: how out_indices are counted (default: unilm)').choices(
      FEATURE_TAPS,
    ),
  upsample: () => make('--upsample', 'segment: logits at the size of the image'),
  batchSize: () =>
    make('--batch <n>', 'images per run, fixed in the graph (default: any number)').argParser(
      integer(1, 4096),
    ),
  dynamicSize: () =>
    make(
      '--dynamic-size',
      'images of any size; --resize transformers (default) or timm-simple resizes the positions in the graph',
    ),
  externalData: () =>
    make('--external-data', 'weights in <file>_data beside the graph (by itself beyond 2 GiB)'),
  verify: () =>
    make('--no-verify', 'write the file without checking it').conflicts([
      'samples',
      'seed',
      'image',
      'layers',
    ]),
  dtype: () =>
    make(
      '--dtype <list>',
      'precisions, separated by commas: fp32, fp16, q8, int8, uint8, q4, q4f16; several get names of their own beside --out (default: fp32)',
    ).argParser(precisions),
  keep: () =>
    make(
      '--keep <list>',
      'places that stay float32: patch, head, first, last, attention, mlp, position, layers.<i>, or none',
    ).argParser(list),
  reduceRange: () =>
    make('--reduce-range', '7-bit weights in int8 and q8, for processors without VNNI (default: q8 only)'),
  fullRange: () => make('--no-reduce-range', '8-bit weights in q8 as well'),
  link: () =>
    make('--link', 'write only the graph; the weights stay in the checkpoint, which must lie beside --out'),
  acceptQuality: () =>
    make('--accept-quality', 'keep a file of lower precision that is worse than its precision should be'),
  samples: () =>
    make('--samples <n>', 'number of generated inputs to verify with').argParser(integer(1, 1000)),
  seed: () => make('--seed <n>', 'seed of the generated inputs').argParser(integer(0, 4_294_967_295)),
  image: () =>
    make('--image <file...>', 'verify with these pictures, and classify them').takes('file').argParser(texts),
  layers: () =>
    make('--layers', 'find the layer, the step and the mistake where the file leaves the reference'),
  report: () =>
    make('--report <file>', 'write the report too: .html, .json or .md by the ending (may be given again)')
      .takes('file')
      .argParser(texts),
  against: () =>
    make(
      '--against <file...>',
      'compare with another export (.onnx) or recorded outputs (.safetensors, .json)',
    )
      .takes('file')
      .argParser(texts),
  golden: () =>
    make(
      '--golden [name]',
      'compare with the values published for this checkpoint (with --image 000000039769.jpg)',
    ),
  clobber: () => make('--no-clobber', 'refuse to replace an existing file'),
  sharedBias: () =>
    make(
      '--shared-bias <how>',
      'a position table shared by all blocks: keep it shared, or spread it to the layers',
    ).choices(['keep', 'layers']),
  beitVersion: () =>
    make(
      '--beit-version <v>',
      'BEiT 1 or 2, where nothing in the source tells (decides the normalisation)',
    ).choices(['1', '2']),
  ema: () =>
    make('--ema', 'the averaged weights of a PyTorch file (model_ema, ema_state_dict)').conflicts(['key']),
  key: () =>
    make(
      '--key <path>',
      'where in a PyTorch file the weights are, such as model or trainer.state_dict',
    ).argParser(text),
  imgSize: () =>
    make('--img-size <size>', 'resize to this image size in pixels: N or HxW').argParser(imageSize),
  patchSize: () =>
    make('--patch-size <n>', 'resize the patch kernels to this side in pixels').argParser(
      integer(1, MOST_PIXELS),
    ),
  resize: () =>
    make('--resize <method>', 'whose arithmetic resizes the positions (default: unilm)').choices(
      RESIZE_METHODS,
    ),
  threads: () =>
    make('--threads <n>', 'processor cores that may be used (default: all)').argParser(integer(1, 1024)),
  format: () =>
    make(
      '--format <format>',
      'hub: a folder that transformers.js and the hub know (default where --out ends in /)',
    ).choices(['hub']),
  withWeights: () => make('--with-weights', 'model.safetensors for transformers in the folder too'),
  push: () =>
    make('--push <owner/name>', 'onto the hub, in one commit; {name} stands for a model’s name').argParser(
      text,
    ),
  dryRun: () => make('--dry-run', 'say what a push would change, and send nothing'),
  private: () => make('--private', 'a new repository is private'),
  pr: () => make('--pr', 'push as a pull request'),
  stats: () => make('--stats', 'read the weights too: range, mean, spread, and what is unusual'),
  labels: () =>
    make(
      '--labels <names>',
      `class names: ${LABEL_WORDS}; or a file: one per line, a JSON array or object, a config.json`,
    )
      .takes('file', [...LABEL_SETS.map(({ name }) => name), NO_LABELS])
      .argParser(text),
  top: () => make('--top <n>', 'classes per picture (default: 5)').argParser(integer(1, 100_000)),
  preprocess: () =>
    make(
      '--preprocess <whose>',
      "whose evaluation transform, if not the model's own or that of preprocessor_config.json beside it",
    ).choices(ROUTES),
  againstModel: () =>
    make('--against <model>', 'a second ONNX file: how often both agree').takes('file').argParser(text),
  classes: () =>
    make('--classes <file>', "numbers of the data's class names: names in order, name,number rows, or JSON")
      .takes('file')
      .argParser(text),
  batch: () => make('--batch <n>', 'pictures per run of the model (default: 8)').argParser(integer(1, 1024)),
  shard: () => make('--shard <i/n>', 'only the i-th of n parts, the same on every machine').argParser(shard),
  results: () =>
    make('--results <file>', 'append a line of JSON per picture to this file').takes('file').argParser(text),
  resume: () => make('--resume', 'go on with the file of --results; starts it where there is none'),
  merge: () =>
    make('--merge <file...>', 'no model: put the results files of all parts together')
      .takes('file')
      .argParser(texts),
  json: () => make('--json', 'print one JSON object on stdout'),
  quiet: () => make('--quiet', 'print errors only'),
  verbose: () => make('--verbose', 'more detail; stack traces and causes of errors'),
} as const;

/** Values of the options that say how a source is read and checked, as commander delivers them. */
export interface SourceFlags {
  readonly src: string;
  readonly config?: string;
  readonly layout?: string;
  readonly sharedBias?: 'keep' | 'layers';
  readonly labels?: string;
  readonly ema?: boolean;
  readonly key?: string;
  readonly beitVersion?: '1' | '2';
  readonly stream?: boolean;
  readonly imgSize?: readonly [number, number];
  readonly patchSize?: number;
  readonly resize?: ResizeMethod;
  readonly samples?: number;
  readonly seed?: number;
  readonly image?: readonly string[];
  readonly layers?: boolean;
  readonly report?: readonly string[];
  readonly threads?: number;
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly verbose?: boolean;
}

const SHARED_TABLE = { keep: 'keep', layers: 'spread' } as const;

/** The same for the pipeline. */
export function sourceOptions(flags: SourceFlags) {
  return {
    src: flags.src,
    configPath: flags.config,
    layout: flags.layout,
    labels: flags.labels,
    sharedTable: flags.sharedBias && SHARED_TABLE[flags.sharedBias],
    version: flags.beitVersion && ({ '1': 1, '2': 2 } as const)[flags.beitVersion],
    ema: flags.ema,
    key: flags.key,
    stream: flags.stream,
    imageSize: flags.imgSize,
    patchSize: flags.patchSize,
    resize: flags.resize,
    samples: flags.samples,
    seed: flags.seed,
    images: flags.image,
    layers: flags.layers,
    reports: flags.report,
    threads: flags.threads,
  };
}

/** Values of the options that say how a finished model is fed. */
export interface ModelFlags {
  readonly labels?: string;
  readonly preprocess?: Route;
  readonly beitVersion?: '1' | '2';
  readonly threads?: number;
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly verbose?: boolean;
}

export function modelOptions(flags: ModelFlags) {
  return {
    labels: flags.labels,
    preprocess: flags.preprocess,
    version: flags.beitVersion && ({ '1': 1, '2': 2 } as const)[flags.beitVersion],
    threads: flags.threads,
  };
}
