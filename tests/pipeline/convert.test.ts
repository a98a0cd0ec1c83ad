import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { copyFile, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  InterruptedError,
  LayoutError,
  ParityError,
  UsageError,
  convert,
  inspect,
  verify,
} from '../../src/index.js';
import { openOnnxFile } from '../../src/verify/onnx-file.js';
import { GOLDEN_CASES, GOLDEN_HINTS, goldenPath } from '../convert/goldens.js';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'convert-beit-pipeline-'));
});
afterEach(async () => {
  vi.doUnmock('../../src/verify/verify.js');
  await rm(folder, { recursive: true });
});

/** The golden's checkpoint in the test's own folder, with a config for what shapes can't tell. */
async function source(name: string): Promise<{ src: string; configPath?: string }> {
  const src = join(folder, 'weights.safetensors');
  await copyFile(goldenPath(name, 'official.safetensors'), src);
  const hints = GOLDEN_HINTS.get(name);
  if (!hints) return { src };
  const configPath = join(folder, 'hints.json');
  await writeFile(
    configPath,
    JSON.stringify({ image_size: hints.imageSize, num_attention_heads: hints.heads }),
  );
  return { src, configPath };
}

const sha256 = async (path: string): Promise<string> =>
  createHash('sha256')
    .update(await readFile(path))
    .digest('hex');

describe('convert', () => {
  it.each(GOLDEN_CASES)('converts and verifies %s', async (name) => {
    const out = join(folder, 'model.onnx');
    const from = await source(name);
    const result = await convert({ ...from, out });
    expect(result.parity.verdict).toBe('passed');
    expect(result.parity.checks.map((check) => [check.name, check.passed])).toEqual([
      ['structure', true],
      ['inventory', true],
      ['provenance', true],
      ['logits', true],
    ]);
    expect(result.output).toMatchObject({ path: out, sha256: await sha256(out), opset: 17, irVersion: 8 });
    expect(result.source.files).toEqual([
      { name: 'weights.safetensors', bytes: expect.any(Number), sha256: await sha256(from.src) },
    ]);
    expect((await readdir(folder)).filter((file) => file.startsWith('.'))).toEqual([]);
  });

  it('records where the model came from in the file itself', async () => {
    const out = join(folder, 'model.onnx');
    const { src } = await source('v1_cls');
    await convert({ src, out, verify: false });
    const file = await openOnnxFile(out);
    const metadata = new Map(file.metadata);
    expect(JSON.parse(metadata.get('convert_beit.source_files')!)).toEqual([
      { name: 'weights.safetensors', bytes: 278192, sha256: await sha256(src) },
    ]);
    expect(metadata.get('convert_beit.source')).toBe('weights.safetensors');
    expect(JSON.parse(metadata.get('convert_beit.preprocessing')!)).toMatchObject({ mean: [0.5, 0.5, 0.5] });
    expect([...metadata.values()].join()).not.toContain(folder);
    await file.close();
  });

  it('writes external data that verifies too', async () => {
    const out = join(folder, 'model.onnx');
    const result = await convert({ ...(await source('v1_cls')), out, externalData: true });
    expect(result.parity.verdict).toBe('passed');
    expect(result.output.externalData).toMatchObject({
      path: `${out}_data`,
      sha256: await sha256(`${out}_data`),
    });
    const again = await verify({ ...(await source('v1_cls')), model: out });
    expect(again.parity.verdict).toBe('passed');
  });

  it('says so when verification was skipped', async () => {
    const result = await convert({ ...(await source('v1_cls')), out: join(folder, 'm.onnx'), verify: false });
    expect(result.parity).toMatchObject({ verdict: 'skipped', checks: [] });
  });

  it('keeps the old file and leaves no litter when parity fails', async () => {
    const out = join(folder, 'model.onnx');
    await writeFile(out, 'old');
    vi.doMock('../../src/verify/verify.js', () => ({
      verifyModel: () =>
        Promise.resolve({
          verdict: 'failed',
          checks: [{ name: 'logits', passed: false, detail: 'far off', findings: ['far off'] }],
          inputs: [],
          seconds: 0,
        }),
    }));
    const attempt = convert({ ...(await source('v1_cls')), out });
    await expect(attempt).rejects.toThrow(ParityError);
    await expect(attempt).rejects.toMatchObject({ exitCode: 4, report: { verdict: 'failed' } });
    expect(await readFile(out, 'utf8')).toBe('old');
    expect((await readdir(folder)).sort()).toEqual(['model.onnx', 'weights.safetensors']);
  });

  it('keeps the old file and leaves no litter when interrupted', async () => {
    const out = join(folder, 'model.onnx');
    await writeFile(out, 'old');
    const stop = new AbortController();
    const attempt = convert({
      ...(await source('v1_cls')),
      out,
      signal: stop.signal,
      onProgress: ({ phase }) => {
        if (phase !== 'write') stop.abort();
      },
    });
    await expect(attempt).rejects.toThrow(InterruptedError);
    expect(await readFile(out, 'utf8')).toBe('old');
    expect((await readdir(folder)).sort()).toEqual(['model.onnx', 'weights.safetensors']);
  });

  it('says which files have their places when interrupted between them', async () => {
    const out = join(folder, 'model.onnx');
    const stop = new AbortController();
    const attempt = convert({
      ...(await source('v1_cls')),
      out,
      precisions: ['fp32', 'q8'],
      signal: stop.signal,
      onProgress: ({ phase, label }) => {
        if (phase === 'runtime' && label.includes('quantized')) stop.abort();
      },
    });
    await expect(attempt).rejects.toThrow('interrupted; model.onnx was written');
    expect((await readdir(folder)).sort()).toEqual(['model.onnx', 'weights.safetensors']);
  });

  it('replaces a file only with a good one, or not at all', async () => {
    const out = join(folder, 'model.onnx');
    await writeFile(out, 'old');
    const from = await source('v1_cls');
    await expect(convert({ ...from, out, noClobber: true })).rejects.toThrow(UsageError);
    await writeFile(join(folder, 'wrong.json'), '{"num_attention_heads": 8}');
    await expect(convert({ src: from.src, configPath: join(folder, 'wrong.json'), out })).rejects.toThrow(
      LayoutError,
    );
    expect(await readFile(out, 'utf8')).toBe('old');
    await convert({ ...from, out });
    expect((await readFile(out)).length).toBeGreaterThan(100_000);
  });

  it('refuses to overwrite what it reads', async () => {
    const { src } = await source('v1_cls');
    const before = await sha256(src);
    await expect(convert({ src, out: src })).rejects.toThrow(/is the file that is read/);
    expect(await sha256(src)).toBe(before);
  });
});

