/** Reading `fixtures/resize`: see fixtures/PROVENANCE.md. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openCheckpoint } from '../../src/convert/open.js';
import type { ResizeMethod } from '../../src/resizing.js';
import { bytesOf, readBytes, readFloat64, type Tensor } from '../../src/tensor.js';
import { goldenPath } from './goldens.js';

/** One file of upstream's outputs, in memory. */
export async function resizeGolden(name: string): Promise<ReadonlyMap<string, GoldenArray>> {
  const path = fileURLToPath(new URL(`../../fixtures/resize/${name}.safetensors`, import.meta.url));
  const file = await openCheckpoint(path);
  const out = new Map<string, GoldenArray>();
  for (const [key, tensor] of file.tensors) {
    out.set(key, { shape: tensor.shape, dtype: tensor.dtype, values: await readFloat64(tensor) });
  }
  await file.close();
  return out;
}

export interface GoldenArray extends Pick<Tensor, 'shape' | 'dtype'> {
  readonly values: Float64Array;
}

export interface ResizeCase {
  readonly name: string;
  /** folder of `fixtures/goldens` with the weights */
  readonly source: string;
  /** file of `fixtures/resize` */
  readonly file: string;
  readonly method: ResizeMethod;
  readonly imageSize: readonly [number, number];
  readonly patchSize?: number;
  readonly input: string;
  readonly logits: string;
  /** canonical name of a tensor → its golden (of `pos_embed` the first four channels) */
  readonly tensors: Readonly<Record<string, string>>;
  /** of upstream's LayerNorm, where it is not 1e-6 */
  readonly eps?: number;
}

const TABLE = 'backbone.layers.0.attn.relative_position_bias_table';
const KERNEL = 'backbone.patch_embed.projection.weight';

function tables(
  file: string,
  method: ResizeMethod,
  imageSize: readonly [number, number],
  logits: string,
  table: string,
  eps?: number,
): ResizeCase {
  const name = `${file}: ${logits}`;
  const tensors = { [TABLE]: table };
  return { name, source: 'v1_cls', file, method, imageSize, input: 'input', logits, tensors, eps };
}

function positions(
  where: string,
  method: ResizeMethod,
  imageSize: readonly [number, number],
  logits: string | undefined,
  golden: string,
): ResizeCase {
  return {
    name: `pos_embed ${where}: ${golden}`,
    source: 'v1_abs_pos',
    file: 'pos_embed',
    method,
    imageSize,
    input: `${where}.input`,
    logits: logits === undefined ? '' : `${where}.${logits}`,
    tensors: { 'backbone.pos_embed': `${where}.${golden}` },
  };
}

function patches(patchSize: number, imageSize: readonly [number, number]): ResizeCase {
  const at = `patch${patchSize}`;
  return {
    name: `patch ${patchSize}`,
    source: 'v1_cls',
    file: 'patch',
    method: 'timm',
    imageSize,
    patchSize,
    input: `${at}.input`,
    logits: `${at}.logits`,
    tensors: { [TABLE]: `${at}.table.0`, [KERNEL]: `${at}.kernel` },
  };
}

const UP = [48, 48] as const;
const DOWN = [20, 20] as const;
const WIDE = [24, 40] as const;

/** Every whole model that upstream was run on at another size. `logits: ''`: only the tensors were computed. */
export const RESIZE_CASES: readonly ResizeCase[] = [
  ...(['up', 'down'] as const).flatMap((file) => {
    const size = file === 'up' ? UP : DOWN;
    return [
      tables(file, 'unilm', size, 'unilm.logits', 'unilm.table.0'),
      tables(file, 'timm', size, 'timm.logits', 'timm.table.0'),
      tables(file, 'transformers', size, 'hf_eps1e-6.logits', 'hf.table.0'),
      tables(file, 'transformers', size, 'hf_eps1e-12.logits', 'hf.table.0', 1e-12),
    ];
  }),
  tables('nonsquare', 'timm', WIDE, 'timm.logits', 'timm.table.0'),
  tables('nonsquare', 'transformers', WIDE, 'hf_eps1e-6.logits', 'hf.table.0'),
  tables('nonsquare', 'transformers', WIDE, 'hf_eps1e-12.logits', 'hf.table.0', 1e-12),
  ...(
    [
      ['up', UP],
      ['down', DOWN],
      ['nonsquare', WIDE],
    ] as const
  ).flatMap(([where, size]) => [
    ...(where === 'nonsquare' ? [] : [positions(where, 'unilm', size, 'unilm.logits', 'unilm.pos_embed')]),
    positions(where, 'beit2', size, 'beit2_forward.logits', 'beit2_forward.pos_embed'),
    positions(where, 'timm', size, 'timm.logits', 'timm_antialias.pos_embed'),
    positions(where, 'timm-simple', size, undefined, 'timm_no_antialias.pos_embed'),
    positions(where, 'transformers', size, 'hf_eps1e-6.logits', 'timm_no_antialias.pos_embed'),
  ]),
  patches(6, [32, 32]),
  patches(3, [24, 40]),
  patches(8, [40, 40]),
];

/**
 * A pre-training checkpoint with the classifier's own tensors in place of its head's, as unilm's fine-tuning script
 * leaves it before it expands the shared table.
 *
 * @returns the file's path
 */
export async function expandedCheckpoint(folder: string): Promise<string> {
  const pretrained = await openCheckpoint(goldenPath('mim_v1', 'official.safetensors'));
  const tensors = new Map<string, { dtype: string; shape: readonly number[]; bytes: Uint8Array }>();
  for (const [name, tensor] of pretrained.tensors) {
    if (/^(norm|lm_head|mask_token)/.test(name)) continue;
    tensors.set(name, { dtype: tensor.dtype, shape: tensor.shape, bytes: await readBytes(tensor) });
  }
  await pretrained.close();
  for (const [name, { dtype, shape, values }] of await resizeGolden('pt_expand')) {
    if (!/^(fc_norm|head)\./.test(name)) continue;
    tensors.set(name, { dtype, shape, bytes: bytesOf(Float32Array.from(values)) });
  }
  let at = 0;
  const header: Record<string, unknown> = {};
  for (const [name, { dtype, shape, bytes }] of tensors) {
    header[name] = { dtype, shape, data_offsets: [at, (at += bytes.length)] };
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const path = join(folder, 'expanded.safetensors');
  await writeFile(path, Buffer.concat([length, text, ...[...tensors.values()].map(({ bytes }) => bytes)]));
  return path;
}
