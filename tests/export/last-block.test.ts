/** Of the last block only what somebody looks at is computed: rows of its MLP as ONNX Runtime sees them, one image. */
import { writeFileSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { loadModel } from '../../src/convert/load.js';
import { exportFiles, exportOnnx } from '../../src/export/index.js';
import { PRECISIONS, type PrecisionName } from '../../src/precision.js';
import { resolveTask, type TaskOptions } from '../../src/task.js';
import { goldenPath } from '../convert/goldens.js';
import { OnnxEditor } from '../support/onnx-edit.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'convert-beit-last-'));
});
afterAll(() => rm(folder, { recursive: true }));

type Row = readonly [
  what: string,
  golden: string,
  file: string,
  task: TaskOptions,
  layer: number,
  rows: readonly [fc1: number, fc2: number],
];

const features = { task: 'features' } as const;
const ROWS: readonly Row[] = [
  ['a classifier on the class token', 'v1_cls_pool', 'official', {}, 1, [1, 1]],
  ['a classifier on the mean', 'v1_cls', 'official', {}, 2, [64, 1]],
  ['the class token', 'v1_cls', 'official', { ...features, outTypes: ['cls_token'] }, 2, [1, 1]],
  [
    'the class token after a block in the middle',
    'v1_cls',
    'official',
    { ...features, outTypes: ['cls_token'], outIndices: [0, 1] },
    1,
    [1, 1],
  ],
  ['the class token, normalised', 'mm_out_types', 'mmpretrain', { outTypes: ['cls_token'] }, 2, [1, 1]],
  [
    'the class token of which the norm is left out',
    'mm_out_types',
    'mmpretrain',
    { outTypes: ['cls_token'], finalNorm: false },
    2,
    [1, 1],
  ],
  [
    'the mean of two blocks',
    'v1_cls',
    'official',
    { ...features, outTypes: ['avg_featmap'], outIndices: [0, 2] },
    2,
    [64, 1],
  ],
  [
    'the mean of normalised tokens',
    'mm_out_types',
    'mmpretrain',
    { outTypes: ['avg_featmap'], finalNorm: true },
    2,
    [64, 64],
  ],
  ['all tokens', 'v1_cls', 'official', { ...features, outTypes: ['raw'] }, 2, [65, 65]],
  [
    'class token and mean',
    'mm_out_types',
    'mmpretrain',
    { outTypes: ['cls_token', 'avg_featmap'] },
    2,
    [65, 65],
  ],
];

it.each(ROWS)('%s', async (what, golden, file, asked, layer, wanted) => {
  const model = await loadModel(goldenPath(golden, `${file}.safetensors`));
  const path = join(folder, `${what.replaceAll(/\W/g, '-')}.onnx`);
  const task = resolveTask(model.config, asked);
  await exportOnnx(model, path, { toolVersion: '0.0.0-test', task });
  await model.close();
  const editor = new OnnxEditor(await readFile(path));
  const names = ['fc1', 'fc2'].map((name) => `layers.${layer}/ffn/${name}:0`);
  editor.model.graph!.output!.push(...names.map((name) => ({ name })));
  writeFileSync(path, editor.encode());
  const session = await ort.InferenceSession.create(path, { logSeverityLevel: 3 });
  const input = new ort.Tensor('float32', new Float32Array(3 * 32 * 32), [1, 3, 32, 32]);
  const found = await session.run({ pixel_values: input });
  await session.release();
  expect(names.map((name) => found[name].dims[0])).toEqual(wanted);
});

it('in no precision the class token costs more than its own row', async () => {
  const model = await loadModel(goldenPath('v1_cls', 'official.safetensors'));
  const task = resolveTask(model.config, { task: 'features', outTypes: ['cls_token'] });
  const files = ([...PRECISIONS.keys()] as PrecisionName[]).map((precision) => ({
    path: join(folder, `${precision}.onnx`),
    precision,
  }));
  await exportFiles(model, files, { toolVersion: '0.0.0-test', task });
  await model.close();
  for (const { path, precision } of files) {
    const editor = new OnnxEditor(await readFile(path));
    const gelu = editor.nodes.find(({ name }) => name === 'layers.2/ffn/gelu')!;
    editor.model.graph!.output!.push({ name: gelu.output![0] });
    writeFileSync(path, editor.encode());
    const session = await ort.InferenceSession.create(path, { logSeverityLevel: 3 });
    const input = new ort.Tensor('float32', new Float32Array(2 * 3 * 32 * 32), [2, 3, 32, 32]);
    const found = await session.run({ pixel_values: input });
    await session.release();
    expect([precision, found[gelu.output![0]].dims]).toEqual([precision, [2, 128]]);
  }
});
