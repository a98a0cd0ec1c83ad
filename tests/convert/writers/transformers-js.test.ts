/** The folder's small files, as the JavaScript client reads them (`scripts/crosscheck/load_weights.py` asks Python's). */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AutoConfig, AutoImageProcessor, RawImage, env } from '@huggingface/transformers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { configJson, preprocessorJson } from '../../../src/convert/writers/transformers-folder.js';
import { decodeImage, officialPreprocessing, preprocess } from '../../../src/image.js';
import { goldenConfig } from '../goldens.js';

const picture = fileURLToPath(new URL('../../../fixtures/demo/heart.jpg', import.meta.url));
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'convert-beit-js-'));
  env.allowRemoteModels = false;
});
afterAll(() => rm(folder, { recursive: true }));

describe('transformers.js', () => {
  it.each([
    ['v1, below 384: 224/256 of the picture', 1, 32],
    ['v2: ImageNet constants', 2, 64],
    ['from 384 on: all of it', 1, 384],
  ] as const)('%s', async (_, version, size) => {
    const preprocessing = officialPreprocessing(version, [size, size], 'test');
    await writeFile(join(folder, 'preprocessor_config.json'), preprocessorJson(preprocessing));
    await writeFile(join(folder, 'config.json'), configJson({ config: goldenConfig('v1_cls') }));
    const processor = await AutoImageProcessor.from_pretrained(folder);
    const { pixel_values: pixels } = (await processor(await RawImage.read(picture))) as {
      pixel_values: { dims: number[]; data: Float32Array };
    };
    expect(pixels.dims).toEqual([1, 3, size, size]);
    const image = await decodeImage(picture);
    const levels = (other: typeof preprocessing): number => {
      const ours = preprocess(image, other);
      const plane = size * size;
      const off = ours.map(
        (value, i) => Math.abs(value - pixels.data[i]) * other.std[Math.floor(i / plane)] * 255,
      );
      return off.reduce((sum, level) => sum + level, 0) / off.length;
    };
    // Its resize does not average when it shrinks, Pillow's does; but it is this crop and not a squashed picture.
    expect(levels(preprocessing)).toBeLessThan(7);
    expect(levels(preprocessing)).toBeLessThan(levels({ ...preprocessing, resize: [size, size] }) / 2);
  });

  it('knows the model', async () => {
    await writeFile(join(folder, 'config.json'), configJson({ config: goldenConfig('v1_cls') }));
    const config = await AutoConfig.from_pretrained(folder);
    expect(config.model_type).toBe('beit');
    expect(JSON.parse(await readFile(join(folder, 'config.json'), 'utf8'))).toMatchObject({ num_labels: 10 });
  });
});
