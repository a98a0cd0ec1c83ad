/**
 * Everything that we write in onnxruntime-web, the WebAssembly build that browsers get: every task and precision, images
 * of any size, weights beside the file and in the checkpoint. onnxruntime-web comes with @huggingface/transformers.
 */
import { copyFile, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as node from 'onnxruntime-node';
import * as web from 'onnxruntime-web';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadModel } from '../../src/convert/load.js';
import { openCheckpoint } from '../../src/convert/open.js';
import { exportFiles, type ExportOptions } from '../../src/export/index.js';
import type { BeitModel } from '../../src/model.js';
import { PRECISIONS, type PrecisionName } from '../../src/precision.js';
import { resolveTask, type TaskOptions } from '../../src/task.js';
import { readBytes, readFloat32, readFloat64 } from '../../src/tensor.js';
import { sampleInput } from '../../src/verify/inputs.js';
import { openOnnxFile } from '../../src/verify/onnx-file.js';
import { goldenPath } from '../convert/goldens.js';
import { TASK_CASES } from '../support/tasks.js';

const NAMES = [...PRECISIONS.keys()] as PrecisionName[];

/**
 * Largest difference of the two builds, in parts of the largest output. Both round in every step, in another order: in
 * float32 by some units of 2^-24; where activations are rounded too, whole steps differ.
 */
const ALLOWED: Readonly<Record<PrecisionName, number>> = {
  fp32: 32 * 2 ** -24,
  fp16: 2e-3,
  q8: 0.02,
  int8: 0.02,
  uint8: 0.02,
  q4: 0.05,
  q4f16: 0.05,
};

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'convert-beit-web-'));
  web.env.wasm.numThreads = 1;
});
afterAll(() => rm(folder, { recursive: true }));

interface Feed {
  readonly type: 'float32' | 'bool';
  readonly data: Float32Array | Uint8Array;
  readonly dims: readonly number[];
}
type Feeds = Readonly<Record<string, Feed>>;
interface Output {
  readonly dims: readonly number[];
  readonly data: Float32Array;
}
type Outputs = Readonly<Record<string, Output>>;

let count = 0;
async function write(
  model: BeitModel,
  precisions: readonly PrecisionName[],
  options: Partial<ExportOptions> = {},
): Promise<readonly (readonly [PrecisionName, string])[]> {
  count += 1;
  const files = precisions.map((precision) => ({
    precision,
    path: join(folder, `${count}-${precision}.onnx`),
  }));
  await exportFiles(model, files, { toolVersion: '0.0.0-test', ...options });
  return files.map(({ precision, path }) => [precision, path] as const);
}

async function inNode(path: string, feeds: Feeds): Promise<Outputs> {
  const session = await node.InferenceSession.create(path, { logSeverityLevel: 3 });
  const found = await session.run(tensors(node, feeds));
  await session.release();
  return found as unknown as Outputs;
}

/** As a browser does it: everything is bytes that somebody fetched. */
async function inWeb(path: string, feeds: Feeds): Promise<Outputs> {
  const file = await openOnnxFile(path);
  const beside = new Set([...file.initializers.values()].flatMap((each) => each.file ?? []));
  await file.close();
  const session = await web.InferenceSession.create(await readFile(path), {
    executionProviders: ['wasm'],
    logSeverityLevel: 3,
    externalData: await Promise.all(
      [...beside].map(async (name) => ({ path: name, data: await readFile(join(folder, name)) })),
    ),
  });
  const found = await session.run(tensors(web, feeds));
  await session.release();
  return found as unknown as Outputs;
}

function tensors<Tensor>(
  ort: { readonly Tensor: new (type: 'float32', data: Float32Array, dims: number[]) => Tensor },
  feeds: Feeds,
): Record<string, Tensor> {
  return Object.fromEntries(
    Object.entries(feeds).map(([name, { type, data, dims }]) => [
      name,
      new ort.Tensor(type as 'float32', data as Float32Array, [...dims]),
    ]),
  );
}

function distance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  expect(a.length).toBe(b.length);
  return Array.from(a).reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0);
}

/** @returns what onnxruntime-web gave */
async function expectSame(path: string, precision: PrecisionName, feeds: Feeds): Promise<Outputs> {
  const [found, expected] = [await inWeb(path, feeds), await inNode(path, feeds)];
  expect(Object.keys(found)).toEqual(Object.keys(expected));
  for (const [name, { dims, data }] of Object.entries(expected)) {
    expect(found[name].dims).toEqual(dims);
    const largest = data.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    expect(distance(found[name].data, data) / largest, `${precision} ${name}`).toBeLessThan(
      ALLOWED[precision],
    );
  }
  return found;
}

