import { describe, expect, it } from 'vitest';
import { InputError, UsageError } from '../../src/errors.js';
import { preprocess, type Preprocessing } from '../../src/image.js';
import {
  parsePreprocessing,
  parseRoute,
  readPreprocessorConfig,
  routePreprocessing,
} from '../../src/preprocessing-routes.js';
import { generate, manifest } from './goldens.js';

const half = [0.5, 0.5, 0.5];
const mean = [0.485, 0.456, 0.406];
const std = [0.229, 0.224, 0.225];
const at = (side: number): [number, number] => [side, side];

describe('the transform of a route', () => {
  it.each([
    { name: 'official v1', route: 'official', version: 1, side: 224, resize: 256, mean: half, std: half },
    {
      name: 'official v1, 512',
      route: 'official',
      version: 1,
      side: 512,
      resize: 512,
      mean: half,
      std: half,
    },
    {
      name: 'timm v1: crop_pct 0.9',
      route: 'timm',
      version: 1,
      side: 224,
      resize: 248,
      mean: half,
      std: half,
    },
    {
      name: 'timm v1, 384: crop_pct 1',
      route: 'timm',
      version: 1,
      side: 384,
      resize: 384,
      mean: half,
      std: half,
    },
    {
      name: 'timm v2 base: 0.9',
      route: 'timm',
      version: 2,
      side: 224,
      hiddenSize: 768,
      resize: 248,
      mean,
      std,
    },
    {
      name: 'timm v2 large: 0.95',
      route: 'timm',
      version: 2,
      side: 224,
      hiddenSize: 1024,
      resize: 235,
      mean,
      std,
    },
    {
      name: 'timm v1 large: 0.9',
      route: 'timm',
      version: 1,
      side: 224,
      hiddenSize: 1024,
      resize: 248,
      mean: half,
      std: half,
    },
    { name: 'mmpretrain v1', route: 'mmpretrain', version: 1, side: 224, resize: 256, mean: half, std: half },
    { name: 'mmpretrain v2', route: 'mmpretrain', version: 2, side: 224, resize: 256, mean, std },
    {
      name: 'transformers, also v2',
      route: 'transformers',
      version: 2,
      side: 224,
      resize: at(224),
      mean: half,
      std: half,
    },
  ] as const)('$name', (row) => {
    const found = routePreprocessing(row.route, {
      version: row.version,
      imageSize: at(row.side),
      hiddenSize: 'hiddenSize' in row ? row.hiddenSize : 768,
    });
    expect(found).toMatchObject({
      resize: row.resize,
      crop: at(row.side),
      interpolation: row.route === 'transformers' ? 'bilinear' : 'bicubic',
      mean: row.mean,
      std: row.std,
    });
  });

  it('keeps a model that is not square whole, by every route', () => {
    for (const route of ['official', 'timm', 'mmpretrain', 'transformers'] as const) {
      expect(routePreprocessing(route, { version: 1, imageSize: [32, 40] }).resize).toEqual([32, 40]);
    }
  });

  it('transformers: the floats of its own processor, to the last bit but one', () => {
    for (const { source, base64 } of manifest.transformers) {
      const pixels = preprocess(
        generate(source),
        routePreprocessing('transformers', { version: 1, imageSize: [32, 32] }),
      );
      const bytes = new Uint8Array(Buffer.from(base64, 'base64'));
      const expected = new Float32Array(bytes.buffer);
      expect(pixels.length).toBe(expected.length);
      // It multiplies by 1/255 where torchvision divides by 255: the same pixel, the next float at most.
      const worst = pixels.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i])), 0);
      expect(worst).toBeLessThanOrEqual(2 ** -23);
    }
  });

  it('another name is a usage error', () => {
    expect(() => parseRoute('keras')).toThrow(UsageError);
  });
});

describe('preprocessor_config.json', () => {
  const old = {
    crop_size: 224,
    do_center_crop: false,
    do_normalize: true,
    do_resize: true,
    feature_extractor_type: 'BeitFeatureExtractor',
    image_mean: half,
    image_std: half,
    resample: 2,
    size: 224,
  };
  it.each<[string, object, Partial<Preprocessing>]>([
    [
      'of the first releases: size is a number',
      old,
      { resize: at(224), crop: at(224), interpolation: 'bilinear' },
    ],
    [
      'with sides and a crop',
      {
        ...old,
        size: { height: 256, width: 256 },
        do_center_crop: true,
        crop_size: { height: 224, width: 224 },
        resample: 3,
      },
      { resize: at(256), crop: at(224), interpolation: 'bicubic' },
    ],
    [
      'with a short side and a crop',
      {
        ...old,
        size: { shortest_edge: 256 },
        do_center_crop: true,
        resample: 1,
        image_mean: mean,
        image_std: std,
      },
      { resize: 256, crop: at(224), interpolation: 'lanczos', mean, std },
    ],
    ['that does not normalise', { ...old, do_normalize: false }, { mean: [0, 0, 0], std: [1, 1, 1] }],
  ])('%s', (_, json, expected) => {
    expect(readPreprocessorConfig(json, at(224), 'preprocessor_config.json')).toMatchObject(expected);
  });

  it.each<[string, unknown, string]>([
    ['an array', [], 'must hold one JSON object'],
    [
      'another size than the model’s',
      { ...old, size: 384 },
      'makes pictures of 384×384 pixels; the model takes 224×224',
    ],
    ['an unknown filter', { ...old, resample: 0 }, 'resample is 0; it must be'],
    ['another scale', { ...old, rescale_factor: 1 / 127.5 }, 'rescale_factor'],
    ['no resizing', { ...old, do_resize: false }, 'do_resize is false'],
    ['a short side alone', { ...old, size: { shortest_edge: 224 } }, 'a short side alone'],
    ['no numbers', { ...old, image_mean: 'half' }, 'image_mean is "half"'],
    ['a std of 0', { ...old, image_std: [0, 1, 1] }, 'image_std'],
  ])('%s: an error', (_, json, message) => {
    const read = () => readPreprocessorConfig(json, at(224), 'preprocessor_config.json');
    expect(read).toThrow(InputError);
    expect(read).toThrow(message);
  });
});

describe('the metadata of a model', () => {
  const written = routePreprocessing('official', { version: 2, imageSize: at(64) });
  it('comes back as it was written', () => {
    expect(parsePreprocessing(JSON.stringify(written), 'm.onnx')).toEqual(written);
  });
  it.each([
    ['no JSON', '{'],
    ['a field missing', JSON.stringify({ ...written, crop: undefined })],
    ['a filter nobody knows', JSON.stringify({ ...written, interpolation: 'nearest' })],
    ['std and mean of unlike length', JSON.stringify({ ...written, std: [1] })],
  ])('%s: an error', (_, text) => {
    expect(() => parsePreprocessing(text, 'm.onnx')).toThrow('the preprocessing in the metadata of m.onnx');
  });
});
