/** Several precisions at once, linked models, and what a refused one leaves behind. */
import { createHash } from 'node:crypto';
import { copyFile, mkdtemp, open, readFile, readdir, rm, stat, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ParityError, UsageError, convert, verify } from '../../src/index.js';
import { openOnnxFile } from '../../src/verify/onnx-file.js';
import { goldenPath } from '../convert/goldens.js';

const DEMO = fileURLToPath(new URL('../../fixtures/demo/beit_demo_patch8_64.safetensors', import.meta.url));

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'convert-beit-precisions-'));
});
afterEach(() => rm(folder, { recursive: true }));

const files = async (): Promise<string[]> => (await readdir(folder)).sort();
const sha256 = async (path: string): Promise<string> =>
  createHash('sha256')
    .update(await readFile(path))
    .digest('hex');

async function demo(): Promise<string> {
  const src = join(folder, 'beit.safetensors');
  await copyFile(DEMO, src);
  return src;
}

async function metadataOf(path: string): Promise<ReadonlyMap<string, string>> {
  const file = await openOnnxFile(path);
  await file.close();
  return file.metadata;
}

describe('several precisions', () => {
  it('are written, verified and named beside each other', async () => {
    const out = join(folder, 'model.onnx');
    const result = await convert({ src: DEMO, out, precisions: ['fp32', 'fp16', 'q8', 'q4'], samples: 2 });
    expect(await files()).toEqual(['model.onnx', 'model_fp16.onnx', 'model_q4.onnx', 'model_quantized.onnx']);
    expect(result.files.map(({ output, parity }) => [output.precision, parity.verdict])).toEqual([
      ['fp32', 'passed'],
      ['fp16', 'passed'],
      ['q8', 'passed'],
      ['q4', 'passed'],
    ]);
    expect(result.output).toBe(result.files[0].output);
    for (const { output } of result.files) expect(output.sha256).toBe(await sha256(output.path));
    const checked = await verify({ src: DEMO, model: join(folder, 'model_quantized.onnx'), samples: 2 });
    expect(checked.parity).toMatchObject({ verdict: 'passed', logits: { quality: { precision: 'q8' } } });
  });

  it('have data files of their own', async () => {
    const out = join(folder, 'model.onnx');
    await convert({ src: DEMO, out, precisions: ['fp32', 'q8'], externalData: true, samples: 2 });
    expect(await files()).toEqual([
      'model.onnx',
      'model.onnx_data',
      'model_quantized.onnx',
      'model_quantized.onnx_data',
    ]);
  });

  it('a single one gets exactly the name that was asked for', async () => {
    const out = join(folder, 'small.onnx');
    const { output } = await convert({ src: DEMO, out, precisions: ['int8'], samples: 2 });
    expect(output).toMatchObject({ path: out, precision: 'int8' });
    expect(await files()).toEqual(['small.onnx']);
  });

  it('the good ones keep their names when one is refused', async () => {
    const src = goldenPath('v2_no_qkv_bias', 'official.safetensors');
    const failure: unknown = await convert({
      src,
      out: join(folder, 'm.onnx'),
      precisions: ['fp32', 'q4', 'fp16'],
    }).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(ParityError);
    expect((failure as ParityError).exitCode).toBe(4);
    expect((failure as ParityError).message).toMatch(
      /^m_q4\.onnx does not reproduce .* not good enough for q4/,
    );
    expect((failure as ParityError).next).toMatch(
      /^Written were m\.onnx, m_fp16\.onnx, the others not\. .*--accept-quality/,
    );
    expect(await files()).toEqual(['m.onnx', 'm_fp16.onnx']);
  });

  it('one that is refused alone leaves nothing, and is there when accepted', async () => {
    const options = {
      src: goldenPath('v2_no_qkv_bias', 'official.safetensors'),
      out: join(folder, 'm.onnx'),
      precisions: ['q4'],
    } as const;
    await expect(convert(options)).rejects.toThrow(ParityError);
    expect(await files()).toEqual([]);
    const { parity } = await convert({ ...options, acceptQuality: true });
    expect(parity).toMatchObject({ verdict: 'failed', accepted: true });
    expect(await files()).toEqual(['m.onnx']);
  });

  it('nothing is left when a target cannot be written', async () => {
    await copyFile(DEMO, join(folder, 'm_q4.onnx'));
    await expect(
      convert({ src: DEMO, out: join(folder, 'm.onnx'), precisions: ['fp32', 'q4'], noClobber: true }),
    ).rejects.toThrow(/m_q4\.onnx exists/);
    expect(await files()).toEqual(['m_q4.onnx']);
  });
});

