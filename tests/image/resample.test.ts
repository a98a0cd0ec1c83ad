import { describe, expect, it } from 'vitest';
import { ShapeError } from '../../src/errors.js';
import { decodeImage, resizeImage, type RgbImage } from '../../src/image.js';
import { resizeRegion } from '../../src/resample.js';
import { fixture, generate, manifest, sha256 } from './goldens.js';

describe('resizeImage gives the bytes of Pillow', () => {
  it.each(manifest.resize)('$name, $filter', ({ source, size, filter, sha256: expected, base64 }) => {
    const picture = generate(source);
    expect(sha256(picture.data), 'the generated picture').toBe(source.sha256);
    const resized = resizeImage(picture, size, filter);
    expect([resized.height, resized.width]).toEqual(size);
    if (base64 !== undefined) expect([...resized.data]).toEqual([...Buffer.from(base64, 'base64')]);
    expect(sha256(resized.data)).toBe(expected);
  });
});

describe('files of every kind, decoded and resized, are those of Pillow', () => {
  it.each(manifest.file_resize)(
    '$file to $size, $filter',
    async ({ file, size, filter, sha256: expected }) => {
      const resized = resizeImage(await decodeImage(fixture(`pillow/${file}`)), size, filter);
      expect(sha256(resized.data)).toBe(expected);
    },
  );
});

describe('resizeRegion is the same part of the whole', () => {
  const rows = [
    { name: 'a corner, down', size: [31, 29], region: { top: 0, left: 0, height: 5, width: 7 } },
    {
      name: 'the opposite corner, up',
      size: [130, 170],
      region: { top: 119, left: 150, height: 11, width: 20 },
    },
    { name: 'one pixel inside', size: [64, 64], region: { top: 31, left: 40, height: 1, width: 1 } },
    { name: 'one row of many', size: [200, 16], region: { top: 100, left: 0, height: 1, width: 16 } },
  ] as const;
  it.each(rows)('$name', ({ size, region }) => {
    const picture = generate(manifest.resize.find(({ name }) => name === 'overshoot clipped, down')!.source);
    const whole = resizeImage(picture, size, 'bicubic');
    const part = resizeRegion(picture, size, 'bicubic', region);
    const expected: number[] = [];
    for (let y = region.top; y < region.top + region.height; y++) {
      const at = (y * whole.width + region.left) * 3;
      expected.push(...whole.data.subarray(at, at + region.width * 3));
    }
    expect([...part.data]).toEqual(expected);
  });
});

describe('what does not fit', () => {
  const picture: RgbImage = { width: 2, height: 2, data: new Uint8Array(12) };
  const rows = [
    {
      name: 'no height',
      image: picture,
      size: [0, 4],
      message: '4×0 pixels at (0, 0) of a picture resized to 4×0: not inside it',
    },
    {
      name: 'half a pixel',
      image: picture,
      size: [4, 2.5],
      message: '2.5×4 pixels at (0, 0) of a picture resized to 2.5×4: not inside it',
    },
    {
      name: 'an empty picture',
      image: { ...picture, width: 0 },
      size: [4, 4],
      message: 'a picture of 0×2 pixels; both sides need to be 1 or more',
    },
    {
      name: 'bytes missing',
      image: { ...picture, width: 3 },
      size: [4, 4],
      message: 'a picture of 3×2 pixels has 12 bytes; it needs 3 a pixel',
    },
  ] as const;
  it.each(rows)('$name', ({ image, size, message }) => {
    expect(() => resizeImage(image, size, 'bicubic')).toThrow(new ShapeError(message));
  });
});
