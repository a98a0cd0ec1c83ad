/**
 * timm's hub config: `{"architecture": "beit_base_patch16_224", "pretrained_cfg": {…}}`.
 *
 * @see timm `models/_hub.py` (`save_config_for_hf`)
 */
import { z } from 'zod';
import { printable } from '../errors.js';
import type { Preprocessing } from '../preprocessing.js';
import type { Interpolation } from '../resample.js';
import { COUNT, count, pick, type Field, type ModelInfo } from './config-fields.js';

/** Fields of a timm hub config that say something about the weights and the pictures. */
const TIMM_FIELDS: ReadonlyMap<string, Field> = new Map<string, Field>([
  ['architecture', [z.string(), 'a string']],
  ['num_classes', COUNT],
  ['label_names', [z.array(z.string()), 'an array of strings']],
  ['pretrained_cfg', [z.looseObject({}), 'an object']],
]);
const TIMM_PRETRAINED_FIELDS: ReadonlyMap<string, Field> = new Map<string, Field>([
  ['input_size', [z.tuple([count, count, count]), '[channels, height, width]']],
  ['crop_pct', [z.number().positive().max(1), 'a number above 0, at most 1']],
  ['crop_mode', [z.string(), 'a string']],
  ['interpolation', [z.string(), 'a string']],
  ['mean', [z.array(z.number()), 'an array of numbers']],
  ['std', [z.array(z.number().positive()), 'an array of positive numbers']],
  ['num_classes', COUNT],
]);
const TIMM_ARCHITECTURE = /^beit(v2)?_/;

interface TimmFields {
  architecture: string;
  num_classes?: number;
  label_names?: string[];
  pretrained_cfg?: Record<string, unknown>;
}
interface TimmPretrained {
  input_size?: [number, number, number];
  crop_pct?: number;
  crop_mode?: string;
  interpolation?: string;
  mean?: number[];
  std?: number[];
  num_classes?: number;
}

/** Is this the config of a BEiT v1 or v2? */
export function isTimm(root: Record<string, unknown>): boolean {
  return typeof root.architecture === 'string' && TIMM_ARCHITECTURE.test(root.architecture);
}

/** What it tells; a field of the wrong kind is an InputError. */
export function timmInfo(root: Record<string, unknown>, file: string): ModelInfo {
  const given = pick(root, TIMM_FIELDS, file) as TimmFields;
  const trained = pick(
    given.pretrained_cfg ?? {},
    TIMM_PRETRAINED_FIELDS,
    `${file}: pretrained_cfg`,
  ) as TimmPretrained;
  const notes: string[] = [];
  const architecture = printable(given.architecture, 60);
  const classes = given.num_classes ?? trained.num_classes;
  let labels = given.label_names;
  if (labels && classes !== undefined && labels.length !== classes) {
    notes.push(`the ${labels.length} label_names of ${file} are ignored: the model has ${classes} classes`);
    labels = undefined;
  }
  const preprocessing = timmPreprocessing(trained, architecture, file, notes);
  return {
    hints: {
      origin: file,
      imageSize: trained.input_size && [trained.input_size[1], trained.input_size[2]],
      channels: trained.input_size?.[0],
      classes,
    },
    version: given.architecture.startsWith('beitv2_') ? 2 : 1,
    layout: 'timm',
    versionEvidence: `${file} names the timm architecture ${architecture}`,
    ...(labels && { labels }),
    ...(preprocessing && { preprocessing }),
    notes,
  };
}

/** @see timm `data/transforms_factory.py` `transforms_imagenet_eval` */
function timmPreprocessing(
  trained: TimmPretrained,
  architecture: string,
  file: string,
  notes: string[],
): Preprocessing | undefined {
  const { input_size: size, crop_pct: share, mean, std, interpolation, crop_mode: mode = 'center' } = trained;
  if (!size || share === undefined || !mean || !std) return undefined;
  const [channels, height, width] = size;
  const usable =
    (mode === 'squash' || (mode === 'center' && height === width)) &&
    (interpolation === 'bicubic' || interpolation === 'bilinear') &&
    mean.length === channels &&
    std.length === channels;
  if (!usable) {
    notes.push(
      `the preprocessing of ${file} is ignored: only centre crops of square images and squashing are known`,
    );
    return undefined;
  }
  const scaled = [Math.floor(height / share), Math.floor(width / share)] as const;
  return {
    resize: mode === 'squash' ? scaled : scaled[0],
    crop: [height, width],
    interpolation: interpolation as Interpolation,
    mean,
    std,
    origin: `${file} (timm ${architecture})`,
  };
}
