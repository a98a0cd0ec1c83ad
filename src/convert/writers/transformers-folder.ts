/**
 * The two small files that make weights a model for transformers (Python) and transformers.js.
 *
 * @see transformers `models/beit/configuration_beit.py`, `models/clip/image_processing_clip.py`;
 *   transformers.js `src/models/auto/image_processing_auto.js`
 */
import type { BeitConfig, Kind } from '../../beit.js';
import { LayoutError } from '../../errors.js';
import type { Preprocessing } from '../../image.js';
import type { BeitModel } from '../../model.js';

const ARCHITECTURE: Readonly<Record<Kind, string>> = {
  classification: 'BeitForImageClassification',
  'pre-training': 'BeitForMaskedImageModeling',
  backbone: 'BeitModel',
  segmentation: 'BeitForSemanticSegmentation',
};

/** Pillow's numbers. */
const RESAMPLE: Readonly<Record<Preprocessing['interpolation'], number>> = {
  lanczos: 1,
  bilinear: 2,
  bicubic: 3,
};

/**
 * `config.json`. `layer_norm_eps` is the one the source computes with: transformers' own default is 1e-12, and its
 * published configs say so, which changes the numbers.
 *
 * @param more fields of other programs
 * @throws LayoutError for a segmentation model whose feature blocks are unknown
 */
export function configJson(
  { config, labels }: Pick<BeitModel, 'config' | 'labels'>,
  more: object = {},
): string {
  const { imageSize, segmentation } = config;
  return json({
    architectures: [ARCHITECTURE[config.kind]],
    model_type: 'beit',
    image_size: imageSize[0] === imageSize[1] ? imageSize[0] : imageSize,
    patch_size: config.patchSize,
    num_channels: config.channels,
    hidden_size: config.hiddenSize,
    num_hidden_layers: config.depth,
    num_attention_heads: config.heads,
    intermediate_size: config.mlpSize,
    hidden_act: 'gelu',
    layer_norm_eps: config.layerNormEps,
    // The initial value is long gone; what counts is whether it is 0.
    layer_scale_init_value: config.layerScale ? 0.1 : 0,
    use_absolute_position_embeddings: config.absolutePosition,
    use_relative_position_bias: config.relativePosition,
    use_shared_relative_position_bias: config.sharedRelativePosition,
    use_mask_token: config.maskToken,
    use_mean_pooling: meanPooling(config),
    ...(config.kind === 'pre-training' && { vocab_size: config.vocabulary }),
    ...(segmentation && {
      out_indices: outIndices(config),
      pool_scales: segmentation.poolScales,
      use_auxiliary_head: segmentation.auxiliaryChannels > 0,
      ...(segmentation.auxiliaryChannels > 0 && { auxiliary_channels: segmentation.auxiliaryChannels }),
    }),
    ...classNames(config, labels),
    // Not transformers': it says that biases of zeros stand for none (config-file.ts reads it back).
    ...(!config.qvBias && !config.qkvBias && { qkv_bias: false }),
    torch_dtype: 'float32',
    ...more,
  });
}

/** transformers' segmentation model cannot be built without them. */
function outIndices({ depth, segmentation }: BeitConfig): readonly number[] {
  if (segmentation?.outIndices) return segmentation.outIndices;
  throw new LayoutError(`no tensor tells which of the ${depth} blocks feed the feature pyramid`, {
    next: 'Give it: --config file.json with {"out_indices": […]} (published: 3, 5, 7, 11 of 12 and 7, 11, 15, 23 of 24).',
  });
}

/** Pre-training has a norm of its own behind the model, so the one inside must be an identity, as with mean pooling. */
function meanPooling(config: BeitConfig): boolean {
  return config.kind === 'pre-training' || config.kind === 'segmentation' || !config.tokenNorm;
}

function classNames({ classes }: BeitConfig, labels: readonly string[] | undefined): object {
  if (classes === 0) return {};
  // Without names transformers would make up LABEL_0 and so on; it does the same from the number alone.
  if (!labels) return { num_labels: classes };
  const indices = new Map<string, number>();
  for (const [index, label] of labels.entries()) if (!indices.has(label)) indices.set(label, index);
  return {
    id2label: Object.fromEntries(labels.entries()),
    label2id: Object.fromEntries(indices),
  };
}

/**
 * `preprocessor_config.json`. The CLIP class is the one that both clients have and that resizes the short side and
 * crops: BEiT's own squashes the picture in Python, and its name is unknown to transformers.js.
 */
export function preprocessorJson(preprocessing: Preprocessing): string {
  const { resize, crop, interpolation, mean, std } = preprocessing;
  const sides = ([height, width]: readonly [number, number]): object => ({ height, width });
  return json({
    image_processor_type: 'CLIPImageProcessor',
    do_convert_rgb: mean.length === 3,
    do_resize: true,
    size: typeof resize === 'number' ? { shortest_edge: resize } : sides(resize),
    resample: RESAMPLE[interpolation],
    do_center_crop: true,
    crop_size: sides(crop),
    do_rescale: true,
    rescale_factor: 1 / 255,
    do_normalize: true,
    image_mean: mean,
    image_std: std,
  });
}

/** Python tells 0.0 from 0, and transformers 5 refuses an int where its config says float. */
const FLOATS: ReadonlySet<string> = new Set([
  'layer_norm_eps',
  'layer_scale_init_value',
  'rescale_factor',
  'image_mean',
  'image_std',
]);

function json(value: object): string {
  const marked = (number: number): string => `float:${Number.isInteger(number) ? number.toFixed(1) : number}`;
  const text = JSON.stringify(
    value,
    (key, inner: unknown) => {
      if (!FLOATS.has(key)) return inner;
      return Array.isArray(inner) ? inner.map((item) => marked(item as number)) : marked(inner as number);
    },
    2,
  );
  return `${text.replace(/"float:([-+.e\d]+)"/g, '$1')}\n`;
}
