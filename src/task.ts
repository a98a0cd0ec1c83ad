/**
 * What a graph is for: which outputs it has, under which names, in which shapes. Both who writes a graph and who checks
 * one read it from here.
 */
import { inventory, tokenCount, type BeitConfig, type Kind } from './beit.js';
import { UsageError } from './errors.js';

export const TASKS = ['classify', 'features', 'masked-image', 'segment'] as const;
export type TaskName = (typeof TASKS)[number];

/** @see mmpretrain `models/backbones/vision_transformer.py` `VisionTransformer.OUT_TYPES` */
export const OUT_TYPES = ['raw', 'cls_token', 'featmap', 'avg_featmap'] as const;
export type OutType = (typeof OUT_TYPES)[number];

/** One output of a features graph. */
export interface FeatureOutput {
  readonly name: string;
  /** block after which it is taken, from 0 */
  readonly layer: number;
  readonly type: OutType;
  /** LayerNorm over all tokens first (`backbone.ln1`); only after the last block */
  readonly finalNorm: boolean;
}

export type Task =
  | { readonly name: 'classify' }
  | { readonly name: 'features'; readonly outputs: readonly FeatureOutput[] }
  | { readonly name: 'masked-image' }
  | {
      readonly name: 'segment';
      /** blocks that the tokens of the four feature maps have passed */
      readonly taps: readonly [number, number, number, number];
      /** logits at the size of the image instead of a quarter of it */
      readonly upsample: boolean;
    };

/** How unilm and transformers count the blocks of `out_indices`; see layouts of both. */
export const FEATURE_TAPS = ['unilm', 'transformers'] as const;
export type FeatureTaps = (typeof FEATURE_TAPS)[number];

/** What a person may say about the task; everything has a default that follows from the checkpoint. */
export interface TaskOptions {
  /** what the graph is for; default: what the checkpoint is for */
  readonly task?: TaskName;
  /** features: what of the tokens */
  readonly outTypes?: readonly OutType[];
  /** features: blocks from 0, negative ones from the end; segment: upstream's `out_indices` */
  readonly outIndices?: readonly number[];
  /** features: normalise all tokens after the last block; default: where the checkpoint has that norm */
  readonly finalNorm?: boolean;
  /** a classifier without its head: the pooled feature */
  readonly dropHead?: boolean;
  /** segment: how `outIndices` are counted, default `unilm` */
  readonly featureTaps?: FeatureTaps;
  /** segment: logits at the size of the image, default a quarter of it */
  readonly upsample?: boolean;
}

export interface OutputPort {
  readonly name: string;
  /** without the batch */
  readonly shape: readonly number[];
}

const TASK_OF_KIND: Readonly<Record<Kind, TaskName>> = {
  classification: 'classify',
  'pre-training': 'masked-image',
  backbone: 'features',
  segmentation: 'segment',
};

/** `out_indices` as published, by depth (unilm `semantic_segmentation/configs`, transformers' ADE configs). */
const SEGMENTATION_INDICES: ReadonlyMap<number, readonly [number, number, number, number]> = new Map([
  [12, [3, 5, 7, 11]],
  [24, [7, 11, 15, 23]],
]);

/**
 * The task of a checkpoint under what was asked for.
 *
 * @throws UsageError for what this checkpoint cannot do, naming what it can
 */
export function resolveTask(config: BeitConfig, options: TaskOptions = {}): Task {
  const own = TASK_OF_KIND[config.kind];
  const name = options.task ?? (options.dropHead ? 'features' : own);
  if (name !== own && name !== 'features') {
    throw new UsageError(`this is a ${config.kind} checkpoint: it cannot ${PURPOSE[name]}`, {
      next: own === 'features' ? 'Use --task features.' : `Use --task ${own} or --task features.`,
    });
  }
  refuseForeign(name, options);
  switch (name) {
    case 'classify':
    case 'masked-image':
      return { name };
    case 'features':
      return { name, outputs: featureOutputs(config, options) };
    case 'segment':
      return { name, taps: segmentationTaps(config, options), upsample: options.upsample ?? false };
  }
}