/** Of several cases of one checkpoint the first is tried in every precision. */
const precisionsOf = (index: number): readonly PrecisionName[] =>
  TASK_CASES.findIndex(({ folder }) => folder === TASK_CASES[index].folder) === index ? NAMES : ['fp32'];
const cases = TASK_CASES.map((of, index) => ({ ...of, precisions: precisionsOf(index) }));

describe('onnxruntime-web gives what onnxruntime-node gives, in float32 what upstream gives', () => {
  it.each(cases)('$name: $precisions', async (of) => {
    const model = await loadModel(goldenPath(of.folder, `${of.file}.safetensors`), { hints: of.hints });
    const io = await openCheckpoint(goldenPath(of.folder, 'io.safetensors'));
    try {
      const [input, mask] = ['input', 'mask'].map((name) => io.tensors.get(name));
      const feeds: Feeds = {
        pixel_values: { type: 'float32', data: await readFloat32(input!), dims: input!.shape },
        ...(mask && { bool_masked_pos: { type: 'bool', data: await readBytes(mask), dims: mask.shape } }),
      };
      const task = resolveTask(model.config, of.task);
      for (const [precision, path] of await write(model, of.precisions, { task })) {
        const found = await expectSame(path, precision, feeds);
        if (precision !== 'fp32') continue;
        for (const [i, name] of of.expected.entries()) {
          const upstream = await readFloat64(io.tensors.get(name)!);
          expect(distance(found[of.names[i]].data, upstream)).toBeLessThan(1e-5);
        }
      }
    } finally {
      await io.close();
      await model.close();
    }
  });
});

describe('a classifier', () => {
  /** Float32 is upstream's elsewhere; here the two runtimes are held against each other. */
  async function check(
    golden: string,
    precisions: readonly PrecisionName[],
    options: Partial<ExportOptions> & { size?: readonly [number, number]; asked?: TaskOptions } = {},
  ): Promise<Outputs[]> {
    const { size, asked, ...more } = options;
    const source = join(folder, `${golden}.safetensors`);
    await copyFile(goldenPath(golden, 'official.safetensors'), source);
    const model = await loadModel(source);
    try {
      const task = resolveTask(model.config, asked);
      const { channels, imageSize } = model.config;
      const [height, width] = size ?? imageSize;
      const images = [0, 1].map((index) => sampleInput({ channels, imageSize: [height, width] }, 0, index));
      const data = Float32Array.from(images.flatMap((image) => [...image]));
      const feeds: Feeds = { pixel_values: { type: 'float32', data, dims: [2, channels, height, width] } };
      const found: Outputs[] = [];
      for (const [precision, path] of await write(model, precisions, { task, ...more })) {
        found.push(await expectSame(path, precision, feeds));
      }
      return found;
    } finally {
      await model.close();
    }
  }

  it.each(['v1_cls', 'v1_shared_rel', 'v1_abs_and_rel', 'v2_cls'])(
    'in every precision: %s',
    async (golden) => {
      await check(golden, NAMES);
    },
  );

  it.each([18, 19, 20, 21, 22, 23])('of opset %i', async (opset) => {
    await check('v1_abs_and_rel', NAMES, { opset });
  });

  it.each([
    [16, 16],
    [19, 45],
    [40, 40],
  ])('for images of any size, at %i×%i', async (...size) => {
    const [{ logits }] = await check('v1_abs_and_rel', NAMES, { dynamic: 'transformers', size });
    expect(logits.dims).toEqual([2, 10]);
    await check('v1_cls', ['fp32', 'q4f16'], { dynamic: 'timm-simple', size });
    const asked = { task: 'features', outTypes: ['raw', 'featmap'] } as const;
    const [features] = await check('v1_cls', ['fp32'], { dynamic: 'transformers', size, asked });
    expect(features['featmap'].dims.slice(2)).toEqual(size.map((side) => Math.floor(side / 4)));
  });

  it('with its weights beside it', async () => {
    await check('v1_patch16', NAMES, { externalData: true });
  });

  it('with its weights in the checkpoint', async () => {
    await check('v1_patch16', ['fp32'], { link: { folder, digest: false } });
  });
});