describe('--link', () => {
  it('writes only the graph, which runs on the checkpoint beside it', async () => {
    const src = await demo();
    const before = await sha256(src);
    const out = join(folder, 'model.onnx');
    const { parity, output } = await convert({ src, out, link: true, samples: 2 });
    expect(parity.verdict).toBe('passed');
    expect(output.bytes).toBeLessThan(64 * 1024);
    expect(output.externalData).toBeUndefined();
    expect(await files()).toEqual(['beit.safetensors', 'model.onnx']);
    expect(await sha256(src)).toBe(before);
    const onnx = await openOnnxFile(out);
    await onnx.close();
    const weight = onnx.initializers.get('backbone.layers.0.attn.qkv.weight')!;
    expect(weight.file).toBe('beit.safetensors');
    expect(JSON.parse(onnx.metadata.get('convert_beit.linked_files')!)).toEqual([
      { name: 'beit.safetensors', bytes: (await stat(src)).size, sha256: before },
    ]);
    expect((await verify({ src, model: out, samples: 2 })).parity.verdict).toBe('passed');
  });

  it('verify notices that the checkpoint is no longer the one that was linked', async () => {
    const src = await demo();
    const out = join(folder, 'model.onnx');
    await convert({ src, out, link: true, verify: false, digest: false });
    const onnx = await openOnnxFile(out);
    await onnx.close();
    // The last bit of one weight, on both sides of every comparison: only the digest can tell.
    const { start } = onnx.initializers.get('backbone.layers.0.attn.qkv.weight')!.stored;
    const before = (await readFile(src))[start];
    const file = await open(src, 'r+');
    await file.write(Uint8Array.of(before ^ 1), 0, 1, start);
    await file.close();
    await expect(verify({ src, model: out, samples: 2 })).rejects.toThrow(
      /beit\.safetensors has sha256 \w+; the model was linked to/,
    );
  });

  it('verify notices another checkpoint in its place', async () => {
    const src = await demo();
    const out = join(folder, 'model.onnx');
    await convert({ src, out, link: true, verify: false });
    await copyFile(goldenPath('v1_cls', 'official.safetensors'), src);
    await expect(verify({ src: DEMO, model: out, samples: 2 })).rejects.toThrow(ParityError);
  });

  it('is refused from another folder', async () => {
    await expect(convert({ src: DEMO, out: join(folder, 'm.onnx'), link: true })).rejects.toThrow(
      /beit_demo_patch8_64\.safetensors is in .*demo, the model would be in .*only from the model's own folder/,
    );
    expect(await files()).toEqual([]);
  });

  it.skipIf(process.platform === 'win32')('is refused through a symbolic link', async () => {
    const src = join(folder, 'link.safetensors');
    await symlink(await demo(), src);
    await expect(convert({ src, out: join(folder, 'm.onnx'), link: true })).rejects.toThrow(
      /link\.safetensors is a symbolic link, which runtimes refuse/,
    );
  });

  it('is refused for another precision, and a way that works is named', async () => {
    const src = await demo();
    const failure: unknown = await convert({
      src,
      out: join(folder, 'm.onnx'),
      link: true,
      precisions: ['q8'],
    }).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(UsageError);
    expect((failure as UsageError).next).toMatch(/--link --dtype fp32/);
  });

  it('the file says nothing of folders', async () => {
    const src = await demo();
    const out = join(folder, 'model.onnx');
    await convert({ src, out, link: true, verify: false });
    expect([...(await metadataOf(out)).values()].join()).not.toContain(folder);
  });
});
