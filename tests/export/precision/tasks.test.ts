/**
 * Every task's goldens in every precision: precisions know nothing of heads, so whatever a head builds must still run
 * and stay near what upstream gives.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { loadModel } from '../../../src/convert/load.js';
import { openCheckpoint } from '../../../src/convert/open.js';
import { exportFiles } from '../../../src/export/index.js';
import { PRECISIONS, type PrecisionName } from '../../../src/precision.js';
import { resolveTask } from '../../../src/task.js';
import { readBytes, readFloat32, readFloat64 } from '../../../src/tensor.js';
import { goldenPath } from '../../convert/goldens.js';
import { TASK_CASES } from '../../support/tasks.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'convert-beit-precision-tasks-'));
});
afterAll(() => rm(folder, { recursive: true }));

/** Rms error, in rms of the output: networks of width 32 lose more than real ones. */
const MOST: Record<PrecisionName, number> = {
  fp32: 1e-5,
  fp16: 0.01,
  q8: 0.15,
  int8: 0.1,
  uint8: 0.1,
  q4: 0.6,
  q4f16: 0.6,
};
const NAMES = [...PRECISIONS.keys()] as PrecisionName[];

function relativeError(found: Float32Array, expected: Float64Array): number {
  expect(found.length).toBe(expected.length);
  let [errors, squares] = [0, 0];
  for (let i = 0; i < found.length; i++) {
    errors += (found[i] - expected[i]) ** 2;
    squares += expected[i] ** 2;
  }
  return Math.sqrt(errors / squares);
}

it.each(TASK_CASES.map((each) => [each.name, each] as const))('%s', async (_, of) => {
  const model = await loadModel(goldenPath(of.folder, `${of.file}.safetensors`), { hints: of.hints });
  const io = await openCheckpoint(goldenPath(of.folder, 'io.safetensors'));
  try {
    const task = resolveTask(model.config, of.task);
    const stem = of.name.replaceAll(/\W/g, '-');
    const files = NAMES.map((precision) => ({ path: join(folder, `${stem}-${precision}.onnx`), precision }));
    await exportFiles(model, files, { toolVersion: '0.0.0', task });
    const input = io.tensors.get('input')!;
    const mask = io.tensors.get('mask');
    const feeds = {
      pixel_values: new ort.Tensor('float32', await readFloat32(input), [...input.shape]),
      ...(mask && { bool_masked_pos: new ort.Tensor('bool', await readBytes(mask), [...mask.shape]) }),
    };
    for (const { path, precision } of files) {
      const session = await ort.InferenceSession.create(path, { logSeverityLevel: 3 });
      const outputs = await session.run(feeds);
      await session.release();
      for (const [i, name] of of.expected.entries()) {
        const expected = await readFloat64(io.tensors.get(name)!);
        const found = outputs[of.names[i]];
        expect(found.type).toBe('float32');
        const error = relativeError(found.data as Float32Array, expected);
        expect(error, `${precision} ${of.names[i]}`).toBeLessThan(MOST[precision]);
      }
    }
  } finally {
    await io.close();
    await model.close();
  }
});
