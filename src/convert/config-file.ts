/**
 * Config files: the one given with `--config`, and a `config.json` that lies beside the weights. What they say becomes
 * {@link ConfigHints}; shapes stay the judge of them.
 *
 * @see transformers `models/beit/configuration_beit.py` (field names); timm `models/_hub.py` (`save_config_for_hf`)
 */
import { z } from 'zod';
import type { ConfigHints } from '../infer-config.js';
import { ConvertBeitError, InputError, listNames, printable } from '../errors.js';
import { openFile } from '../file-source.js';
import { isPlaceholder, labelsById } from '../labels.js';
import { shortName } from './checkpoint.js';
import { COUNT, FLAG, count, pick, type Field, type ModelInfo } from './config-fields.js';
import { decodeUtf8, parseJson } from './json.js';
import { isTimm, timmInfo } from './timm-config.js';

export type { ModelInfo } from './config-fields.js';

/** 21,841 labels take less than 2 MB. */
const MAX_CONFIG_BYTES = 16_000_000;

const TAPS: Field = [
  z.array(z.int().min(0).max(1_000_000)).min(1).max(64),
  'an array of whole numbers, 0 or more',
];

/**
 * Fields of a transformers BEiT config that say something about the weights, and two that transformers does not have:
 * `early_layers` (unilm `beit2/modeling_pretrain.py`) and `qkv_bias` (unilm, timm: transformers always has biases),
 * `with_cls_token` (mmpretrain).
 */
const BEIT_FIELDS: ReadonlyMap<string, Field> = new Map<string, Field>([
  ['model_type', [z.literal('beit'), '"beit"']],
  ['image_size', [z.union([count, z.tuple([count, count])]), 'a positive whole number or [height, width]']],
  ['patch_size', COUNT],
  ['num_channels', COUNT],
  ['hidden_size', COUNT],
  ['num_hidden_layers', COUNT],
  ['num_attention_heads', COUNT],
  ['intermediate_size', COUNT],
  ['layer_norm_eps', [z.number().positive().max(1), 'a number above 0, at most 1']],
  ['layer_scale_init_value', [z.number().min(0), 'a number, 0 for no LayerScale']],
  ['use_absolute_position_embeddings', FLAG],
  ['use_relative_position_bias', FLAG],
  ['use_shared_relative_position_bias', FLAG],
  ['use_mean_pooling', FLAG],
  ['vocab_size', COUNT],
  ['qkv_bias', FLAG],
  ['with_cls_token', FLAG],
  ['early_layers', COUNT],
  ['pool_scales', [z.array(count).min(1).max(64), 'an array of positive whole numbers']],
  ['out_indices', TAPS],
  ['segmentation_indices', TAPS],
  ['hidden_act', [z.literal('gelu'), '"gelu": BEiT computes no other activation']],
  ['num_labels', COUNT],
  ['id2label', [z.record(z.string(), z.string()), 'an object {"0": "first class", …}']],
]);

interface BeitFields {
  image_size?: number | [number, number];
  patch_size?: number;
  num_channels?: number;
  hidden_size?: number;
  num_hidden_layers?: number;
  num_attention_heads?: number;
  intermediate_size?: number;
  layer_norm_eps?: number;
  layer_scale_init_value?: number;
  use_absolute_position_embeddings?: boolean;
  use_relative_position_bias?: boolean;
  use_shared_relative_position_bias?: boolean;
  use_mean_pooling?: boolean;
  vocab_size?: number;
  qkv_bias?: boolean;
  with_cls_token?: boolean;
  early_layers?: number;
  pool_scales?: number[];
  out_indices?: number[];
  segmentation_indices?: number[];
  num_labels?: number;
  id2label?: Record<string, string>;
}
/**
 * The file given with `--config`: field names of transformers' BEiT config, or a timm hub config.
 *
 * @throws InputError if it cannot be read, is no JSON object, or has a field that is unknown or of the wrong kind
 */
export async function readConfigFile(path: string): Promise<ModelInfo> {
  const file = shortName(path);
  const root = await readJsonObject(path);
  if (isTimm(root)) return timmInfo(root, file);
  const known = [...BEIT_FIELDS.keys()];
  // A whole transformers config has many more fields, a hand-written one has typing errors.
  const unknown = 'model_type' in root ? [] : Object.keys(root).filter((field) => !BEIT_FIELDS.has(field));
  if (unknown.length > 0) {
    throw new InputError(`${file}: nothing is known about ${listNames(unknown)}`, {
      next: `Known fields: ${known.join(', ')}.`,
    });
  }
  return beitInfo(root, file);
}

