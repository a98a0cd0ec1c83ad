/** Which weights can be linked, and what is said about the others. */
import { copyFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadModel } from '../../src/convert/load.js';
import { resizeModel } from '../../src/convert/resize/model.js';
import { UsageError } from '../../src/errors.js';
import { exportFiles } from '../../src/export/index.js';
import { fingerprint } from '../../src/fingerprint.js';
import type { BeitModel } from '../../src/model.js';
import { memorySource } from '../../src/bytes.js';
import { readBytes, storedTensor, type Tensor } from '../../src/tensor.js';
import { openOnnxFile } from '../../src/verify/onnx-file.js';
import { goldenPath } from '../convert/goldens.js';

const SOURCE = goldenPath('v1_patch16', 'official.safetensors');
const PATCH = 'backbone.patch_embed.projection.weight';
const SMALL = 'backbone.layers.0.ln1.bias';

let folder: string;
let model: BeitModel;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'convert-beit-link-'));
  const source = join(folder, 'weights.safetensors');
  await copyFile(SOURCE, source);
  model = await loadModel(source);
});
afterAll(async () => {
  await model.close();
  await rm(folder, { recursive: true });
});

/** The model with one tensor replaced, exported as a link beside the source. */
async function linked(name: string, change: (tensor: Tensor) => Tensor): Promise<string> {
  const tensors = new Map(model.tensors);
  tensors.set(name, change(tensors.get(name)!));
  const path = join(folder, `${Math.random()}.onnx`);
  await exportFiles({ ...model, tensors }, [{ path, precision: 'fp32' }], {
    toolVersion: '0.0.0-test',
    link: { folder, digest: false },
  });
  return path;
}

const unstored = ({ dtype, shape, chunks }: Tensor): Tensor => ({ dtype, shape, chunks });

describe('linkWeights', () => {
  it.each<[string, (tensor: Tensor) => Tensor, RegExp]>([
    [
      'made anew (resized, joined, inflated)',
      unstored,
      /patch_embed\.projection\.weight \(f32\[32, 3, 16, 16\]\) does not lie in the source as the graph needs it/,
    ],
    [
      'of another dtype',
      ({ shape, stored, chunks }) => ({
        dtype: 'F16',
        shape,
        chunks,
        stored: { ...stored!, end: (stored!.start + stored!.end) / 2 },
      }),
      /\(f16\[32, 3, 16, 16\]\) would have to become float32/,
    ],
    [
      'off the alignment',
      ({ shape, stored }) =>
        storedTensor('F32', shape, { ...stored!, start: stored!.start + 2, end: stored!.end + 2 }),
      /begins at byte \d+, where float32 cannot be mapped/,
    ],
    [
      'in no local file',
      ({ shape, stored }) => {
        const source = memorySource('remote', new Uint8Array(stored!.end - stored!.start));
        return storedTensor('F32', shape, { source, start: 0, end: source.size });
      },
      /remote is no local file/,
    ],
  ])('refuses a large tensor %s', async (_, change, message) => {
    await expect(linked(PATCH, change)).rejects.toThrow(message);
  });

  it('refuses a small one as well', async () => {
    await expect(linked(SMALL, unstored)).rejects.toThrow(
      /ln1\.bias \(f32\[32\]\) does not lie in the source as the graph needs it/,
    );
  });

  it('takes into the model file what is no weight, and weights of less than 1 kB as they are', async () => {
    const file = await openOnnxFile(await linked(PATCH, (tensor) => tensor));
    const inside = [...file.initializers].filter(([, each]) => each.file === undefined);
    expect(inside.length).toBeGreaterThan(5);
    for (const [name, { stored }] of inside) {
      const weight = model.tensors.get(name);
      if (!weight) expect(name).toMatch(/^(const\.(i64|f32)\.|relative_position_index$)/);
      else expect(await stored.source.read(stored.start, stored.end)).toEqual(await readBytes(weight));
      if (weight) expect(stored.end - stored.start).toBeLessThan(1024);
    }
    expect(file.initializers.get(PATCH)!.stored.start).toBe(model.tensors.get(PATCH)!.stored!.start);
    await file.close();
  });

  it('refuses a resized model, however small its tables, and names what works', async () => {
    const resized = resizeModel(model, { imageSize: [96, 96] });
    const written = exportFiles(resized, [{ path: join(folder, 'resized.onnx'), precision: 'fp32' }], {
      toolVersion: '0.0.0-test',
      link: { folder, digest: false },
    });
    await expect(written).rejects.toThrow(UsageError);
    await expect(written).rejects.toThrow(/relative_position_bias_table .* does not lie in the source/);
    await expect(written).rejects.toMatchObject({
      next: 'Leave --link out (--external-data loads as fast), or link the model at its own size: without --img-size and --patch-size.',
    });
  });
});

describe('fingerprint', () => {
  const source = (size: number, change?: number) => {
    const bytes = new Uint8Array(size).map((_, i) => (i * 31) >>> 3);
    if (change !== undefined) bytes[change] ^= 1;
    return memorySource('x', bytes);
  };

  it.each([0, 1, 1000, 200_000, 3_000_000])('is the same for the same %d bytes', async (size) => {
    expect(await fingerprint(source(size))).toBe(await fingerprint(source(size)));
  });

  it.each([
    ['the first byte', 3_000_000, 0],
    ['the last byte', 3_000_000, 2_999_999],
    ['a small file anywhere', 100_000, 66_000],
  ])('sees %s', async (_, size, at) => {
    expect(await fingerprint(source(size, at))).not.toBe(await fingerprint(source(size)));
  });

  it('sees another length', async () => {
    expect(await fingerprint(source(1000))).not.toBe(await fingerprint(source(1001)));
  });
});
