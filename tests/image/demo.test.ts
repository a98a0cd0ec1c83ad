import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { decodeImage, officialPreprocessing, preprocess } from '../../src/image.js';
import { fixture, sha256 } from './goldens.js';

interface Expected {
  readonly checkpoint_sha256: string;
  readonly held_out_accuracy: number;
  readonly labels: readonly string[];
  readonly samples: readonly {
    readonly file: string;
    readonly top1: string;
    readonly pixels_sha256: string;
  }[];
}

const read = async <T>(file: string): Promise<T> => JSON.parse(await readFile(fixture(file), 'utf8')) as T;
const expected = await read<Expected>('demo/expected.json');

describe('the embedded demo model', () => {
  it('is the checkpoint that expected.json speaks of', async () => {
    expect(sha256(await readFile(fixture('demo/beit_demo_patch8_64.safetensors')))).toBe(
      expected.checkpoint_sha256,
    );
    const config = await read<{ id2label: Record<string, string> }>('demo/config.json');
    expect(Object.values(config.id2label)).toEqual(expected.labels);
    expect(expected.held_out_accuracy).toBeGreaterThanOrEqual(0.95);
  });

  it.each(expected.samples)('$file becomes the pixels that PyTorch saw', async ({ file, pixels_sha256 }) => {
    const picture = await decodeImage(fixture(`demo/${file}`));
    expect(Math.min(picture.width, picture.height), 'resize and crop have work to do').toBeGreaterThanOrEqual(
      256,
    );
    expect(sha256(preprocess(picture, officialPreprocessing(1, [64, 64], 'demo')))).toBe(pixels_sha256);
  });
});
