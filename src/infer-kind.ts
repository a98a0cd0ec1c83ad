/**
 * What a checkpoint is for, and the part of its config that depends on that.
 */
import type { BeitConfig, ClsPretraining, Kind, SegmentationHeads } from './beit.js';
import { LayoutError } from './errors.js';
import { describeTensor, type StateDict, type Tensor } from './tensor.js';

/** The tensors, and how to ask for one or hold a claim against it; errors come from here, in the file's own names. */
export interface Evidence {
  readonly tensors: StateDict;
  nameOf(canonical: string): string;
  /** @throws LayoutError, ShapeError if it is absent or has another rank */
  need(canonical: string, rank: number): Tensor;
  /** @throws LayoutError if the hint contradicts what was found */
  agree<T>(field: string, hint: T | undefined, found: T, subject: string): T;
}

export interface KindHints {
  readonly classes?: number;
  readonly vocabulary?: number;
  readonly earlyLayer?: number;
  readonly poolScales?: readonly number[];
  readonly outIndices?: readonly number[];
}

export type KindTraits = Pick<
  BeitConfig,
  | 'kind'
  | 'classes'
  | 'vocabulary'
  | 'maskToken'
  | 'tokenNorm'
  | 'pooledNorm'
  | 'pooling'
  | 'clsPretraining'
  | 'segmentation'
>;

/** `early_layers` as published (unilm `beit2/modeling_pretrain.py`, run scripts), by width and depth. */
const EARLY_LAYERS: ReadonlyMap<string, number> = new Map([
  ['768 12', 9],
  ['1024 24', 21],
]);

/** `out_indices` as published, by depth (unilm `beit/semantic_segmentation/configs`; transformers has the same). */
const OUT_INDICES: ReadonlyMap<number, readonly number[]> = new Map([
  [12, [3, 5, 7, 11]],
  [24, [7, 11, 15, 23]],
]);

/** What the heads say; a model without any is a backbone. */
export function kindOf(tensors: StateDict): Kind {
  const starts = (...prefixes: string[]): boolean =>
    [...tensors.keys()].some((name) => prefixes.some((prefix) => name.startsWith(prefix)));
  if (starts('decode_head.', 'auxiliary_head.', 'backbone.fpn1.', 'backbone.fpn2.')) return 'segmentation';
  if (starts('head.cls_head.', 'neck.', 'head.cls_pt_head.')) return 'pre-training';
  return starts('head.fc.') ? 'classification' : 'backbone';
}

/**
 * @param notes one sentence is added per thing that was not read from a shape
 * @throws LayoutError, ShapeError when a tensor that decides something is missing or contradicts a hint
 */
export function inferTraits(
  of: Evidence,
  hints: KindHints,
  size: { readonly hiddenSize: number; readonly depth: number },
  notes: string[],
): KindTraits {
  const { tensors } = of;
  const kind = kindOf(tensors);
  const [one, other] = ['head.cls_head.weight', 'head.fc.weight'];
  if (tensors.has(one) && tensors.has(other)) {
    throw new LayoutError(
      `${of.nameOf(one)} and ${of.nameOf(other)} belong to different kinds of model: pre-training and classification`,
      { next: 'Remove the head that is not wanted, with what belongs to it.' },
    );
  }
  const traits = {
    kind,
    classes: 0,
    vocabulary: 0,
    maskToken: tensors.has('backbone.mask_token'),
    tokenNorm: tensors.has('backbone.ln1.weight'),
    pooledNorm: tensors.has('backbone.ln2.weight'),
  };
  const pooling = traits.pooledNorm ? 'mean' : 'class';
  switch (kind) {
    case 'backbone':
      return { ...traits, pooling };
    case 'classification':
      if (!traits.tokenNorm && !traits.pooledNorm) {
        throw new LayoutError(
          `neither ${of.nameOf('backbone.ln2.weight')} (mean pooling) nor ${of.nameOf('backbone.ln1.weight')} (class pooling) is there`,
        );
      }
      return { ...traits, pooling, classes: rowsOf(of, 'head.fc.weight', 2, 'num_labels', hints.classes) };
    case 'segmentation':
      return {
        ...traits,
        tokenNorm: false,
        pooledNorm: false,
        pooling: 'class',
        classes: rowsOf(of, 'decode_head.conv_seg.weight', 4, 'num_labels', hints.classes),
        segmentation: segmentationHeads(of, hints, size.depth),
      };
    case 'pre-training': {
      const clsPretraining = inferClsPretraining(of, hints, size, notes);
      return {
        ...traits,
        maskToken: true,
        tokenNorm: clsPretraining === undefined,
        pooledNorm: false,
        pooling: 'class',
        vocabulary: rowsOf(of, 'head.cls_head.weight', 2, 'vocab_size', hints.vocabulary),
        ...(clsPretraining && { clsPretraining }),
      };
    }
  }
}

