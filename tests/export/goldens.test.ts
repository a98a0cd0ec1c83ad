/**
 * Every classification golden: converted, run in ONNX Runtime on upstream's input, held against upstream's logits.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadModel } from '../../src/convert/load.js';
import { openCheckpoint } from '../../src/convert/open.js';
import { exportOnnx, type ExportOptions } from '../../src/export/index.js';
import { asFloat32, memoryTensor, readBytes, readFloat32, type Tensor } from '../../src/tensor.js';
import type { BeitModel } from '../../src/model.js';
import { GOLDEN_CASES, GOLDEN_HINTS, goldenPath } from '../convert/goldens.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'convert-beit-goldens-'));
});
afterAll(() => rm(folder, { recursive: true }));

const TOOL = { toolVersion: '0.0.0-test' };

async function withModel<T>(name: string, use: (model: BeitModel) => Promise<T>): Promise<T> {
  const path = goldenPath(name, 'official.safetensors');
  const model = await loadModel(path, { hints: GOLDEN_HINTS.get(name) });
  try {
    return await use(model);
  } finally {
    await model.close();
  }
}

/** Largest difference to upstream's logits of what ONNX Runtime computes on upstream's input. */
async function distance(name: string, path: string): Promise<number> {
  const io = await openCheckpoint(goldenPath(name, 'io.safetensors'));
  try {
    const input = io.tensors.get('input')!;
    const expected = await readFloat32(io.tensors.get('logits')!);
    const session = await ort.InferenceSession.create(path);
    const tensor = new ort.Tensor('float32', await readFloat32(input), [...input.shape]);
    const { logits } = await session.run({ pixel_values: tensor });
    expect(logits.dims).toEqual(io.tensors.get('logits')!.shape);
    await session.release();
    const found = logits.data as Float32Array;
    return Math.max(...expected.map((value, i) => Math.abs(value - found[i])));
  } finally {
    await io.close();
  }
}

describe.each(GOLDEN_CASES)('%s', (name) => {
  it.each([
    ['one file, opset 17', { opset: 17 }],
    ['one file, opset 18', { opset: 18 }],
    ['one file, opset 23', { opset: 23 }],
    ['external data', { externalData: true }],
  ] satisfies [string, Partial<ExportOptions>][])('gives upstream’s logits: %s', async (how, options) => {
    const path = join(folder, `${name} ${how}.onnx`);
    await withModel(name, (model) => exportOnnx(model, path, { ...TOOL, ...options }));
    expect(await distance(name, path)).toBeLessThan(1e-5);
  });
});

describe('exportOnnx', () => {
  it.each(['v1_cls', 'v1_shared_rel'])('gives the same bytes twice: %s', async (name) => {
    const [a, b] = [join(folder, `${name}-a`), join(folder, `${name}-b`)];
    const first = await withModel(name, (model) => exportOnnx(model, a, TOOL));
    const second = await withModel(name, (model) => exportOnnx(model, b, TOOL));
    expect(first.model.sha256).toBe(second.model.sha256);
    expect((await readFile(a)).equals(await readFile(b))).toBe(true);
  });

  it('spreads a shared table to the layers and computes the same', async () => {
    const path = join(folder, 'spread.onnx');
    const model = await loadModel(goldenPath('v1_shared_rel', 'official.safetensors'), {
      sharedTable: 'spread',
    });
    await exportOnnx(model, path, TOOL);
    await model.close();
    expect(model.config).toMatchObject({ relativePosition: true, sharedRelativePosition: false });
    expect(await distance('v1_shared_rel', path)).toBeLessThan(1e-5);
  });

  /** Weights of another dtype: rounding them moves the logits, widening does not move them further. */
  it.each([
    [
      'F64',
      1e-5,
      (bytes: Uint8Array) => new Uint8Array(Float64Array.from(new Float32Array(bytes.buffer)).buffer),
    ],
    [
      'BF16',
      0.2,
      (bytes: Uint8Array) =>
        new Uint8Array(new Uint16Array(bytes.buffer).filter((_, i) => i % 2 === 1).buffer),
    ],
  ] as const)('widens %s weights', async (dtype, tolerance, convert) => {
    const path = join(folder, `${dtype}.onnx`);
    await withModel('v1_cls', async (model) => {
      const tensors = new Map<string, Tensor>();
      for (const [key, tensor] of model.tensors) {
        tensors.set(key, memoryTensor(dtype, tensor.shape, convert(await readBytes(tensor))));
      }
      await exportOnnx({ ...model, tensors }, path, TOOL);
      const some = tensors.get('backbone.layers.0.ln1.weight')!;
      const onnx = await readFile(path);
      expect(onnx.includes(Buffer.from(await readBytes(asFloat32(some))))).toBe(true);
    });
    expect(await distance('v1_cls', path)).toBeLessThan(tolerance);
  });

  it('refuses a file whose digest is not the stated one', async () => {
    const path = goldenPath('v1_cls', 'official.safetensors');
    const model = await loadModel(path, { sha256: 'a'.repeat(64) });
    await expect(exportOnnx(model, join(folder, 'stated.onnx'), TOOL)).rejects.toThrow(
      /official\.safetensors has sha256 2dd50667.* a{64} was stated for it/,
    );
    await model.close();
  });
});
