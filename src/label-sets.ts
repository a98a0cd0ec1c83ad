/**
 * Sets of class names that published models were trained on. The names themselves are not ours: Hugging Face's own
 * conversions spell them out.
 *
 * @see transformers `models/beit/convert_beit_unilm_to_pytorch.py`: which names go with which head
 */
import type { BeitConfig, Kind } from './beit.js';

export interface LabelSet {
  /** as `--labels` takes it */
  readonly name: string;
  readonly title: string;
  /** the models it can belong to */
  readonly kind: Kind;
  readonly classes: number;
  /** repository on the hub whose `config.json` has the names (`id2label`) */
  readonly repo: string;
}

// prettier-ignore
export const LABEL_SETS: readonly LabelSet[] = [
  { name: 'imagenet-1k', title: 'ImageNet-1k', kind: 'classification', classes: 1000,
    repo: 'microsoft/beit-base-patch16-224' },
  { name: 'imagenet-22k', title: 'ImageNet-22k', kind: 'classification', classes: 21_841,
    repo: 'microsoft/beit-base-patch16-224-pt22k-ft22k' },
  { name: 'ade20k', title: 'ADE20K', kind: 'segmentation', classes: 150,
    repo: 'microsoft/beit-base-finetuned-ade-640-640' },
];

/** In place of a set: no class names, whatever has some. */
export const NO_LABELS = 'none';

/** What can be given in place of a file, for help texts and errors. */
export const LABEL_WORDS = `${LABEL_SETS.map(({ name }) => name).join(', ')} or ${NO_LABELS}`;

/** Is this a word of {@link LABEL_WORDS}, not a path? A file of that name is `./imagenet-1k`. */
export function isLabelWord(text: string): boolean {
  return text === NO_LABELS || labelSetNamed(text) !== undefined;
}

export function labelSetNamed(text: string): LabelSet | undefined {
  return LABEL_SETS.find(({ name }) => name === text);
}

/** The set that a published model of this kind and number of classes has. */
export function labelSetFor({ kind, classes }: Pick<BeitConfig, 'kind' | 'classes'>): LabelSet | undefined {
  return LABEL_SETS.find((set) => set.kind === kind && set.classes === classes);
}

/** Class names, and one phrase that says where they are from; it names no folder. */
export interface NamedLabels {
  readonly labels: readonly string[];
  readonly origin: string;
}
