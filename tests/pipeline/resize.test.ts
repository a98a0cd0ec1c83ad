/** Converting to another size, end to end: the file, what it remembers, and verifying it by what it remembers. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadModel } from '../../src/convert/load.js';
import { ParityError, convert, convertWeights, verify } from '../../src/index.js';
import { RESIZE_RECORD, parseResizeRecord } from '../../src/resizing.js';
import { readFloat64 } from '../../src/tensor.js';
import { openOnnxFile } from '../../src/verify/onnx-file.js';
import { runOracle } from '../../src/verify/oracle.js';
import { GOLDEN_HINTS, goldenPath } from '../convert/goldens.js';
import { RESIZE_CASES, expandedCheckpoint, resizeGolden, type GoldenArray } from '../convert/resize-cases.js';
import { editOnnx } from '../support/onnx-edit.js';
import { difference, largest } from '../verify/oracle-model.js';

let folder: string;
let out: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'convert-beit-resize-'));
  out = join(folder, 'model.onnx');
});
afterEach(() => rm(folder, { recursive: true }));

/** What shapes cannot tell of a golden, and upstream's eps. */
async function configFile(source: string, eps = 1e-6): Promise<string> {
  const path = join(folder, 'config.json');
  const heads = GOLDEN_HINTS.get(source)?.heads;
  await writeFile(path, JSON.stringify({ layer_norm_eps: eps, num_attention_heads: heads }));
  return path;
}

async function run(path: string, { shape, values }: GoldenArray): Promise<Float64Array> {
  const session = await ort.InferenceSession.create(path);
  const input = new ort.Tensor('float32', Float32Array.from(values), [...shape]);
  const { logits } = await session.run({ pixel_values: input });
  await session.release();
  return Float64Array.from(logits.data as Float32Array);
}

const src = goldenPath('v1_cls', 'official.safetensors');

describe.each(RESIZE_CASES.filter(({ logits }) => logits !== ''))('$name ($method)', (row) => {
  it('is verified, and gives upstream’s logits in ONNX Runtime', async () => {
    const golden = await resizeGolden(row.file);
    const result = await convert({
      src: goldenPath(row.source, 'official.safetensors'),
      configPath: await configFile(row.source, row.eps),
      out,
      imageSize: row.imageSize,
      patchSize: row.patchSize,
      resize: row.method,
    });
    expect(result.parity.verdict).toBe('passed');
    const logits = await run(out, golden.get(row.input)!);
    expect(largest(difference(logits, golden.get(row.logits)!.values))).toBeLessThan(1e-5);
  });
});

it('pt_expand_resize: a shared table, copied to the layers and resized', async () => {
  const golden = await resizeGolden('pt_expand');
  const expanded = await expandedCheckpoint(folder);
  const result = await convert({ src: expanded, out, imageSize: [48, 48], sharedTable: 'spread' });
  expect(result.parity.verdict).toBe('passed');
  const logits = await run(out, golden.get('input')!);
  expect(largest(difference(logits, golden.get('logits')!.values))).toBeLessThan(1e-5);
});