const PURPOSE: Readonly<Record<TaskName, string>> = {
  classify: 'classify',
  features: 'give features',
  'masked-image': 'predict masked patches',
  segment: 'segment',
};

/** Options of another task would be ignored; somebody meant something by them. */
function refuseForeign(name: TaskName, options: TaskOptions): void {
  const foreign: readonly (readonly [string, unknown, readonly TaskName[]])[] = [
    ['--out-type', options.outTypes, ['features']],
    ['--out-indices', options.outIndices, ['features', 'segment']],
    ['--final-norm', options.finalNorm, ['features']],
    ['--drop-head', options.dropHead, ['features']],
    ['--feature-taps', options.featureTaps, ['segment']],
    ['--upsample', options.upsample, ['segment']],
  ];
  for (const [flag, value, tasks] of foreign) {
    if (value === undefined || tasks.includes(name)) continue;
    // Leaving a norm out is a wish; not dropping a head is none.
    const negated = value === false;
    if (negated && flag !== '--final-norm') continue;
    throw new UsageError(`${negated ? '--no-final-norm' : flag} has no meaning for --task ${name}`, {
      next: `It belongs to ${tasks.map((task) => `--task ${task}`).join(' and ')}.`,
    });
  }
}

function featureOutputs(config: BeitConfig, options: TaskOptions): readonly FeatureOutput[] {
  const last = config.depth - 1;
  const finalNorm = options.finalNorm ?? config.tokenNorm;
  if (finalNorm && !config.tokenNorm) {
    throw new UsageError('this checkpoint has no norm over all tokens', { next: 'Leave --final-norm out.' });
  }
  const pooled: OutType | undefined = config.pooledNorm
    ? 'avg_featmap'
    : config.tokenNorm
      ? 'cls_token'
      : undefined;
  if (options.dropHead) {
    if (options.outTypes || options.outIndices) {
      throw new UsageError('--drop-head gives the one vector the head would see', {
        next: 'Leave --out-type and --out-indices out, or use --task features.',
      });
    }
    if (pooled === undefined)
      throw new UsageError('this checkpoint has no pooled feature', { next: 'Use --task features.' });
    return [{ name: 'pooler_output', layer: last, type: pooled, finalNorm }];
  }
  const types =
    options.outTypes ?? (pooled && config.classToken ? (['raw', pooled] as const) : (['raw'] as const));
  const layers = (options.outIndices ?? [-1]).map((index) => layerOf(index, config.depth));
  if (options.finalNorm && !layers.includes(last)) {
    throw new UsageError('--final-norm stands after the last block, and no output is taken there', {
      next: 'Add the last block to --out-indices (-1), or leave --final-norm out.',
    });
  }
  if (new Set(layers).size !== layers.length || new Set(types).size !== types.length) {
    throw new UsageError('the same output is asked for twice', { next: 'Name every layer and type once.' });
  }
  return layers.flatMap((layer) =>
    types.map((type) => {
      if (type === 'cls_token' && !config.classToken) {
        throw new UsageError('this checkpoint has no class token', {
          next: 'Use --out-type raw, featmap or avg_featmap.',
        });
      }
      if (type === 'avg_featmap' && !config.pooledNorm) {
        throw new UsageError('this checkpoint has no norm for averaged patch tokens', {
          next: `Use --out-type raw, featmap${config.classToken ? ' or cls_token' : ''}.`,
        });
      }
      // Of two vectors the averaged one is what the model's own head would see.
      const own = type === 'avg_featmap' || (type === 'cls_token' && !types.includes('avg_featmap'));
      const name = own && layer === last ? 'pooler_output' : featureName(type, layer, last);
      return { name, layer, type, finalNorm: finalNorm && layer === last };
    }),
  );
}

