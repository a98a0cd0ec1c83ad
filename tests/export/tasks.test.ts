/**
 * Every task's goldens: exported, run in ONNX Runtime and reckoned by the reference on upstream's input, both held
 * against upstream's outputs.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadModel } from '../../src/convert/load.js';
import { openCheckpoint } from '../../src/convert/open.js';
import { exportOnnx } from '../../src/export/index.js';
import { resolveTask, taskOutputs } from '../../src/task.js';
import { readBytes, readFloat32, readFloat64 } from '../../src/tensor.js';
import { expectOutputs } from '../../src/verify/expected.js';
import { goldenPath } from '../convert/goldens.js';
import { TASK_CASES, type TaskCase } from '../support/tasks.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'convert-beit-tasks-'));
});
afterAll(() => rm(folder, { recursive: true }));

async function golden(of: TaskCase) {
  const io = await openCheckpoint(goldenPath(of.folder, 'io.safetensors'));
  try {
    const input = io.tensors.get('input')!;
    const mask = io.tensors.get('mask');
    return {
      shape: input.shape,
      pixels: await readFloat32(input),
      mask: mask && { shape: mask.shape, bits: await readBytes(mask) },
      expected: await Promise.all(
        of.expected.map(async (name) => {
          const tensor = io.tensors.get(name)!;
          return { shape: tensor.shape, dtype: tensor.dtype, values: await readFloat64(tensor) };
        }),
      ),
    };
  } finally {
    await io.close();
  }
}

const distance = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  expect(a.length).toBe(b.length);
  let most = 0;
  for (let i = 0; i < a.length; i++) {
    const each = Math.abs(a[i] - b[i]);
    most = Math.max(most, Number.isNaN(each) ? Infinity : each);
  }
  return most;
};

describe.each(TASK_CASES.map((each) => [each.name, each] as const))('%s', (_, of) => {
  it.each([17, 18, 23])('opset %d gives what upstream gives', async (opset) => {
    const { shape, pixels, mask, expected } = await golden(of);
    const model = await loadModel(goldenPath(of.folder, `${of.file}.safetensors`), { hints: of.hints });
    try {
      const task = resolveTask(model.config, of.task);
      const path = join(folder, `${of.name.replaceAll(/\W/g, '-')}-${opset}.onnx`);
      const exported = await exportOnnx(model, path, { toolVersion: '0.0.0', task, opset });
      expect(exported.outputs.map(({ name }) => name)).toEqual(of.names);
      const session = await ort.InferenceSession.create(path, { logSeverityLevel: 3 });
      const feeds = {
        pixel_values: new ort.Tensor('float32', pixels, [...shape]),
        ...(mask && { bool_masked_pos: new ort.Tensor('bool', mask.bits, [...mask.shape]) }),
      };
      const outputs = await session.run(feeds);
      for (const [i, { values, shape: wanted }] of expected.entries()) {
        const output = outputs[of.names[i]];
        expect(output.dims).toEqual(wanted);
        expect(exported.outputs[i].shape).toEqual(['batch', ...wanted.slice(1)]);
        expect(distance(output.data as Float32Array, values)).toBeLessThan(1e-5);
      }
      await session.release();
    } finally {
      await model.close();
    }
  });

  it('is what the reference reckons', async () => {
    const { shape, pixels, mask, expected } = await golden(of);
    const model = await loadModel(goldenPath(of.folder, `${of.file}.safetensors`), { hints: of.hints });
    try {
      const task = resolveTask(model.config, of.task);
      const found = await expectOutputs(model, task, { pixels, batch: shape[0], mask: mask?.bits });
      expect(found.map(({ name, shape: own }) => ({ name, shape: own }))).toEqual(
        taskOutputs(model.config, task),
      );
      for (const [i, { values, dtype }] of expected.entries()) {
        // Where upstream was run in float32 only, its own rounding is what is left; transformers computes softmax in
        // float32 whatever the model's dtype (modeling_beit.py `eager_attention_forward`).
        const exact = of.folder === 'segmentation' ? 3e-7 : 1e-10;
        expect(distance(found[i].values, values)).toBeLessThan(dtype === 'F64' ? exact : 1e-5);
        if (dtype === 'F32') expect(distance(found[i].values, values)).toBeLessThan(48 * found[i].noise);
        expect(found[i].noise).toBeGreaterThan(1e-9);
        expect(found[i].noise).toBeLessThan(1e-5);
      }
    } finally {
      await model.close();
    }
  });
});
