/** The arithmetic of the page in docs/examples/browser, held against Pillow's and torchvision's own results. */
import { describe, expect, it } from 'vitest';
import type { RgbImage } from '../../src/image.js';
import { preprocessorJson } from '../../src/convert/writers/transformers-folder.js';
import { generate, manifest, sha256 } from './goldens.js';

interface Example {
  readSteps(config: unknown): unknown;
  preprocess(picture: RgbImage, steps: unknown): Float32Array;
}
const page = new URL('../../docs/examples/browser/picture.js', import.meta.url);
const { readSteps, preprocess } = (await import(page.href)) as Example;

/** As a canvas gives it. */
function rgba({ width, height, data }: RgbImage): RgbImage {
  const out = new Uint8Array(width * height * 4).fill(255);
  for (let i = 0; i < width * height; i++) out.set(data.subarray(3 * i, 3 * i + 3), 4 * i);
  return { width, height, data: out };
}

const cases = manifest.preprocess.map((row) => ({
  ...row,
  config: JSON.parse(preprocessorJson({ ...row.preprocessing, origin: 'golden' })) as Record<string, unknown>,
}));
/** What folders never ask for: grey, and crops beyond the edge. */
const beyond = ({ preprocessing: { resize, crop, mean } }: (typeof cases)[number]): boolean =>
  mean.length !== 3 || crop.some((side, i) => side > (typeof resize === 'number' ? resize : resize[i]));

describe('the page makes the floats of torchvision', () => {
  it.each(cases.filter((row) => !beyond(row)))('$name', ({ source, config, sha256: expected, first }) => {
    const pixels = preprocess(rgba(generate(source)), readSteps(config));
    expect([...pixels.subarray(0, first.length)]).toEqual(first);
    expect(sha256(pixels)).toBe(expected);
  });
});

describe('the page refuses', () => {
  const [{ config }] = cases.filter((row) => !beyond(row));
  it.each<readonly [string, Record<string, unknown>]>([
    ...cases.filter(beyond).map((row) => [row.name, row.config] as const),
    ['another filter', { ...config, resample: 0 }],
    ['values that are not divided by 255', { ...config, rescale_factor: 1 }],
    ['no crop', { ...config, crop_size: undefined }],
  ])('%s', (_, asked) => {
    expect(() => readSteps(asked)).toThrow(
      'asks for something else than resize, centre crop and normalising',
    );
  });
});