/**
 * The `config.json` beside the weights, if it is one of a BEiT (transformers or timm).
 *
 * @returns no hints and a note when it belongs to something else; `undefined` when there is none
 * @throws InputError if it is there but malformed: it may have held what the weights can't tell
 */
export async function readSiblingConfig(path: string): Promise<ModelInfo | undefined> {
  let root: Record<string, unknown>;
  try {
    root = await readJsonObject(path);
  } catch (error) {
    if (error instanceof ConvertBeitError && isAbsent(error)) return undefined;
    throw error;
  }
  if (isTimm(root)) return timmInfo(root, 'config.json');
  if (root.model_type === 'beit') return beitInfo(root, 'config.json');
  const kind =
    typeof root.model_type === 'string'
      ? `its model_type is "${printable(root.model_type, 40)}"`
      : typeof root.architecture === 'string'
        ? `its architecture is "${printable(root.architecture, 40)}"`
        : 'neither a transformers nor a timm config of a BEiT';
  return { hints: {}, notes: [`config.json beside the weights is ignored: ${kind}`] };
}

function isAbsent(error: ConvertBeitError): boolean {
  return error.cause instanceof Error && 'code' in error.cause && error.cause.code === 'ENOENT';
}

async function readJsonObject(path: string): Promise<Record<string, unknown>> {
  const file = shortName(path);
  const source = await openFile(path);
  let text: string;
  try {
    if (source.size > MAX_CONFIG_BYTES) {
      throw new InputError(`${file} has ${source.size.toLocaleString('en-US')} bytes; that is no config`);
    }
    text = decodeUtf8(await source.read(0, source.size), file);
  } finally {
    await source.close();
  }
  if (text.startsWith('\ufeff')) text = text.slice(1);
  // Ours finds repeated keys and says where the text is wrong; the built-in one makes the plain object zod wants.
  if (!(parseJson(text, { subject: file }) instanceof Map)) {
    throw new InputError(`${file} must hold one JSON object`);
  }
  return JSON.parse(text) as Record<string, unknown>;
}

function beitInfo(root: Record<string, unknown>, file: string): ModelInfo {
  const given = pick(root, BEIT_FIELDS, file) as BeitFields;
  const labels = given.id2label && readLabels(given.id2label, file);
  const labelCount = given.id2label ? Object.keys(given.id2label).length : undefined;
  if (labelCount !== undefined && given.num_labels !== undefined && labelCount !== given.num_labels) {
    throw new InputError(
      `${file}: num_labels is ${given.num_labels}, but id2label has ${labelCount} entries`,
    );
  }
  const { image_size: image } = given;
  const hints: ConfigHints = {
    origin: file,
    imageSize: image === undefined ? undefined : typeof image === 'number' ? [image, image] : image,
    patchSize: given.patch_size,
    channels: given.num_channels,
    hiddenSize: given.hidden_size,
    depth: given.num_hidden_layers,
    heads: given.num_attention_heads,
    mlpSize: given.intermediate_size,
    classes: given.num_labels ?? labelCount,
    layerScale: given.layer_scale_init_value === undefined ? undefined : given.layer_scale_init_value > 0,
    absolutePosition: given.use_absolute_position_embeddings,
    relativePosition: given.use_relative_position_bias,
    sharedRelativePosition: given.use_shared_relative_position_bias,
    pooling: given.use_mean_pooling === undefined ? undefined : given.use_mean_pooling ? 'mean' : 'class',
    layerNormEps: given.layer_norm_eps,
    vocabulary: given.vocab_size,
    qkvBias: given.qkv_bias,
    classToken: given.with_cls_token,
    earlyLayer: given.early_layers,
    poolScales: given.pool_scales,
    // what transformers called it before 2023
    outIndices: given.out_indices ?? given.segmentation_indices,
  };
  return { hints, ...(labels && { labels }), notes: [] };
}

/** Names in order of their ids; `undefined` when they are only transformers' placeholders. */
function readLabels(id2label: Record<string, string>, file: string): readonly string[] | undefined {
  const labels = labelsById(new Map(Object.entries(id2label)), `${file}: id2label`);
  return labels.every(isPlaceholder) ? undefined : labels;
}
