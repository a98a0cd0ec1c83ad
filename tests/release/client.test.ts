/** The folder in the hands of the client it is made for: transformers.js, in Node, without network. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { RawImage, env, pipeline } from '@huggingface/transformers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadModel } from '../../src/convert/load.js';
import { resizeModel } from '../../src/convert/resize/model.js';
import type { BeitModel } from '../../src/model.js';
import { convert } from '../../src/pipeline.js';
import type { PrecisionName } from '../../src/precision.js';
import { modelPath } from '../../src/release/plan.js';
import { convertFolder } from '../../src/release/one.js';
import { resolveTask } from '../../src/task.js';
import { expectOutputs } from '../../src/verify/expected.js';
import { runOracle } from '../../src/verify/oracle.js';
import { runOnnx } from '../../src/verify/runtime.js';
import { GOLDEN_CASES, GOLDEN_HINTS, goldenConfig, goldenPath } from '../convert/goldens.js';

const picture = fileURLToPath(new URL('../../fixtures/demo/heart.jpg', import.meta.url));
const DEMO = fileURLToPath(new URL('../../fixtures/demo/beit_demo_patch8_64.safetensors', import.meta.url));
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'convert-beit-client-'));
  env.allowRemoteModels = false;
  env.localModelPath = '/';
});
afterAll(() => rm(folder, { recursive: true }));

interface Pixels {
  readonly dims: readonly number[];
  readonly data: Float32Array;
}
interface Client {
  (image: RawImage, options?: object): Promise<unknown>;
  readonly processor: (image: RawImage) => Promise<{ pixel_values: Pixels }>;
  dispose(): Promise<void>;
}

async function open(
  task: 'image-classification' | 'image-feature-extraction',
  path: string,
  dtype?: PrecisionName,
): Promise<Client> {
  return (await pipeline(task, path, { dtype })) as unknown as Client;
}

function softmax(logits: ArrayLike<number>): number[] {
  const values = Array.from(logits);
  const most = Math.max(...values);
  const powers = values.map((value) => Math.exp(value - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

async function hints(name: string): Promise<string | undefined> {
  const { imageSize, heads } = GOLDEN_HINTS.get(name) ?? {};
  const size = name === 'v1_nonsquare' ? [24, 40] : imageSize;
  if (!size && heads === undefined) return undefined;
  const path = join(folder, `${name}.json`);
  await writeFile(path, JSON.stringify({ image_size: size, num_attention_heads: heads }));
  return path;
}

/** A picture of one channel has no processor there: its resize expects three. */
const COLOUR = GOLDEN_CASES.filter((name) => goldenConfig(name).channels === 3);

describe('transformers.js loads every golden', () => {
  it.each(COLOUR)('%s', async (name) => {
    const source = goldenPath(name, 'official.safetensors');
    const config = await hints(name);
    const out = join(folder, name);
    const labels = join(folder, `${name}.txt`);
    const { classes } = goldenConfig(name);
    await writeFile(labels, Array.from({ length: classes }, (_, i) => `thing ${i}\n`).join(''));
    await convertFolder({ name, source, config, labels }, { out });
    const classify = await open('image-classification', out);
    const image = await RawImage.read(picture);
    const { pixel_values: pixels } = await classify.processor(image);
    const scores = (await classify(image, { top_k: classes })) as { label: string; score: number }[];
    const model = await loadModel(source, { configPath: config });
    try {
      const { logits } = await runOracle(model, pixels.data, 1);
      const expected = softmax(logits);
      expect(scores).toHaveLength(classes);
      for (const { label, score } of scores) {
        expect(score).toBeCloseTo(expected[Number(label.split(' ')[1])], 5);
      }
    } finally {
      await model.close();
      await classify.dispose();
    }
  });
});

describe('every precision', () => {
  const PRECISIONS: readonly PrecisionName[] = ['fp32', 'fp16', 'q8', 'int8', 'uint8', 'q4', 'q4f16'];
  beforeAll(async () => {
    await convertFolder(
      { name: 'demo', source: DEMO, dtype: [...PRECISIONS], license: 'apache-2.0' },
      { out: join(folder, 'demo'), extra: { acceptQuality: true } },
    );
  });

  it.each(PRECISIONS)('%s: the same scores as our run of the same file', async (dtype) => {
    const classify = await open('image-classification', join(folder, 'demo'), dtype);
    const image = await RawImage.read(picture);
    const { pixel_values: pixels } = await classify.processor(image);
    const scores = (await classify(image, { top_k: 8 })) as { label: string; score: number }[];
    const { outputs } = await runOnnx(join(folder, 'demo', modelPath(dtype)), {
      inputs: pixels.data,
      shape: pixels.dims.slice(1),
      fetch: ['logits'],
    });
    const expected = softmax(outputs.get('logits')!.data).sort((a, b) => b - a);
    expect(scores[0].label).toBe('heart');
    scores.forEach(({ score }, i) => {
      expect(score).toBeCloseTo(expected[i], 5);
    });
    await classify.dispose();
  });

  it('takes fp32 where nobody says a precision', async () => {
    const [unsaid, said] = await Promise.all(
      [undefined, 'fp32' as const].map(async (dtype) => {
        const classify = await open('image-classification', join(folder, 'demo'), dtype);
        return await classify(await RawImage.read(picture), { top_k: 3 });
      }),
    );
    expect(unsaid).toEqual(said);
  });

  it.each(PRECISIONS)('%s: image-feature-extraction', async (dtype) => {
    const extract = await open('image-feature-extraction', join(folder, 'demo'), dtype);
    const features = (await extract(await RawImage.read(picture))) as { dims: number[] };
    expect(features.dims).toEqual([1, 8]);
    await extract.dispose();
  });
});

