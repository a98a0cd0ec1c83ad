/** Graphs for images of any size, run in ONNX Runtime at many sizes, against upstream's logits. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadModel } from '../../src/convert/load.js';
import { exportOnnx, type ExportOptions } from '../../src/export/index.js';
import type { BeitModel } from '../../src/model.js';
import { GOLDEN_HINTS, goldenPath } from '../convert/goldens.js';
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
