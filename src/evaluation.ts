/**
 * The verbs that run a finished model: `classify`, `evaluate`, `mergeEvaluations`.
 */
import { InterruptedError } from './errors.js';
import type { EvaluateRun } from './evaluate/run.js';
import type { Evaluation } from './evaluate/tally.js';
import type { Preprocessing } from './image.js';
import type { Route } from './preprocessing-routes.js';
import type { CommonOptions } from './results.js';
import type { Prediction } from './verify/report.js';
import { VERSION } from './version.js';

export type { EvaluateRun } from './evaluate/run.js';
export type { Accuracy, Agreement, ClassTally, Evaluation } from './evaluate/tally.js';

/** How a finished model is fed, and what its classes are called. */
export interface ModelOptions extends CommonOptions {
  /** ONNX file of a classifier, written by this package or not */
  readonly model: string;
  /**
   * File of class names: one per line, a JSON array, a JSON object by id, or a config.json. Or `imagenet-1k`,
   * `imagenet-22k`, `ade20k`: the set of that name, from the hub; `none`: no names.
   */
  readonly labels?: string;
  /** whose transform; default: what the model's metadata or the preprocessor_config.json beside it say */
  readonly preprocess?: Route;
  /** BEiT version, where the transform depends on it and the file does not tell */
  readonly version?: 1 | 2;
  /** processor cores; default: all */
  readonly threads?: number;
}

/** What is classified. */
export interface ClassifyOptions extends ModelOptions {
  /** paths of pictures */
  readonly images: readonly string[];
  /** how many classes per picture; default 5 */
  readonly top?: number;
}

/** One picture, and what it shows. */
export interface Classification {
  /** as it was given */
  readonly image: string;
  /** best first */
  readonly predictions: readonly Prediction[];
}

/** What {@link classify} returns. */
export interface ClassifyResult {
  readonly model: { readonly path: string; readonly classes: number };
  readonly preprocessing: Preprocessing;
  readonly images: readonly Classification[];
  readonly seconds: number;
}

/** What is evaluated, and where the results go. */
export interface EvaluateOptions extends ModelOptions {
  /** an ImageNet-style folder, or a CSV list `path,class` */
  readonly data: string;
  /** another model of the same classes; with its own preprocessing */
  readonly against?: string;
  /** file that maps the data's class names to class numbers */
  readonly classes?: string;
  /** pictures per run of the model; default 8 */
  readonly batch?: number;
  /** only this part of the data, from 1; the parts do not overlap */
  readonly shard?: readonly [index: number, of: number];
  /** JSON Lines file the results are appended to */
  readonly results?: string;
  /** go on with `results`; starts it where there is none */
  readonly resume?: boolean;
}

/** What {@link evaluate} returns. */
export interface EvaluateResult extends EvaluateRun {
  readonly peakMemoryBytes: number;
}

/**
 * The best classes of pictures, by a finished model.
 *
 * @throws InputError for a picture or a model that cannot be read, or one that nothing tells how to feed; UsageError;
 *   NetworkError for a set of class names; EnvironmentError without onnxruntime-node or sharp; InterruptedError
 * @example
 * ```js
 * import { classify } from 'convert-beit';
 *
 * const { images } = await classify({ model: 'model.onnx', images: ['fixtures/demo/star.png'], top: 3 });
 * for (const { image, predictions } of images) console.log(image, predictions[0].label, predictions[0].probability);
 * ```
 */
export async function classify(options: ClassifyOptions): Promise<ClassifyResult> {
  return await interruptible(options.signal, 'interrupted', async () => {
    const started = performance.now();
    const [{ openClassifier }, { classifyPictures }] = await Promise.all([
      import('./classifier-file.js'),
      import('./evaluate/classify.js'),
    ]);
    const model = await openClassifier(options.model, { ...modelOptions(options), digest: false });
    const top = await classifyPictures(model, options.images, {
      top: options.top ?? 5,
      threads: options.threads,
      signal: options.signal,
      onProgress: options.onProgress,
    });
    return {
      model: { path: options.model, classes: model.classes },
      preprocessing: model.preprocessing,
      images: options.images.map((image, i) => ({
        image,
        predictions: top[i].map((each) => ({
          ...each,
          ...(model.labels?.[each.class] && { label: model.labels[each.class] }),
        })),
      })),
      seconds: (performance.now() - started) / 1000,
    };
  });
}

