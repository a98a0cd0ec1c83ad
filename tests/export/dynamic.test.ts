/** Graphs for images of any size, run in ONNX Runtime at many sizes, against upstream's logits. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadModel } from '../../src/convert/load.js';
import { openCheckpoint } from '../../src/convert/open.js';
import { resizeModel } from '../../src/convert/resize/model.js';
import { DYNAMIC_METHODS, otherSizes, type DynamicMethod } from '../../src/dynamic-size.js';
import { exportOnnx, type ExportOptions } from '../../src/export/index.js';
import type { BeitModel } from '../../src/model.js';
import { resolveTask, type TaskOptions } from '../../src/task.js';
import { readFloat32, readFloat64 } from '../../src/tensor.js';
import { sampleInput } from '../../src/verify/inputs.js';
import { expectOutputs } from '../../src/verify/expected.js';
import { runOracle } from '../../src/verify/oracle.js';
import { GOLDEN_CASES, GOLDEN_HINTS, goldenPath } from '../convert/goldens.js';
import { resizeGolden } from '../convert/resize-cases.js';
import { difference, largest } from '../verify/oracle-model.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'convert-beit-dynamic-'));
});
afterAll(() => rm(folder, { recursive: true }));

const TOOL = { toolVersion: '0.0.0-test' };

async function withModel<T>(
  name: string,
  use: (model: BeitModel) => Promise<T>,
  layerNormEps = 1e-6,
): Promise<T> {
  const model = await loadModel(goldenPath(name, 'official.safetensors'), {
    hints: { ...GOLDEN_HINTS.get(name), layerNormEps },
  });
  try {
    return await use(model);
  } finally {
    await model.close();
  }
}

let files = 0;
async function write(model: BeitModel, options: Partial<ExportOptions>): Promise<string> {
  files += 1;
  const path = join(folder, `${files}.onnx`);
  await exportOnnx(model, path, { ...TOOL, ...options });
  return path;
}

async function run(
  path: string,
  pixels: ArrayLike<number>,
  shape: readonly number[],
): Promise<ReadonlyMap<string, { dims: readonly number[]; data: Float64Array }>> {
  const session = await ort.InferenceSession.create(path, { logSeverityLevel: 3 });
  const input = new ort.Tensor('float32', Float32Array.from(pixels), [...shape]);
  const found = await session.run({ pixel_values: input });
  await session.release();
  return new Map(
    Object.entries(found).map(([name, { dims, data }]) => [
      name,
      { dims, data: Float64Array.from(data as Float32Array) },
    ]),
  );
}

describe.each([
  ['v1_cls', 'up', 'input', 'hf_eps1e-6.logits', 1e-6],
  ['v1_cls', 'up', 'input', 'hf_eps1e-12.logits', 1e-12],
  ['v1_cls', 'down', 'input', 'hf_eps1e-6.logits', 1e-6],
  ['v1_cls', 'down', 'input', 'hf_eps1e-12.logits', 1e-12],
  ['v1_cls', 'nonsquare', 'input', 'hf_eps1e-6.logits', 1e-6],
  ['v1_cls', 'nonsquare', 'input', 'hf_eps1e-12.logits', 1e-12],
  ['v1_abs_pos', 'pos_embed', 'up.input', 'up.hf_eps1e-6.logits', 1e-6],
  ['v1_abs_pos', 'pos_embed', 'down.input', 'down.hf_eps1e-6.logits', 1e-6],
  ['v1_abs_pos', 'pos_embed', 'nonsquare.input', 'nonsquare.hf_eps1e-6.logits', 1e-6],
  ['v1_abs_pos', 'pos_embed', 'up.input', 'up.unilm.logits', 1e-6],
  ['v1_abs_pos', 'pos_embed', 'down.input', 'down.unilm.logits', 1e-6],
] as const)('%s at the size of %s: %s, %s', (name, file, input, logits, eps) => {
  it.each([17, 18, 23])('gives transformers’ logits, opset %i', async (opset) => {
    const golden = await resizeGolden(file);
    const path = await withModel(name, (model) => write(model, { dynamic: 'transformers', opset }), eps);
    const { values, shape } = golden.get(input)!;
    const found = (await run(path, values, shape)).get('logits')!;
    expect(largest(difference(found.data, golden.get(logits)!.values))).toBeLessThan(1e-5);
  });
});

describe.each(GOLDEN_CASES)('%s for images of any size', (name) => {
  it('is the ordinary graph at its own size', async () => {
    await withModel(name, async (model) => {
      const [fixed, any] = [await write(model, {}), await write(model, { dynamic: 'transformers' })];
      const { channels, imageSize } = model.config;
      const pixels = sampleInput(model.config, 0, 0);
      const shape = [1, channels, ...imageSize];
      const [a, b] = [await run(fixed, pixels, shape), await run(any, pixels, shape)];
      expect(largest(difference(a.get('logits')!.data, b.get('logits')!.data))).toBeLessThan(2e-6);
    });
  });

  it.each(DYNAMIC_METHODS)('computes what the weights resized outside do: %s', async (method) => {
    await withModel(name, async (model) => {
      const { window, patchSize } = model.config;
      if (method === 'timm-simple' && window[0] !== window[1]) return;
      const path = await write(model, { dynamic: method });
      const sizes = [
        ...otherSizes(model.config),
        [patchSize, patchSize],
        [3 * patchSize, 2 * patchSize],
      ] as const;
      for (const imageSize of sizes) {
        const resized = resizeModel(model, { imageSize, method });
        const pixels = sampleInput(resized.config, 1, 0);
        const found = (await run(path, pixels, [1, model.config.channels, ...imageSize])).get('logits')!;
        const { logits } = await runOracle(resized, pixels, 1);
        expect([imageSize, largest(difference(found.data, logits)) < 2e-5]).toEqual([imageSize, true]);
      }
    });
  });
});

describe('features', () => {
  it.each([
    ['v1_abs_and_rel', [17, 41]],
    ['v1_cls_pool', [40, 24]],
    ['v1_nonsquare', [40, 24]],
  ] as const)('have the shapes and values of the image: %s at %j', async (name, imageSize) => {
    await withModel(name, async (model) => {
      const asked: TaskOptions = {
        task: 'features',
        outTypes: ['raw', 'featmap', 'cls_token'],
        outIndices: [0, -1],
      };
      const task = resolveTask(model.config, asked);
      const path = await write(model, { dynamic: 'transformers', task, batch: 2 });
      const resized = resizeModel(model, { imageSize, method: 'transformers' });
      const one = sampleInput(resized.config, 1, 0);
      const pixels = Float32Array.from([...one, ...sampleInput(resized.config, 1, 1)]);
      const found = await run(path, pixels, [2, model.config.channels, ...imageSize]);
      const expected = await expectOutputs(resized, task, { pixels, batch: 2 });
      expect([...found.keys()]).toEqual(expected.map((output) => output.name));
      for (const { name: output, shape, values } of expected) {
        const { dims, data } = found.get(output)!;
        expect(dims).toEqual([2, ...shape]);
        expect(largest(difference(data, values))).toBeLessThan(2e-5);
      }
    });
  });

  it('take positions without a class token: mm_no_cls_token', async () => {
    const path = goldenPath('mm_no_cls_token', 'mmpretrain.safetensors');
    const model = await loadModel(path, { hints: { heads: 4, imageSize: [32, 32] } });
    try {
      const task = resolveTask(model.config);
      const out = await write(model, { dynamic: 'transformers', task });
      const imageSize = [24, 44] as const;
      const resized = resizeModel(model, { imageSize, method: 'transformers' });
      const pixels = sampleInput(resized.config, 1, 0);
      const found = await run(out, pixels, [1, 3, ...imageSize]);
      const [{ name, values }] = await expectOutputs(resized, task, { pixels, batch: 1 });
      expect(found.get(name)!.dims).toEqual([1, 66, 32]);
      expect(largest(difference(found.get(name)!.data, values))).toBeLessThan(2e-5);
    } finally {
      await model.close();
    }
  });
});

describe('weights of mmpretrain', () => {
  it.each([17, 23])('pad an image as upstream does, opset %i', async (opset) => {
    const io = await openCheckpoint(goldenPath('mm_corner_pad', 'io.safetensors'));
    const model = await loadModel(goldenPath('mm_corner_pad', 'mmpretrain.safetensors'));
    try {
      // The file's own size is 32×32; upstream was run on 30×31.
      expect(model.config.imageSize).toEqual([32, 32]);
      const task = resolveTask(model.config, { outTypes: ['avg_featmap', 'featmap'] });
      const path = await write(model, { dynamic: 'transformers', task, opset });
      const input = io.tensors.get('input')!;
      const found = await run(path, await readFloat32(input), input.shape);
      expect(input.shape.slice(2)).toEqual([30, 31]);
      for (const [output, name] of [
        ['pooler_output', 'avg_featmap.0'],
        ['featmap', 'featmap.0'],
      ]) {
        const expected = await readFloat64(io.tensors.get(name)!);
        expect(largest(difference(found.get(output)!.data, expected))).toBeLessThan(1e-5);
      }
    } finally {
      await Promise.all([io.close(), model.close()]);
    }
  });
});

describe('what cannot be', () => {
  const CASES: readonly [string, string, string, TaskOptions, DynamicMethod, string][] = [
    ['pre-training', 'mim_v1', 'official', {}, 'transformers', 'not for --task masked-image'],
    [
      'a window that is not square',
      'v1_nonsquare',
      'official',
      {},
      'timm-simple',
      'takes every source for square',
    ],
  ];
  it.each(CASES)('is refused: %s', async (_, folderName, file, asked, dynamic, message) => {
    const model = await loadModel(goldenPath(folderName, `${file}.safetensors`));
    try {
      const task = resolveTask(model.config, asked);
      await expect(write(model, { dynamic, task })).rejects.toThrow(message);
    } finally {
      await model.close();
    }
  });
});
