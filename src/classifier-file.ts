/**
 * An ONNX file as a classifier: how it is fed, what its classes are called. Told by its own metadata where this package
 * wrote it, else by the files beside it and by what the person says.
 */
import { basename, dirname, join } from 'node:path';
import { sha256Of } from './digest.js';
import { statedMethod } from './dynamic-size.js';
import { InputError, printable } from './errors.js';
import type { Classifier } from './evaluate/run.js';
import type { Preprocessing } from './image.js';
import type { Env } from './env.js';
import { NO_LABELS, labelSetNamed } from './label-sets.js';
import { fitLabels, isPlaceholder, parseLabels } from './labels.js';
import {
  fieldsOf,
  parsePreprocessing,
  readPreprocessorConfig,
  routePreprocessing,
  type Route,
} from './preprocessing-routes.js';
import { openFile } from './file-source.js';
import { refuseNotOnnx } from './not-onnx.js';
import { readText } from './text-file.js';
import { labelsFromFile, labelsOfSet } from './verbs/names.js';
import { openOnnxFile, type OnnxFile, type OnnxPort } from './verify/onnx-file.js';

export interface ClassifierOptions {
  /** file of class names, a set of them by its name, or `none` */
  readonly labels?: string;
  /** whose transform, whatever else tells */
  readonly preprocess?: Route;
  /** BEiT version, where the file does not tell and the transform depends on it */
  readonly version?: 1 | 2;
  /** hash the model's bytes; default true */
  readonly digest?: boolean;
  readonly signal?: AbortSignal;
  readonly onNote?: (text: string) => void;
  /** where the hub's settings are, for a set of class names */
  readonly env?: Env;
}

/** TensorProto.DataType.FLOAT */
const FLOAT = 1;

/**
 * @throws InputError if it is no classifier of pictures, or nothing tells how its pictures are prepared; FormatError if it
 *   is no ONNX file
 */
export async function openClassifier(path: string, options: ClassifierOptions = {}): Promise<Classifier> {
  const name = printable(basename(path));
  await refuseNotOnnx(path);
  const file = await openOnnxFile(path);
  const source = await openFile(path);
  try {
    const beside = await readBeside(path, 'config.json', options.onNote);
    const { input, shape, fixedBatch } = inputOf(file, beside, name);
    const { output, classes } = outputOf(file, name);
    const labels = await labelsOf(file, beside, classes, name, options);
    const preprocessing = await preprocessingOf(path, file, shape, name, options);
    if (preprocessing.mean.length !== shape[0] || String(preprocessing.crop) !== String(shape.slice(1))) {
      throw new InputError(
        `the preprocessing (${preprocessing.origin}) makes ${preprocessing.mean.length}×${preprocessing.crop.join('×')} pictures; ${name} takes ${shape.join('×')}`,
        { next: 'Give the transform with --preprocess.' },
      );
    }
    const hash = options.digest ?? true;
    const [data] = file.dataFiles;
    return {
      path,
      bytes: source.size,
      sha256: hash ? await sha256Of(source, options.signal) : '',
      ...(hash && data && { dataSha256: await sha256Of(data, options.signal) }),
      input,
      output,
      classes,
      shape,
      ...(fixedBatch !== undefined && { fixedBatch }),
      ...(labels && { labels }),
      preprocessing,
    };
  } finally {
    await source.close();
    await file.close();
  }
}

/** A JSON object beside the model; one that is not there or not readable tells nothing. */
async function readBeside(
  path: string,
  file: string,
  onNote: ClassifierOptions['onNote'],
): Promise<ReadonlyMap<string, unknown> | undefined> {
  let text: string;
  try {
    text = await readText(join(dirname(path), file));
  } catch {
    return undefined;
  }
  try {
    return fieldsOf(JSON.parse(text));
  } catch {
    onNote?.(`${file} beside the model is no JSON; it is ignored`);
    return undefined;
  }
}

function describe({ name, shape }: OnnxPort): string {
  const sides = shape?.map((side) => (side === null ? '?' : printable(String(side), 20))).join(', ') ?? '?';
  return `${printable(name, 40)} [${sides}]`;
}

function inputOf(
  file: OnnxFile,
  beside: ReadonlyMap<string, unknown> | undefined,
  name: string,
): { input: string; shape: [number, number, number]; fixedBatch: number | undefined } {
  // Old exporters list weights among the inputs.
  const inputs = file.inputs.filter((port) => !file.initializers.has(port.name));
  const [port] = inputs;
  const shape = port?.shape;
  if (inputs.length !== 1 || port.dataType !== FLOAT || shape?.length !== 4) {
    throw new InputError(
      `${name} takes ${inputs.map(describe).join(', ') || 'no input'}; a model of pictures takes one float32 [batch, channels, height, width]`,
    );
  }
  const size = beside?.get('image_size');
  const known = Array.isArray(size) ? (size as unknown[]) : [size, size];
  const own = ownSize(file);
  const side = (at: number): number => {
    const given = typeof shape[at] === 'number' && shape[at] > 0 ? shape[at] : undefined;
    const told = at === 1 ? (beside?.get('num_channels') ?? 3) : (own ?? known)[at - 2];
    const value = given ?? told;
    if (typeof value === 'number' && Number.isSafeInteger(value) && value > 0 && value <= 16_384)
      return value;
    throw new InputError(`${name} takes pictures of any size: ${describe(port)}`, {
      next: 'Put the config.json of the model, which has its image_size, beside it.',
    });
  };
  const batch = shape[0];
  return {
    input: port.name,
    shape: [side(1), side(2), side(3)],
    fixedBatch: typeof batch === 'number' && batch > 0 ? batch : undefined,
  };
}

