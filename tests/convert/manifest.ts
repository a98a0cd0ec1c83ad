/** Reading `fixtures/layouts`: what upstream's files of one model hold in each layout, tensor by tensor. */
import { createHash } from 'node:crypto';

import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { elementCount, memoryTensor, readBytes, type StateDict, type Tensor } from '../../src/tensor.js';
import { withLength } from './recipe.js';
import { dtype as dtypeRow, type DtypeName } from '../../src/dtype.js';

/** dtype, shape, the first 16 digits of the sha256 of the bytes */
export type ManifestRow = readonly [DtypeName, readonly number[], string];
export type LayoutRows = ReadonlyMap<string, ManifestRow>;

const ROOT = new URL('../../fixtures/layouts/', import.meta.url);

export const MANIFESTS = readdirSync(ROOT)
  .map((file) => file.replace(/\.json$/, ''))
  .sort();

/** @returns layout name → tensor name → row */
export function manifest(name: string): ReadonlyMap<string, LayoutRows> {
  const url = new URL(`${name}.json`, ROOT);
  const { layouts } = JSON.parse(readFileSync(url, 'utf8')) as {
    layouts: Record<string, Record<string, ManifestRow>>;
  };
  return new Map(Object.entries(layouts).map(([layout, rows]) => [layout, new Map(Object.entries(rows))]));
}

/** A state dict as the rows of a manifest, by name. */
export async function rowsOf(tensors: StateDict): Promise<Map<string, ManifestRow>> {
  const rows = new Map<string, ManifestRow>();
  for (const name of [...tensors.keys()].sort()) {
    const { dtype, shape } = tensors.get(name)!;
    rows.set(name, [dtype, shape, await digestOf(tensors.get(name)!)]);
  }
  return rows;
}

export async function digestOf(tensor: Tensor): Promise<string> {
  return createHash('sha256')
    .update(await readBytes(tensor))
    .digest('hex')
    .slice(0, 16);
}

/** Write a state dict as a safetensors file. */
export async function writeSafetensors(path: string, tensors: StateDict): Promise<void> {
  const data: Uint8Array[] = [];
  const header: Record<string, unknown> = {};
  let at = 0;
  for (const [name, tensor] of tensors) {
    const bytes = await readBytes(tensor);
    header[name] = { dtype: tensor.dtype, shape: tensor.shape, data_offsets: [at, at + bytes.length] };
    data.push(bytes);
    at += bytes.length;
  }
  writeFileSync(path, withLength(Buffer.from(JSON.stringify(header)), Buffer.concat(data)));
}

/** Tensors of zeros with the names, dtypes and shapes of a manifest. */
export function hollow(rows: LayoutRows): Map<string, Tensor> {
  return new Map(
    [...rows].map(([name, [dtype, shape]]) => [
      name,
      memoryTensor(dtype, shape, new Uint8Array(elementCount(shape) * dtypeRow(dtype).bytes)),
    ]),
  );
}

/** cases whose files upstream wrote: the golden's file, and the layouts upstream's files exist in */
export const UPSTREAM = [
  ['v1_cls', 'official', ['official', 'timm', 'transformers', 'mmpretrain']],
  ['v1_abs_pos', 'official', ['official', 'timm', 'transformers', 'mmpretrain']],
  ['v1_cls_pool', 'official', ['official', 'timm', 'transformers', 'mmpretrain']],
  ['v1_shared_rel', 'official', ['official', 'timm', 'transformers', 'mmpretrain']],
  ['mim_v1', 'official', ['official', 'transformers', 'mmpretrain']],
  ['mim_v2_cls_pt', 'official', ['official', 'mmpretrain']],
  ['mm_bias_true', 'mmpretrain', ['mmpretrain']],
  ['mm_out_types', 'mmpretrain', ['mmpretrain']],
  ['segmentation', 'hf', ['official', 'transformers']],
] as const;
