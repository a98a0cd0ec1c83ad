/**
 * Small files made from a description: the rows of `fixtures/ledger*.json` and the property tests' raw material.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { relativePositionIndex } from '../../src/beit.js';
import { dtype as dtypeRow, type DtypeName } from '../../src/dtype.js';
import { elementCount } from '../../src/tensor.js';
import { tinyOf, type TinyKind } from './tiny.js';
import { assemble } from './pickle-recipe.js';
import { torchBytes, type TorchRecipe } from './torch-recipe.js';
import { zipBytes } from './zip-recipe.js';

export interface TensorRecipe {
  readonly dtype?: DtypeName;
  readonly shape: readonly number[];
  /** fill as the index buffer of this window */
  readonly index?: readonly [number, number];
  /** `[element, value]` pairs, of an int64 or int32 tensor */
  readonly poke?: readonly (readonly [number, number])[];
}

export interface Recipe {
  /** edits of {@link TINY} */
  readonly tiny?: {
    /** another model than the classifier under official names */
    readonly of?: TinyKind;
    readonly drop?: readonly string[];
    readonly only?: readonly string[];
    readonly rename?: Readonly<Record<string, string>>;
    /** `[name, tensor]` pairs, as a name may be `__proto__` */
    readonly set?: readonly (readonly [string, TensorRecipe])[];
    readonly prefix?: string;
    readonly prefixOnly?: readonly string[];
    readonly metadata?: unknown;
  };
  /** a well-formed file of float32 scalars with these names */
  readonly names?: readonly string[];
  /** a header as text, followed by `data` zero bytes; `length` is what the first 8 bytes say */
  readonly header?: string;
  readonly headerHex?: string;
  readonly length?: string;
  readonly data?: number;
  readonly text?: string;
  readonly hex?: string;
  /** lines of a pickle: see pickle-recipe.ts */
  readonly pickle?: readonly string[];
  readonly torch?: TorchRecipe;
  /** a zip archive of these files */
  readonly zip?: Readonly<Record<string, Recipe>>;
  readonly json?: unknown;
  /** zero bytes behind all this */
  readonly pad?: number;
  /** cut to this many bytes; negative: that many off the end */
  readonly truncate?: number;
  /** overwrite */
  readonly patch?: readonly { readonly at: number; readonly hex: string }[];
  readonly fifo?: boolean;
  readonly link?: string;
  readonly folder?: Readonly<Record<string, Recipe>>;
}

/** A whole BEiT classifier: dim 4, 2 blocks, 2 heads, patch 2, 4×4 pixels, 3 classes; index buffers included. */
export const TINY: ReadonlyMap<string, TensorRecipe> = tiny();

function tiny(): Map<string, TensorRecipe> {
  const out = new Map<string, TensorRecipe>();
  const f32 = (name: string, ...shape: number[]): unknown => out.set(name, { shape });
  f32('cls_token', 1, 1, 4);
  f32('patch_embed.proj.weight', 4, 3, 2, 2);
  f32('patch_embed.proj.bias', 4);
  for (let layer = 0; layer < 2; layer++) {
    const at = `blocks.${layer}.`;
    for (const name of ['gamma_1', 'gamma_2', 'norm1.weight', 'norm1.bias', 'attn.q_bias', 'attn.v_bias']) {
      f32(at + name, 4);
    }
    f32(`${at}attn.relative_position_bias_table`, 12, 2);
    out.set(`${at}attn.relative_position_index`, { dtype: 'I64', shape: [5, 5], index: [2, 2] });
    f32(`${at}attn.qkv.weight`, 12, 4);
    f32(`${at}attn.proj.weight`, 4, 4);
    for (const name of ['attn.proj.bias', 'norm2.weight', 'norm2.bias']) f32(at + name, 4);
    f32(`${at}mlp.fc1.weight`, 8, 4);
    f32(`${at}mlp.fc1.bias`, 8);
    f32(`${at}mlp.fc2.weight`, 4, 8);
    f32(`${at}mlp.fc2.bias`, 4);
  }
  f32('fc_norm.weight', 4);
  f32('fc_norm.bias', 4);
  f32('head.weight', 3, 4);
  f32('head.bias', 3);
  return out;
}