/** What `--dynamic-size` writes, in a folder whose preprocessor_config.json asks for another size than the model's. */
describe('images of any size', () => {
  const SOURCE = goldenPath('v1_abs_and_rel', 'official.safetensors');
  const SIZES = [
    [32, 32],
    [48, 48],
    [24, 52],
  ] as const;

  async function anySize(
    task: 'classify' | 'features',
    imageSize: readonly [number, number],
  ): Promise<string> {
    const out = join(folder, `any-${task}-${imageSize.join('x')}`);
    await convertFolder({ name: 'any', source: SOURCE, task }, { out, verify: false });
    await convert({ src: SOURCE, out: join(out, modelPath('fp32')), task, dynamicSize: true, verify: false });
    const [height, width] = imageSize;
    const path = join(out, 'preprocessor_config.json');
    const config = JSON.parse(await readFile(path, 'utf8')) as object;
    await writeFile(
      path,
      JSON.stringify({ ...config, size: { height, width }, crop_size: { height, width } }),
    );
    return out;
  }

  async function resized<T>(
    imageSize: readonly [number, number],
    use: (model: BeitModel) => Promise<T>,
  ): Promise<T> {
    const model = await loadModel(SOURCE);
    try {
      return await use(resizeModel(model, { imageSize, method: 'transformers' }));
    } finally {
      await model.close();
    }
  }

  it.each(SIZES)('image-classification at %i×%i', async (...imageSize) => {
    const classify = await open('image-classification', await anySize('classify', imageSize));
    const image = await RawImage.read(picture);
    const { pixel_values: pixels } = await classify.processor(image);
    expect(pixels.dims).toEqual([1, 3, ...imageSize]);
    const scores = (await classify(image, { top_k: 10 })) as { label: string; score: number }[];
    await classify.dispose();
    const { logits } = await resized(imageSize, (model) => runOracle(model, pixels.data, 1));
    const expected = softmax(logits).sort((a, b) => b - a);
    expect(scores).toHaveLength(10);
    scores.forEach(({ score }, i) => {
      expect(score).toBeCloseTo(expected[i], 5);
    });
  });

  it.each(SIZES)('image-feature-extraction at %i×%i', async (...imageSize) => {
    const extract = await open('image-feature-extraction', await anySize('features', imageSize));
    const image = await RawImage.read(picture);
    const { pixel_values: pixels } = await extract.processor(image);
    const features = (await extract(image)) as Pixels;
    await extract.dispose();
    const [tokens] = await resized(imageSize, (model) =>
      expectOutputs(model, resolveTask(model.config, { task: 'features' }), {
        pixels: pixels.data,
        batch: 1,
      }),
    );
    expect(features.dims).toEqual([1, ...tokens.shape]);
    const error = features.data.map((value, i) => value - tokens.values[i]);
    expect(Math.max(...error.map(Math.abs))).toBeLessThan(2e-5);
  });
});

describe('what transformers.js does not know is not said to be for it', () => {
  it.each([
    ['segmentation', 'hf', 'image-segmentation', /Unsupported model type "beit"/],
    ['mim_v1', 'official', 'image-feature-extraction', /Missing the following inputs: bool_masked_pos/],
  ] as const)('%s', async (golden, file, task, message) => {
    const out = join(folder, golden);
    const config = join(folder, `${golden}.json`);
    await writeFile(config, golden === 'segmentation' ? '{"out_indices": [2, 3, 4, 5]}' : '{}');
    const source = goldenPath(golden, `${file}.safetensors`);
    await convertFolder({ name: golden, source, config }, { out, verify: false });
    expect(await readFile(join(out, 'README.md'), 'utf8')).toMatch(/^library_name: onnx$/m);
    const use = async (): Promise<unknown> => {
      const client = (await pipeline(task, out)) as unknown as Client;
      return await client(await RawImage.read(picture));
    };
    await expect(use()).rejects.toThrow(message);
  });
});
