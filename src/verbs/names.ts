/** Class names of a model: given with `--labels`, found with the weights, or those that a published model was trained on. */
import { basename } from 'node:path';
import type { BeitConfig } from '../beit.js';
import { parseSource } from '../convert/source.js';
import { InputError, printable } from '../errors.js';
import {
  LABEL_WORDS,
  NO_LABELS,
  isLabelWord,
  labelSetFor,
  labelSetNamed,
  type LabelSet,
  type NamedLabels,
} from '../label-sets.js';
import type { BeitModel } from '../model.js';
import type { CommonOptions, SourceOptions } from '../results.js';

/** The file of `--labels`, if it is one. */
export async function labelsFromFile(labels: string | undefined): Promise<NamedLabels | undefined> {
  if (labels === undefined || isLabelWord(labels)) return undefined;
  const [{ readText }, { parseLabels }] = await Promise.all([
    import('../text-file.js'),
    import('../labels.js'),
  ]);
  const name = printable(basename(labels));
  const text = await readText(labels, `Names that can be given instead of a file: ${LABEL_WORDS}.`);
  return { labels: parseLabels(text, name), origin: name };
}

/**
 * The names of a set, for a head of so many classes.
 *
 * @param whose what messages call the model
 * @throws InputError if the numbers differ; NetworkError if the names cannot be had
 */
export async function labelsOfSet(
  set: LabelSet,
  classes: number,
  whose: string,
  { signal, env }: Pick<CommonOptions, 'signal' | 'env'>,
): Promise<NamedLabels> {
  if (set.classes !== classes) {
    throw new InputError(
      `${set.name} has ${set.classes.toLocaleString('en-US')} class names; ${whose} has ${classes.toLocaleString('en-US')} classes`,
      { next: `Give a file of its own names, or another of ${LABEL_WORDS}.` },
    );
  }
  const { requireLabels } = await import('../convert/published-labels.js');
  return await requireLabels(set, { signal, env });
}

/**
 * The model with the names that belong to it. What a published model was trained on is known; nobody else's classes are
 * ever guessed from their number.
 *
 * @param wanted are names of any use here?
 */
export async function withClassNames(
  model: BeitModel,
  options: SourceOptions,
  wanted: (config: BeitConfig) => boolean,
): Promise<BeitModel> {
  const { config } = model;
  if (options.labels === NO_LABELS) return { ...model, labels: undefined, labelsOrigin: undefined };
  if (options.labels !== undefined) {
    const given = labelSetNamed(options.labels);
    return given
      ? named(model, await labelsOfSet(given, config.classes, model.provenance.id, options))
      : model;
  }
  const set = labelSetFor(config);
  if (model.labels || !set || !wanted(config)) return model;
  const { fetchLabels, isPublished } = await import('../convert/published-labels.js');
  if (!isPublished(parseSource(options.src))) return model;
  try {
    const { signal, env } = options;
    return named(model, await fetchLabels(set, { signal, env }));
  } catch (error) {
    options.signal?.throwIfAborted();
    const why = error instanceof Error ? error.message : String(error);
    options.onNote?.(`no class names: ${why}; give them with --labels`);
    return model;
  }
}

function named(model: BeitModel, { labels, origin }: NamedLabels): BeitModel {
  return { ...model, labels, labelsOrigin: origin };
}