/** What clients look for, where there is such a name; else the type, with the layer unless it is the last. */
function featureName(type: OutType, layer: number, last: number): string {
  if (layer !== last) return `${type === 'raw' ? 'hidden_state' : type}_${layer}`;
  return type === 'raw' ? 'last_hidden_state' : type;
}

function layerOf(index: number, depth: number): number {
  const layer = index < 0 ? depth + index : index;
  if (!(layer >= 0 && layer < depth)) {
    throw new UsageError(`--out-indices ${index}: the model has ${depth} blocks`, {
      next: `Choose from 0 to ${depth - 1}, or from -${depth} to -1 (counted from the end).`,
    });
  }
  return layer;
}

/**
 * unilm takes the tokens after block `i` of `out_indices`; transformers lists the input of block 0 as well and is off
 * by one in the other direction, so that the same `out_indices` are two blocks earlier.
 *
 * @see unilm `beit/semantic_segmentation/backbone/beit.py` `forward_features`;
 *   transformers `models/beit/modeling_beit.py` `BeitForSemanticSegmentation.forward`
 */
function segmentationTaps(
  config: BeitConfig,
  options: TaskOptions,
): readonly [number, number, number, number] {
  const indices =
    (options.outIndices ?? config.segmentation?.outIndices)?.map((index) => layerOf(index, config.depth)) ??
    SEGMENTATION_INDICES.get(config.depth);
  if (indices?.length !== 4) {
    throw new UsageError(
      `four blocks are needed for the feature pyramid; ${indices ? `${indices.length} are given` : `nothing is published for ${config.depth} blocks`}`,
      {
        next: 'Give --out-indices with four numbers, as in the config the model was trained with.',
      },
    );
  }
  const shift = (options.featureTaps ?? 'unilm') === 'unilm' ? 1 : -1;
  const taps = indices.map((index) => index + shift);
  if (taps.some((tap) => tap < 0)) {
    throw new UsageError('transformers takes features two blocks earlier: there is none before the first', {
      next: 'Use --feature-taps unilm.',
    });
  }
  return taps as [number, number, number, number] & number[];
}

/** The graph's outputs in order. */
export function taskOutputs(config: BeitConfig, task: Task): readonly OutputPort[] {
  const { hiddenSize: E, window, vocabulary, classes, imageSize } = config;
  const patches = window[0] * window[1];
  switch (task.name) {
    case 'classify':
      return [{ name: 'logits', shape: [classes] }];
    case 'masked-image':
      return [
        { name: 'logits', shape: [patches, vocabulary] },
        ...(config.clsPretraining ? [{ name: 'logits_cls_pt', shape: [patches, vocabulary] }] : []),
      ];
    case 'features':
      return task.outputs.map(({ name, type }) => ({
        name,
        shape: { raw: [tokenCount(config), E], cls_token: [E], featmap: [E, ...window], avg_featmap: [E] }[
          type
        ],
      }));
    case 'segment':
      return [
        { name: 'logits', shape: [classes, ...(task.upsample ? imageSize : [window[0] * 4, window[1] * 4])] },
      ];
  }
}

/** Which patches are hidden, `[batch, N]` booleans; transformers' name. */
export const MASK_INPUT = 'bool_masked_pos';

/** What a graph of this task is made of. */
export interface TaskParts {
  /** blocks of the backbone and of a second output */
  readonly blocks: number;
  readonly layerNorms: number;
  /** exact GELUs */
  readonly gelus: number;
  /** canonical tensors it needs */
  readonly tensors: ReadonlyMap<string, readonly number[]>;
}