describe('the embedded model', () => {
  const demo = fileURLToPath(new URL('../../fixtures/demo/', import.meta.url));
  const expected = JSON.parse(readFileSync(join(demo, 'expected.json'), 'utf8')) as {
    samples: { file: string; top1: string; logits_f64: number[] }[];
  };

  it.each(expected.samples.map((sample) => [sample.file, sample] as const))(
    'sees in %s what PyTorch sees',
    async (file, { top1, logits_f64: logits }) => {
      const result = await convert({
        src: join(demo, 'beit_demo_patch8_64.safetensors'),
        out: join(folder, 'demo.onnx'),
        images: [join(demo, file)],
      });
      const [{ written, oracle }] = result.parity.inputs;
      expect(written[0].label).toBe(top1);
      for (const { class: index, logit } of written)
        expect(Math.abs(logit - logits[index])).toBeLessThan(1e-5);
      for (const { class: index, logit } of oracle)
        expect(Math.abs(logit - logits[index])).toBeLessThan(1e-10);
    },
  );
});

describe('verify', () => {
  it('tells another checkpoint’s file from this one’s', async () => {
    const out = join(folder, 'model.onnx');
    await convert({ ...(await source('v1_cls')), out, verify: false });
    const other = await source('v2_cls');
    const attempt = verify({ ...other, model: out });
    await expect(attempt).rejects.toThrow(ParityError);
    await expect(attempt).rejects.toThrow(/does not reproduce weights\.safetensors/);
  });
});

describe('inspect', () => {
  it('describes a checkpoint without a model', async () => {
    const { src } = await source('v1_nonsquare');
    const inspection = await inspect({ src });
    expect(inspection).toMatchObject({
      id: 'weights.safetensors',
      layout: 'official',
      config: { window: [6, 10] },
    });
    expect(inspection.tensors.filter(({ role }) => role === 'buffer')).toHaveLength(2);
    expect([inspection.labels, inspection.labelsOrigin]).toEqual([undefined, undefined]);
  });

  it('says where class names are from', async () => {
    const src = fileURLToPath(new URL('../../fixtures/demo/', import.meta.url));
    const { labels, labelsOrigin } = await inspect({ src });
    expect([labels?.length, labelsOrigin]).toEqual([8, 'config.json beside the weights']);
  });
});
