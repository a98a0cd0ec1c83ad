/**
 * A file of any task in the runtime and its weights in the oracle, on the same inputs.
 */
import { basename } from 'node:path';
import { complexity } from '../beit.js';
import type { BeitModel } from '../model.js';
import type { Task } from '../task.js';
import { MASK_INPUT, taskOutputs } from '../task.js';
import type { Ends } from './checks/foreign-task.js';
import type { OutputPair } from './checks/outputs.js';
import { expectOutputs } from './expected.js';
import { xoshiro128 } from './inputs.js';
import { SMALL_MODEL_FLOPS, type Input, type RunOptions } from './run.js';
import { RuntimeRefusal, runOnnx } from './runtime.js';

/** Share of the patches that pre-training hides (unilm `beit/masking_generator.py`: 75 of 196). */
const MASKED_SHARE = 0.4;

/** `[N]`, 1 = hidden: the same for the same seed, another for every input. */
export function sampleMask(patches: number, seed: number, index: number): Uint8Array {
  const next = xoshiro128([(seed % 2 ** 32) | 0, Math.floor(seed / 2 ** 32) | 0, index, 0x6d61736b]);
  for (let i = 0; i < 8; i++) next();
  return Uint8Array.from({ length: patches }, () => (next() / 2 ** 32 < MASKED_SHARE ? 1 : 0));
}

type Places = readonly number[] | undefined;

/** One pair per output, over all inputs. */
export async function runTask(
  path: string,
  model: BeitModel,
  task: Task,
  inputs: readonly Input[],
  options: RunOptions & { readonly ends?: Ends },
): Promise<{ pairs: OutputPair[]; version: string }> {
  const { config } = model;
  const patches = config.window[0] * config.window[1];
  const masks =
    task.name === 'masked-image' && !options.ends?.unmasked
      ? inputs.map((_, i) => sampleMask(patches, options.seed ?? 0, i))
      : undefined;
  const shape = [config.channels, ...config.imageSize];
  const small = complexity(config).flops < SMALL_MODEL_FLOPS;
  const { ends } = options;
  const wanted = ends?.batch ?? (small ? Math.min(inputs.length, 4) : 1);
  // A fixed batch may need more images than there are inputs: the first ones again.
  const rows = [...inputs.keys()];
  while (rows.length % wanted !== 0) rows.push(rows.length % inputs.length);
  const stacked = concatenate(rows.map((row) => inputs[row].pixels));
  const ran = await runOnnx(path, {
    inputs: stacked,
    shape,
    inputName: ends?.input,
    batch: wanted,
    ...(masks && {
      masks: {
        name: ends?.mask ?? MASK_INPUT,
        type: ends?.maskType,
        data: Buffer.concat(rows.map((row) => masks[row])),
        shape: [patches],
      },
    }),
    threads: options.threads,
    signal: options.signal,
    onProgress: options.onProgress,
  });
  const ports = taskOutputs(config, task);
  const written = new Map(
    ports.map(({ name }, i) => [name, ran.outputs.get(ends?.outputs?.[i] ?? name)] as const),
  );
  for (const { name, shape: own } of ports) {
    const dims = written.get(name)?.dims;
    if (String(dims) !== String([rows.length, ...own])) {
      throw new RuntimeRefusal(
        `${basename(path)} gives ${name} [${dims?.join(', ') ?? ''}] for ${rows.length} images; needed is [${[rows.length, ...own].join(', ')}]`,
      );
    }
  }
  const parts = new Map(
    ports.map(({ name }) => [
      name,
      { written: [] as number[][], oracle: [] as Float64Array[], noise: 0, positions: undefined as Places },
    ]),
  );
  for (const [i, { pixels }] of inputs.entries()) {
    const expected = await expectOutputs(
      model,
      task,
      { pixels, batch: 1, mask: masks?.[i] },
      {
        threads: options.threads,
        signal: options.signal,
        onProgress: (done, total) =>
          options.onProgress?.({
            phase: 'oracle',
            label: model.provenance.id,
            done: i * total + done,
            total: inputs.length * total,
            unit: 'blocks',
          }),
      },
    );
    for (const { name, values, shape: own, noise, positions } of expected) {
      const part = parts.get(name)!;
      const size = own.reduce((product, side) => product * side, 1);
      const all = written.get(name)!.data.subarray(i * size, (i + 1) * size);
      part.written.push(positions ? atPositions(all, own, positions) : (all as unknown as number[]));
      part.oracle.push(values);
      part.noise = Math.max(part.noise, noise);
      part.positions = positions;
    }
  }
  const pairs = ports.map(({ name, shape: own }): OutputPair => {
    const { written, oracle, noise, positions } = parts.get(name)!;
    return {
      name,
      shape: own,
      inputs: inputs.map((input) => input.name),
      written: join(written),
      oracle: join(oracle),
      noise,
      ...(positions && { positions }),
      choices: task.name === 'masked-image' ? config.vocabulary : undefined,
    };
  });
  return { pairs, version: ran.version };
}

/** `[images, K, H, W]` at some places: `[images, K, places]`. */
export function atPositions(
  values: Float32Array,
  [, height, width]: readonly number[],
  places: readonly number[],
): number[] {
  const out: number[] = [];
  for (let at = 0; at < values.length; at += height * width)
    for (const place of places) out.push(values[at + place]);
  return out;
}

function join(parts: readonly ArrayLike<number>[]): Float64Array {
  const out = new Float64Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

function concatenate(parts: readonly Float32Array[]): Float32Array {
  const out = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
