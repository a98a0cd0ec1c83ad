/**
 * A file in the runtime and weights in the oracle, on the same inputs.
 */
import { basename } from 'node:path';
import { complexity } from '../beit.js';
import { ShapeError, UsageError } from '../errors.js';
import type { BeitModel } from '../model.js';
import type { OnProgress } from '../progress.js';
import type { Ends } from './checks/foreign-task.js';
import { sampleInput } from './inputs.js';
import { runOracle } from './oracle.js';
import { RuntimeRefusal, runOnnx } from './runtime.js';

export interface Input {
  readonly name: string;
  readonly pixels: Float32Array;
}

export interface InputOptions {
  readonly samples?: number;
  readonly seed?: number;
  readonly images?: readonly Input[];
}

export interface RunOptions {
  readonly seed?: number;
  readonly threads?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: OnProgress;
}

const MOST_SAMPLES = 1000;
/** Below it several images at once cost nothing that anybody notices. */
export const SMALL_MODEL_FLOPS = 1e9;

/** Pictures, or else generated inputs. */
export function makeInputs(model: BeitModel, options: InputOptions): Input[] {
  const { channels, imageSize } = model.config;
  const { images, seed = 0 } = options;
  if (images && images.length > 0) {
    const expected = channels * imageSize[0] * imageSize[1];
    for (const { name, pixels } of images) {
      if (pixels.length !== expected) {
        throw new ShapeError(
          `${name} has ${pixels.length} values; this model takes ${channels}×${imageSize.join('×')} = ${expected}`,
        );
      }
    }
    return [...images];
  }
  const samples = options.samples ?? (complexity(model.config).flops < SMALL_MODEL_FLOPS ? 4 : 1);
  if (!Number.isSafeInteger(samples) || samples < 1 || samples > MOST_SAMPLES) {
    throw new UsageError(`${samples} samples: needed is a whole number from 1 to ${MOST_SAMPLES}`);
  }
  if (!Number.isSafeInteger(seed) || seed < 0) {
    throw new UsageError(`seed ${seed}: needed is a whole number from 0 to 2^53 - 1`);
  }
  return Array.from({ length: samples }, (_, index) => ({
    name: `seed ${seed} #${index}`,
    pixels: sampleInput(model.config, seed, index),
  }));
}

/** Images per run. Memory of attention grows with it; a batch of one would not show whether images stay apart. */
function batchSize(model: BeitModel, count: number): number {
  const most = complexity(model.config).flops < SMALL_MODEL_FLOPS ? 8 : 2;
  return Math.max(2, Math.min(most, count));
}

/**
 * Runs the file on all inputs, and on the first one again where it makes another batch: in full batches and alone, and
 * (a single input) as the second of two different images.
 */
export async function runFile(
  path: string,
  model: BeitModel,
  inputs: readonly Input[],
  options: RunOptions & { readonly ends: Ends },
): Promise<{ version: string; written: Float32Array[][] }> {
  const { config } = model;
  const { ends } = options;
  const batch = ends.batch ?? batchSize(model, inputs.length);
  const rows: { pixels: Float32Array; input?: number }[] = inputs.map(({ pixels }, input) => ({
    pixels,
    input,
  }));
  const spare = (): { pixels: Float32Array } => ({
    pixels: sampleInput(config, options.seed ?? 0, inputs.length),
  });
  if (ends.batch === undefined) {
    if (rows.length === 1) rows.unshift(spare());
    if (rows.length % batch === 0) rows.push({ pixels: inputs[0].pixels, input: 0 });
  } else while (rows.length % batch !== 0) rows.push(spare());
  const shape = [config.channels, ...config.imageSize];
  const stacked = new Float32Array(rows.length * inputs[0].pixels.length);
  rows.forEach(({ pixels }, row) => stacked.set(pixels, row * pixels.length));

  const result = await runOnnx(path, {
    inputs: stacked,
    shape,
    inputName: ends.input,
    batch,
    threads: options.threads,
    signal: options.signal,
    onProgress: options.onProgress,
  });
  const logits = result.outputs.get(ends.output);
  if (String(logits?.dims) !== String([rows.length, config.classes])) {
    throw new RuntimeRefusal(
      `${basename(path)} gives logits [${logits?.dims.join(', ') ?? ''}] for ${rows.length} images; needed is [${rows.length}, ${config.classes}]`,
    );
  }
  const written: Float32Array[][] = inputs.map(() => []);
  rows.forEach(({ input }, row) => {
    if (input === undefined) return;
    written[input].push(logits!.data.subarray(row * config.classes, (row + 1) * config.classes));
  });
  return { version: result.version, written };
}

/** Logits and expected noise by the oracle, a few images at a time. */
export async function reckon(
  model: BeitModel,
  inputs: readonly Input[],
  options: RunOptions,
): Promise<{ oracle: Float64Array; noise: number }[]> {
  const { classes } = model.config;
  const batch = batchSize(model, inputs.length);
  const rounds = Math.ceil(inputs.length / batch);
  const out: { oracle: Float64Array; noise: number }[] = [];
  for (let round = 0; round < rounds; round++) {
    const part = inputs.slice(round * batch, (round + 1) * batch);
    const stacked = new Float32Array(part.length * part[0].pixels.length);
    part.forEach(({ pixels }, row) => stacked.set(pixels, row * pixels.length));
    const { logits, noise } = await runOracle(model, stacked, part.length, {
      threads: options.threads,
      signal: options.signal,
      onProgress: (done, total) =>
        options.onProgress?.({
          phase: 'oracle',
          label: model.provenance.id,
          done: round * total + done,
          total: rounds * total,
          unit: 'blocks',
        }),
    });
    part.forEach((_, row) => {
      out.push({ oracle: logits.slice(row * classes, (row + 1) * classes), noise: noise.logits[row] });
    });
  }
  return out;
}