/** The size that our own files for images of any size were made from, and are best at. */
function ownSize({ metadata }: OnnxFile): readonly unknown[] | undefined {
  if (statedMethod(metadata) === undefined) return undefined;
  try {
    const config = fieldsOf(JSON.parse(metadata.get('convert_beit.config') ?? 'null'));
    const size = config?.get('imageSize');
    return Array.isArray(size) ? (size as unknown[]) : undefined;
  } catch {
    return undefined;
  }
}

function outputOf(file: OnnxFile, name: string): { output: string; classes: number } {
  const port =
    file.outputs.find((each) => each.name === 'logits') ??
    (file.outputs.length === 1 ? file.outputs[0] : undefined);
  const classes = port?.shape?.length === 2 ? port.shape[1] : undefined;
  if (!port || port.dataType !== FLOAT || typeof classes !== 'number' || classes < 1) {
    throw new InputError(
      `${name} gives ${file.outputs.map(describe).join(', ') || 'nothing'}; a classifier gives logits [batch, classes] in float32`,
    );
  }
  return { output: port.name, classes };
}

async function labelsOf(
  file: OnnxFile,
  beside: ReadonlyMap<string, unknown> | undefined,
  classes: number,
  name: string,
  options: ClassifierOptions,
): Promise<readonly string[] | undefined> {
  if (options.labels === NO_LABELS) return undefined;
  if (options.labels !== undefined) {
    const set = labelSetNamed(options.labels);
    if (set) return (await labelsOfSet(set, classes, name, options)).labels;
    const given = (await labelsFromFile(options.labels))!;
    const labels = fitLabels(given.labels, classes);
    if (labels.length === classes) return labels;
    throw new InputError(
      `${given.origin} has ${labels.length.toLocaleString('en-US')} class names; ${name} has ${classes.toLocaleString('en-US')} classes`,
      { next: 'Give the names that belong to this model.' },
    );
  }
  const own = file.metadata.get('convert_beit.labels');
  const told =
    own !== undefined
      ? { text: own, from: `the metadata of ${name}` }
      : beside && (beside.has('id2label') || beside.has('label_names'))
        ? { text: JSON.stringify(Object.fromEntries(beside)), from: 'config.json beside the model' }
        : undefined;
  if (!told) return undefined;
  try {
    const labels = fitLabels(parseLabels(told.text, told.from), classes);
    if (labels.every(isPlaceholder)) return undefined;
    if (labels.length === classes) return labels;
    options.onNote?.(`${told.from} has ${labels.length} names for ${classes} classes: they are left out`);
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    options.onNote?.(`${error.message}: the class names are left out`);
  }
  return undefined;
}

async function preprocessingOf(
  path: string,
  file: OnnxFile,
  [channels, height, width]: readonly [number, number, number],
  name: string,
  options: ClassifierOptions,
): Promise<Preprocessing> {
  const { metadata } = file;
  const imageSize = [height, width] as const;
  if (options.preprocess !== undefined) {
    const version = options.version ?? versionOf(metadata, name);
    if (version === undefined && options.preprocess !== 'transformers') {
      options.onNote?.(`BEiT v1 assumed (mean and std 0.5): nothing tells; --beit-version says otherwise`);
    }
    const hiddenSize = hiddenSizeOf(file);
    return routePreprocessing(options.preprocess, {
      version: version ?? 1,
      imageSize,
      channels,
      ...(hiddenSize !== undefined && { hiddenSize }),
    });
  }
  const own = metadata.get('convert_beit.preprocessing');
  if (own !== undefined) return parsePreprocessing(own, name);
  const config = join(dirname(path), 'preprocessor_config.json');
  let text: string;
  try {
    text = await readText(config);
  } catch (cause) {
    throw new InputError(`nothing tells how pictures are prepared for ${name}`, {
      next: 'Put its preprocessor_config.json beside it, or give --preprocess official, timm, transformers or mmpretrain.',
      cause,
    });
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new InputError('preprocessor_config.json beside the model is no JSON', { cause });
  }
  return readPreprocessorConfig(json, imageSize, 'preprocessor_config.json');
}

function versionOf(metadata: ReadonlyMap<string, string>, name: string): 1 | 2 | undefined {
  const own = metadata.get('convert_beit.beit_version');
  if (own === '1' || own === '2') return Number(own) as 1 | 2;
  return /beit[-_]?v?2/i.test(name) ? 2 : undefined;
}

/** Length of the class token, whatever the exporter calls it. */
function hiddenSizeOf({ initializers }: OnnxFile): number | undefined {
  const token = [...initializers.values()].find(
    ({ dims }) => dims.length === 3 && dims[0] === 1 && dims[1] === 1 && dims[2] > 1,
  );
  return token?.dims[2];
}