/**
 * Accuracy of a model, and its agreement with another one, over a folder or list of pictures; or over a part of it.
 *
 * @throws InputError, UsageError for what does not fit together; EnvironmentError; InterruptedError: what `results` holds
 *   stays valid
 * @example
 * ```js
 * import { evaluate } from 'convert-beit';
 * import { writeFile } from 'node:fs/promises';
 *
 * // Or a folder with a sub-folder per class.
 * await writeFile('list.csv', 'path,class\nfixtures/demo/star.png,star\nfixtures/demo/heart.jpg,heart\n');
 * const { evaluation, run } = await evaluate({
 *   model: 'model.onnx',
 *   data: 'list.csv',
 *   against: 'model_quantized.onnx',
 *   results: 'part1.jsonl',
 * });
 * console.log(evaluation.model.top1, evaluation.agreement?.top1, run.imagesPerSecond);
 * ```
 */
export async function evaluate(options: EvaluateOptions): Promise<EvaluateResult> {
  const kept =
    options.results === undefined
      ? 'interrupted; nothing was kept: --results would keep it'
      : 'interrupted; the results so far are kept: the same command with --resume goes on';
  return await interruptible(options.signal, kept, async () => {
    const [{ openClassifier }, { readText }, { openDataset }, { runEvaluation }] = await Promise.all([
      import('./classifier-file.js'),
      import('./text-file.js'),
      import('./evaluate/dataset.js'),
      import('./evaluate/run.js'),
    ]);
    const { basename } = await import('node:path');
    const model = await openClassifier(options.model, modelOptions(options));
    const against =
      options.against === undefined
        ? undefined
        : await openClassifier(options.against, modelOptions(options));
    const dataset = await openDataset(options.data);
    const { classes } = options;
    const done = await runEvaluation(model, dataset, {
      ...(against && { against }),
      ...(classes !== undefined && { mapping: { text: await readText(classes), file: basename(classes) } }),
      batch: options.batch,
      threads: options.threads,
      shard: options.shard,
      results: options.results,
      resume: options.resume,
      toolVersion: VERSION,
      signal: options.signal,
      onProgress: options.onProgress,
      onNote: options.onNote,
    });
    return { ...done, peakMemoryBytes: process.resourceUsage().maxRSS * 1024 };
  });
}

/**
 * Results files of all parts → what one run over everything gives.
 *
 * @param files of `results`, in any order
 * @throws InputError if they are not the parts of one evaluation
 * @example
 * ```js
 * import { mergeEvaluations } from 'convert-beit';
 *
 * const { evaluation } = await mergeEvaluations(['part1.jsonl']);
 * console.log(evaluation.images.evaluated, evaluation.perClass.length);
 * ```
 */
export async function mergeEvaluations(
  files: readonly string[],
): Promise<{ readonly evaluation: Evaluation }> {
  const { mergeResults } = await import('./evaluate/merge.js');
  return { evaluation: await mergeResults(files) };
}

function modelOptions({ labels, preprocess, version, signal, onNote, env }: ModelOptions) {
  return {
    ...(labels !== undefined && { labels }),
    ...(preprocess !== undefined && { preprocess }),
    ...(version !== undefined && { version }),
    ...(signal && { signal }),
    ...(onNote && { onNote }),
    ...(env && { env }),
  };
}

async function interruptible<T>(
  signal: AbortSignal | undefined,
  message: string,
  work: () => Promise<T>,
): Promise<T> {
  try {
    signal?.throwIfAborted();
    return await work();
  } catch (error) {
    if (signal?.aborted) throw new InterruptedError(message, { cause: error });
    throw error;
  }
}
