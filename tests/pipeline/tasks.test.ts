/** Every task through the whole pipeline: written, verified, and verified again from what the file says of itself. */
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { convert, verify } from '../../src/pipeline.js';
import { goldenPath } from '../convert/goldens.js';
import { TASK_CASES, type TaskCase } from '../support/tasks.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'convert-beit-task-pipeline-'));
});
afterAll(() => rm(folder, { recursive: true }));

async function config({ hints, name }: TaskCase): Promise<string | undefined> {
  if (!hints) return undefined;
  const path = join(folder, `${name.replaceAll(/\W/g, '-')}.json`);
  const fields = {
    image_size: hints.imageSize,
    num_attention_heads: hints.heads,
    with_cls_token: hints.classToken,
    early_layers: hints.earlyLayer,
    layer_norm_eps: hints.layerNormEps,
  };
  await writeFile(path, JSON.stringify(fields));
  return path;
}

describe.each(TASK_CASES.map((each) => [each.name, each] as const))('%s', (_, of) => {
  it('is written, proven, and proven again', async () => {
    const source = { src: goldenPath(of.folder, `${of.file}.safetensors`), configPath: await config(of) };
    const out = join(folder, `${of.name.replaceAll(/\W/g, '-')}.onnx`);
    const { output, parity } = await convert({ ...source, ...of.task, out });
    expect(output.outputs.map(({ name }) => name)).toEqual(of.names);
    expect(parity.verdict).toBe('passed');
    expect(parity.checks.map(({ name }) => name)).toEqual([
      'structure',
      'inventory',
      'provenance',
      'outputs',
    ]);
    expect(parity.outputs!.map(({ name }) => name)).toEqual(of.names);
    for (const { noiseUnits } of parity.outputs!) expect(noiseUnits).toBeGreaterThan(0);
    const again = await verify({ ...source, model: out });
    expect(again.parity.outputs).toEqual(parity.outputs);
  });
});

describe('the name of the file', () => {
  it.each(['x.tflite', 'x.H5', 'x.zip'])('%s is not written', async (name) => {
    const out = join(folder, name);
    await expect(convert({ src: goldenPath('v1_cls', 'official.safetensors'), out })).rejects.toThrow(
      'files are not written',
    );
    expect(existsSync(out)).toBe(false);
  });
});

describe('a graph for another purpose', () => {
  const src = goldenPath('v1_cls', 'official.safetensors');
  it.each([
    ['fp16', 0.9999],
    ['q8', 0.99],
    ['q4', 0.9],
  ] as const)('in %s', async (precision, cosine) => {
    const out = join(folder, `features_${precision}.onnx`);
    const { parity } = await convert({ src, out, task: 'features', precisions: [precision] });
    expect(parity.verdict).toBe('passed');
    for (const output of parity.outputs!) expect(output.cosine).toBeGreaterThan(cosine);
  });

  it('is refused where it loses too much, unless that is accepted', async () => {
    const out = join(folder, 'lossy.onnx');
    const lossy = {
      src: goldenPath('v1_stress', 'official.safetensors'),
      out,
      task: 'features',
      outTypes: ['raw'],
      precisions: ['q4'],
    } as const;
    const refused = convert(lossy);
    await expect(refused).rejects.toMatchObject({
      exitCode: 4,
      next: expect.stringContaining('--accept-quality') as string,
    });
    expect(existsSync(out)).toBe(false);
    const { parity } = await convert({ ...lossy, acceptQuality: true });
    expect([parity.verdict, parity.accepted]).toEqual(['failed', true]);
    expect(parity.checks.filter(({ passed }) => !passed).map(({ name }) => name)).toEqual(['outputs']);
    expect(existsSync(out)).toBe(true);
  });

  it('gives two vectors of the last block under two names', async () => {
    const out = join(folder, 'vectors.onnx');
    const outTypes = ['cls_token', 'avg_featmap'] as const;
    const { output, parity } = await convert({ src, out, task: 'features', outTypes, outIndices: [1, -1] });
    expect(output.outputs.map(({ name }) => name)).toEqual([
      'cls_token_1',
      'avg_featmap_1',
      'cls_token',
      'pooler_output',
    ]);
    expect(parity.verdict).toBe('passed');
  });

  it('has a batch of its own size', async () => {
    const out = join(folder, 'batch.onnx');
    const { output, parity } = await convert({ src, out, batch: 3 });
    expect(output.inputs[0].shape).toEqual([3, 3, 32, 32]);
    expect(parity.verdict).toBe('passed');
    expect((await verify({ src, model: out })).parity.verdict).toBe('passed');
  });

  it.each([
    ['segment', { task: 'segment' }, 'this is a classification checkpoint: it cannot segment'],
    ['another task’s option', { upsample: true }, '--upsample has no meaning for --task classify'],
    [
      'a block that is not there',
      { task: 'features', outIndices: [3] },
      '--out-indices 3: the model has 3 blocks',
    ],
    [
      'a norm that is not there',
      { task: 'features', finalNorm: true },
      'this checkpoint has no norm over all tokens',
    ],
    ['the same twice', { task: 'features', outIndices: [2, -1] }, 'the same output is asked for twice'],
  ] as const)('is refused: %s', async (_, options, message) => {
    await expect(convert({ src, out: join(folder, 'refused.onnx'), ...options })).rejects.toThrow(message);
  });
});
