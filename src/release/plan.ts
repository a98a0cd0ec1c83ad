/**
 * What a release would do, before anything is read from a network: names, sizes, sources, and rough times.
 */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { complexity } from '../beit.js';
import { parseSource } from '../convert/source.js';
import { factsOf } from './facts.js';
import { knownConfig } from './known-config.js';
import type { ReleaseItem } from './manifest.js';

export interface PlannedFile {
  readonly path: string;
  /** estimated; `undefined` when nothing is known about the model yet */
  readonly bytes?: number;
}

export interface PlannedItem {
  readonly name: string;
  readonly source: string;
  readonly title: string;
  readonly dtypes: readonly string[];
  readonly imageSize?: readonly [number, number];
  readonly parameters?: number;
  readonly files: readonly PlannedFile[];
  readonly bytes?: number;
  /** of two ordinary cores, download not counted */
  readonly seconds?: number;
  /** peak, verification included; `undefined` when nothing is known about the model yet */
  readonly memory?: number;
  /** a path where nothing is */
  readonly missing?: boolean;
}

/** Bytes a weight takes in each precision (scales included): matrices dominate. */
const BYTES_PER_WEIGHT: Readonly<Record<string, number>> = {
  fp32: 4,
  fp16: 2,
  q8: 1.07,
  int8: 1.07,
  uint8: 1.07,
  q4: 0.69,
  q4f16: 0.65,
};

const FILE_SUFFIX: Readonly<Record<string, string>> = {
  fp32: '',
  fp16: '_fp16',
  q8: '_quantized',
  int8: '_int8',
  uint8: '_uint8',
  q4: '_q4',
  q4f16: '_q4f16',
};

/** Path of one precision's file inside an item's folder, as transformers.js looks for it. */
export function modelPath(dtype: string): string {
  return `onnx/model${FILE_SUFFIX[dtype]}.onnx`;
}

/** Seconds a byte of written weights and a FLOP of verification cost on two ordinary cores; measured, rounded up. */
const SECONDS_PER_BYTE = 2e-9;
const SECONDS_PER_FLOP = 4e-10;
const START_SECONDS = 1;
/**
 * Peak of a verified conversion, the runtime's process included: measured, `npm run bench -- release`. The runtime holds
 * float32 twice while it opens a file.
 */
const BASE_MEMORY = 290e6;
const RUNTIME_COPIES = 2;

export async function planItem(item: ReleaseItem): Promise<PlannedItem> {
  const facts = factsOf(item);
  const config = knownConfig(item);
  const dtypes = item.dtype ?? ['fp32'];
  const known = config ? complexity(config) : undefined;
  const local = config || parseSource(item.source).kind !== 'file' ? undefined : await sizeOf(item.source);
  // Most checkpoints hold float32: what a file's size says is near enough for a plan.
  const parameters = known?.parameters ?? (local ? Math.round(local / 4) : undefined);
  const files = dtypes.map((dtype) => ({
    path: modelPath(dtype),
    ...(parameters !== undefined && { bytes: Math.round(parameters * BYTES_PER_WEIGHT[dtype]) }),
  }));
  if (item.with_weights === true) {
    files.push({ path: 'model.safetensors', ...(parameters !== undefined && { bytes: parameters * 4 }) });
  }
  const bytes =
    parameters === undefined ? undefined : files.reduce((sum, file) => sum + (file.bytes ?? 0), 0);
  const image = item.image_size ?? config?.imageSize[0];
  return {
    name: item.name,
    source: item.source,
    title: facts.title,
    dtypes,
    ...(image !== undefined && { imageSize: typeof image === 'number' ? [image, image] : image }),
    ...(parameters !== undefined && { parameters }),
    files,
    ...(bytes !== undefined && {
      bytes,
      seconds:
        START_SECONDS + bytes * SECONDS_PER_BYTE + (known?.flops ?? 0) * SECONDS_PER_FLOP * dtypes.length,
    }),
    ...(parameters !== undefined && { memory: BASE_MEMORY + RUNTIME_COPIES * 4 * parameters }),
    ...(local === null && { missing: true }),
  };
}

/** Bytes of the weights of a file or a folder; `undefined` when it has none, `null` when nothing is there. */
async function sizeOf(path: string): Promise<number | null | undefined> {
  const found = await stat(path).catch(() => undefined);
  if (!found) return null;
  if (!found.isDirectory()) return found.size;
  const names = (await readdir(path)).filter((name) => WEIGHTS.test(name));
  const sizes = await Promise.all(names.map(async (name) => (await stat(join(path, name))).size));
  return sizes.reduce((sum, size) => sum + size, 0) || undefined;
}

const WEIGHTS = /\.(?:safetensors|bin|pth|pt)$/;