function rowsOf(of: Evidence, name: string, rank: number, field: string, hint: number | undefined): number {
  const tensor = of.need(name, rank);
  return of.agree(field, hint, tensor.shape[0], `${of.nameOf(name)} ${describeTensor(tensor)}`);
}

function inferClsPretraining(
  of: Evidence,
  hints: KindHints,
  { hiddenSize, depth }: { readonly hiddenSize: number; readonly depth: number },
  notes: string[],
): ClsPretraining | undefined {
  const { tensors } = of;
  const layers = countLayers(tensors, /^neck\.patch_aggregation\.(\d+)\./);
  if (layers === 0 && ![...tensors.keys()].some((name) => name.startsWith('neck.'))) return undefined;
  const published = EARLY_LAYERS.get(`${hiddenSize} ${depth}`);
  const earlyLayer = hints.earlyLayer ?? published;
  if (earlyLayer === undefined) {
    throw new LayoutError(
      `no tensor tells after which block the patch tokens of the second output (${of.nameOf('neck.patch_aggregation.0.attn.qkv.weight')}, …) are taken`,
      { next: 'Give it: --config file.json with {"early_layers": …} (published: 9 of 12 blocks, 21 of 24).' },
    );
  }
  if (earlyLayer > depth) {
    throw new LayoutError(`early_layers is ${earlyLayer}; the model has ${depth} blocks`);
  }
  if (hints.earlyLayer === undefined) {
    notes.push(
      `early_layers ${earlyLayer} assumed, as published for ${depth} blocks of width ${hiddenSize}; no tensor tells`,
    );
  }
  const own = [...tensors.keys()].some((name) => /^(neck\.cls_pt_norm|head\.cls_pt_head)\./.test(name));
  return { earlyLayer, layers, sharedHead: !own };
}

function segmentationHeads(of: Evidence, hints: KindHints, depth: number): SegmentationHeads {
  const { tensors } = of;
  const pools = countLayers(tensors, /^decode_head\.psp_modules\.(\d+)\./);
  const poolScales = hints.poolScales ?? [1, 2, 3, 6];
  if (hints.poolScales === undefined && pools !== poolScales.length) {
    throw new LayoutError(
      `the head has ${pools} pyramid pooling modules (${of.nameOf('decode_head.psp_modules.0.1.conv.weight')}, …); published models have 4, for grids of 1, 2, 3 and 6`,
      { next: 'Get the whole checkpoint, or give the grids: --config file.json with {"pool_scales": […]}.' },
    );
  }
  of.agree(
    'the number of pool_scales',
    poolScales.length,
    pools,
    `the number of pyramid pooling modules (${of.nameOf('decode_head.psp_modules.0.1.conv.weight')}, …)`,
  );
  const outIndices = hints.outIndices ?? OUT_INDICES.get(depth);
  const auxiliary = [...tensors.keys()].some((name) => name.startsWith('auxiliary_head.'));
  return {
    poolScales,
    auxiliaryChannels: auxiliary ? of.need('auxiliary_head.convs.0.conv.weight', 4).shape[0] : 0,
    ...(outIndices && { outIndices }),
  };
}

function countLayers(tensors: StateDict, pattern: RegExp): number {
  const layers = new Set<string>();
  for (const name of tensors.keys()) {
    const match = pattern.exec(name);
    if (match) layers.add(match[1]);
  }
  return layers.size;
}