/** Bytes of a safetensors file. Keys are written one by one: a name may be `__proto__`. */
export function safetensorsBytes(tensors: ReadonlyMap<string, TensorRecipe>, metadata?: unknown): Buffer {
  const entries = metadata === undefined ? [] : [`"__metadata__":${JSON.stringify(metadata)}`];
  const data: Uint8Array[] = [];
  let at = 0;
  for (const [name, tensor] of tensors) {
    const bytes = tensorBytes(tensor);
    const info = { dtype: tensor.dtype ?? 'F32', shape: tensor.shape, data_offsets: [at, at + bytes.length] };
    entries.push(`${JSON.stringify(name)}:${JSON.stringify(info)}`);
    data.push(bytes);
    at += bytes.length;
  }
  return withLength(Buffer.from(`{${entries.join(',')}}`), Buffer.concat(data));
}

export function withLength(header: Uint8Array, data: Uint8Array, length = BigInt(header.length)): Buffer {
  const first = Buffer.alloc(8);
  first.writeBigUInt64LE(length);
  return Buffer.concat([first, header, data]);
}

export function tensorBytes({ dtype = 'F32', shape, index, poke = [] }: TensorRecipe): Uint8Array {
  const out = new Uint8Array(elementCount(shape) * dtypeRow(dtype).bytes);
  const view = new DataView(out.buffer);
  const put = (i: number, value: number): void => {
    if (dtype === 'I64') view.setBigInt64(i * 8, BigInt(value), true);
    else view.setInt32(i * 4, value, true);
  };
  if (index) relativePositionIndex(index).forEach((value, i) => put(i, value));
  for (const [i, value] of poke) put(i, value);
  return out;
}

function edited(edits: NonNullable<Recipe['tiny']>): Map<string, TensorRecipe> {
  const { of, drop = [], only, rename = {}, set = [], prefix = '', prefixOnly } = edits;
  const renames = new Map(Object.entries(rename));
  const out = new Map<string, TensorRecipe>();
  for (const [name, tensor] of [...(of ? tinyOf(TINY, of) : TINY), ...set]) {
    const dropped =
      drop.some((part) => name.includes(part)) || (only && !only.some((part) => name.includes(part)));
    if (dropped && !set.some(([kept]) => kept === name)) continue;
    const wanted = renames.get(name) ?? name;
    out.set((prefixOnly === undefined || prefixOnly.includes(name) ? prefix : '') + wanted, tensor);
  }
  return out;
}

/** The bytes of a file's recipe. */
export function recipeBytes(recipe: Recipe): Buffer {
  let bytes: Buffer = Buffer.alloc(0);
  if (recipe.tiny) bytes = safetensorsBytes(edited(recipe.tiny), recipe.tiny.metadata);
  if (recipe.names) bytes = safetensorsBytes(new Map(recipe.names.map((name) => [name, { shape: [] }])));
  if (recipe.header !== undefined || recipe.headerHex !== undefined) {
    const header =
      recipe.header === undefined ? Buffer.from(recipe.headerHex!, 'hex') : Buffer.from(recipe.header);
    bytes = withLength(header, Buffer.alloc(recipe.data ?? 0), BigInt(recipe.length ?? header.length));
  }
  if (recipe.text !== undefined) bytes = Buffer.from(recipe.text);
  if (recipe.hex !== undefined) bytes = Buffer.from(recipe.hex, 'hex');
  if (recipe.pickle) bytes = assemble(recipe.pickle);
  if (recipe.torch) bytes = torchBytes(recipe.torch);
  if (recipe.zip) {
    const records = Object.entries(recipe.zip);
    bytes = zipBytes(records.map(([name, inner]) => ({ name, content: recipeBytes(inner) })));
  }
  if (recipe.json !== undefined) bytes = Buffer.from(JSON.stringify(recipe.json));
  if (recipe.pad) bytes = Buffer.concat([bytes, Buffer.alloc(recipe.pad)]);
  if (recipe.truncate !== undefined) bytes = bytes.subarray(0, recipe.truncate);
  for (const { at, hex } of recipe.patch ?? []) bytes.write(hex, at, 'hex');
  return bytes;
}

/** Make what the recipe describes at `path`. */
export function build(path: string, recipe: Recipe): void {
  if (recipe.folder) {
    mkdirSync(path);
    for (const [name, inner] of Object.entries(recipe.folder)) build(join(path, name), inner);
  } else if (recipe.fifo) {
    execFileSync('mkfifo', [path]);
  } else if (recipe.link !== undefined) {
    symlinkSync(recipe.link, path);
  } else {
    writeFileSync(path, recipeBytes(recipe));
  }
}
