import { describe, expect, it } from 'vitest';
import { ShapeError } from '../../src/errors.js';
import { officialPreprocessing, preprocess } from '../../src/image.js';
import { generate, manifest, sha256 } from './goldens.js';

describe('preprocess gives the floats of torchvision', () => {
  it.each(manifest.preprocess)('$name', ({ source, preprocessing, sha256: expected, first }) => {
    const pixels = preprocess(generate(source), { ...preprocessing, origin: 'golden' });
    expect(pixels.length).toBe(preprocessing.mean.length * preprocessing.crop[0] * preprocessing.crop[1]);
    expect([...pixels.subarray(0, first.length)]).toEqual(first);
    expect(sha256(pixels)).toBe(expected);
  });

  it.each([
    { name: 'four channels', mean: [0, 0, 0, 0], std: [1, 1, 1, 1], message: 'mean has 4 and std 4 numbers' },
    { name: 'std of another length', mean: [0, 0, 0], std: [1], message: 'mean has 3 and std 1 numbers' },
  ])('$name: an error', ({ mean, std, message }) => {
    const picture = { width: 1, height: 1, data: new Uint8Array(3) };
    const run = () =>
      preprocess(picture, { resize: 1, crop: [1, 1], interpolation: 'bicubic', mean, std, origin: '' });
    expect(run).toThrow(ShapeError);
    expect(run).toThrow(message);
  });
});

describe('officialPreprocessing', () => {
  const half = [0.5, 0.5, 0.5];
  const mean = [0.485, 0.456, 0.406];
  const std = [0.229, 0.224, 0.225];
  it.each([
    { name: 'v1 at 224', version: 1, size: [224, 224], resize: 256, mean: half, std: half },
    { name: 'v2 at 224', version: 2, size: [224, 224], resize: 256, mean, std },
    { name: 'v2 at 192', version: 2, size: [192, 192], resize: 219, mean, std },
    { name: 'v1 at 64', version: 1, size: [64, 64], resize: 73, mean: half, std: half },
    { name: 'v1 at 383', version: 1, size: [383, 383], resize: 437, mean: half, std: half },
    { name: 'v1 at 384', version: 1, size: [384, 384], resize: 384, mean: half, std: half },
    { name: 'v1 at 512', version: 1, size: [512, 512], resize: 512, mean: half, std: half },
    { name: 'v1, not square', version: 1, size: [32, 40], resize: [32, 40], mean: half, std: half },
    { name: 'v1, grey', version: 1, size: [32, 32], resize: 36, channels: 1, mean: [0.5], std: [0.5] },
    { name: 'v2, grey', version: 2, size: [32, 32], resize: 36, channels: 1, mean: [0.449], std: [0.226] },
  ] as const)('$name', (row) => {
    const channels = 'channels' in row ? row.channels : undefined;
    const found = officialPreprocessing(row.version, row.size, 'why', channels);
    expect(found).toMatchObject({
      resize: row.resize,
      crop: row.size,
      interpolation: 'bicubic',
      origin: 'why',
    });
    expect(found.mean.length).toBe(row.mean.length);
    found.mean.forEach((value, c) => expect(value).toBeCloseTo(row.mean[c], 12));
    expect(found.std.length).toBe(row.std.length);
    found.std.forEach((value, c) => expect(value).toBeCloseTo(row.std[c], 12));
  });
});