export function taskParts(config: BeitConfig, task: Task): TaskParts {
  const { depth, tokenNorm, pooledNorm, clsPretraining: second } = config;
  switch (task.name) {
    case 'classify': {
      // A classifier that was fine-tuned from a pre-training model may still carry it; nothing looks at it.
      const tensors = needed(config, depth, (name) => name !== 'backbone.mask_token');
      return {
        blocks: depth,
        layerNorms: 2 * depth + Number(tokenNorm) + Number(pooledNorm),
        gelus: depth,
        tensors,
      };
    }
    case 'masked-image': {
      const blocks = depth + (second?.layers ?? 0);
      // Before a second output the backbone's own norm is an identity; a bare one would be unused.
      const tensors = needed(config, depth, (name) => !second || !name.startsWith('backbone.ln1.'));
      return { blocks, layerNorms: 2 * blocks + (second ? 2 : 1), gelus: blocks, tensors };
    }
    case 'features': {
      const blocks = Math.max(...task.outputs.map(({ layer }) => layer)) + 1;
      const normed = task.outputs.some(({ finalNorm }) => finalNorm);
      const pooled = task.outputs.filter(({ type }) => type === 'avg_featmap').length;
      const tensors = needed(
        config,
        blocks,
        (name) =>
          name.startsWith('backbone.') &&
          name !== 'backbone.mask_token' &&
          !name.startsWith('backbone.fpn') &&
          (normed || !name.startsWith('backbone.ln1.')) &&
          (pooled > 0 || !name.startsWith('backbone.ln2.')),
      );
      return { blocks, layerNorms: 2 * blocks + Number(normed) + pooled, gelus: blocks, tensors };
    }
    case 'segment': {
      const blocks = Math.max(...task.taps);
      const tensors = needed(
        config,
        blocks,
        (name) => !name.startsWith('auxiliary_head.') && !name.endsWith('.num_batches_tracked'),
      );
      return { blocks, layerNorms: 2 * blocks, gelus: blocks + 1, tensors };
    }
  }
}

function needed(
  config: BeitConfig,
  blocks: number,
  keep: (name: string) => boolean,
): ReadonlyMap<string, readonly number[]> {
  const layer = (name: string): number => Number(/^backbone\.layers\.(\d+)\./.exec(name)?.[1] ?? -1);
  return new Map([...inventory(config)].filter(([name]) => layer(name) < blocks && keep(name)));
}

/** Metadata key of a task other than classification. */
export const TASK_KEY = 'convert_beit.task';

/**
 * The task that a file states about itself: a claim, which verification finds true or not.
 *
 * @returns `undefined` for what is no task of this config
 */
export function parseTask(text: string, config: BeitConfig): Task | undefined {
  try {
    const value = JSON.parse(text) as Partial<Record<string, unknown>> | null;
    if (typeof value !== 'object' || value === null) return undefined;
    if (value['name'] === 'classify' || value['name'] === 'masked-image') return { name: value['name'] };
    if (value['name'] === 'segment') {
      const taps = value['taps'];
      const fits = (tap: unknown): tap is number =>
        Number.isInteger(tap) && Number(tap) >= 0 && Number(tap) <= config.depth;
      if (!Array.isArray(taps) || taps.length !== 4 || !taps.every(fits)) return undefined;
      return {
        name: 'segment',
        taps: taps as unknown as readonly [number, number, number, number],
        upsample: value['upsample'] === true,
      };
    }
    if (value['name'] !== 'features' || !Array.isArray(value['outputs'])) return undefined;
    const outputs = (value['outputs'] as Partial<FeatureOutput>[]).map(({ name, layer, type, finalNorm }) => {
      const known = OUT_TYPES.find((each) => each === type);
      const sound =
        typeof name === 'string' && Number.isInteger(layer) && layer! >= 0 && layer! < config.depth;
      if (!sound || !known) throw new TypeError('no output');
      return { name, layer: layer!, type: known, finalNorm: finalNorm === true };
    });
    return outputs.length > 0 ? { name: 'features', outputs } : undefined;
  } catch {
    return undefined;
  }
}