describe('a resized file', () => {
  it('remembers what was done, and is verified by that alone', async () => {
    const notes: string[] = [];
    const asked = { imageSize: [24, 40], resize: 'timm' } as const;
    const made = await convert({ src, out, ...asked });
    expect(made.source.resized).toEqual({
      method: 'timm',
      from: { imageSize: [32, 32], patchSize: 4, window: [8, 8] },
    });
    expect(made.source.config).toMatchObject({ imageSize: [24, 40], window: [6, 10] });
    const file = await openOnnxFile(out);
    await file.close();
    expect(JSON.parse(file.metadata.get(RESIZE_RECORD)!)).toEqual({
      ...made.source.resized,
      imageSize: [24, 40],
      patchSize: 4,
    });
    expect(JSON.parse(file.metadata.get('convert_beit.preprocessing')!)).toMatchObject({ crop: [24, 40] });

    const again = await verify({ src, model: out, onNote: (note) => notes.push(note) });
    expect(again.parity.verdict).toBe('passed');
    expect(notes).toContain(
      'model.onnx is recorded as resized: so is the source, to 24×40 with patches of 4 (timm)',
    );
    expect(again.parity.checks.find(({ name }) => name === 'provenance')!.detail).toMatch(
      /^55 tensors, .*: the source's own bytes; 3 resized from 8×8 to 6×10 patches \(timm\): compared with recomputed values$/,
    );
  });

  it('fails against another method, and names the tensors', async () => {
    await convert({ src, out, imageSize: [48, 48] });
    const attempt = verify({ src, model: out, resize: 'timm' });
    await expect(attempt).rejects.toThrow(ParityError);
    const error = (await attempt.catch((thrown: unknown) => thrown)) as ParityError;
    expect(JSON.stringify(error.report)).toMatch(
      /3 of 55 tensors differ from the source.*as recomputed from the source/,
    );
  });

  it('fails where the record lies', async () => {
    await convert({ src, out, imageSize: [48, 48] });
    const lying = join(folder, 'lying.onnx');
    editOnnx(out, lying, ({ model }) => {
      const entry = model.metadataProps.find(({ key }) => key === RESIZE_RECORD)!;
      entry.value = entry.value!.replace('unilm', 'timm-simple');
    });
    await expect(verify({ src, model: lying })).rejects.toThrow(ParityError);
  });

  it('whose record was spoilt is held against the source as it is', async () => {
    await convert({ src, out, imageSize: [48, 48] });
    const spoilt = join(folder, 'spoilt.onnx');
    editOnnx(out, spoilt, ({ model }) => {
      model.metadataProps.find(({ key }) => key === RESIZE_RECORD)!.value = '{"method":"magic"}';
    });
    await expect(verify({ src, model: spoilt })).rejects.toThrow(ParityError);
    const told = await verify({ src, model: spoilt, imageSize: [48, 48] });
    expect(told.parity.verdict).toBe('passed');
  });

  it('is the same file when the size is the source’s own, but for nothing', async () => {
    const plain = join(folder, 'plain.onnx');
    await convert({ src, out: plain, verify: false });
    await convert({ src, out, verify: false, imageSize: [32, 32], resize: 'timm' });
    expect((await readFile(out)).equals(await readFile(plain))).toBe(true);
  });
});

describe('resized weights for other frameworks', () => {
  it.each(['official', 'timm', 'transformers', 'mmpretrain'] as const)(
    '%s: upstream’s table bit for bit, index buffers of the new window, the same logits',
    async (to) => {
      const golden = await resizeGolden('up');
      const weights = join(folder, 'resized.safetensors');
      const written = await convertWeights({ src, out: weights, to, imageSize: [48, 48] });
      expect(written.parity.verdict).toBe('passed');
      // Loading compares every index buffer with the one that the window needs.
      const model = await loadModel(weights);
      const table = model.tensors.get('backbone.layers.0.attn.relative_position_bias_table')!;
      expect(await readFloat64(table)).toEqual(golden.get('unilm.table.0')!.values);
      const { logits } = await runOracle(model, golden.get('input')!.values, 1);
      await model.close();
      const upstream = golden.get('unilm.logits_f64')!.values;
      // A transformers file alone says nothing of eps: ours is 1e-6 then too.
      expect(largest(difference(logits, upstream))).toBeLessThan(1e-10);
    },
  );
});

describe('parseResizeRecord', () => {
  const good = { method: 'timm', imageSize: [24, 40], patchSize: 4 };
  it('reads what was written', () => {
    expect(parseResizeRecord(JSON.stringify({ ...good, from: {} }))).toEqual(good);
  });
  it.each([
    ['no JSON', '{'],
    ['null', 'null'],
    ['a list', '[]'],
    ['an unknown method', JSON.stringify({ ...good, method: 'constructor' })],
    ['no patch size', JSON.stringify({ ...good, patchSize: undefined })],
    ['half a patch', JSON.stringify({ ...good, patchSize: 0.5 })],
    ['an endless image', JSON.stringify({ ...good, imageSize: [1e9, 1e9] })],
    ['one side', JSON.stringify({ ...good, imageSize: [24] })],
    ['text for a side', JSON.stringify({ ...good, imageSize: ['24', 40] })],
  ])('refuses %s', (_, text) => {
    expect(parseResizeRecord(text)).toBeUndefined();
  });
});
