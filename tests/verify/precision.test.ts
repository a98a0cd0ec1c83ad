/**
 * Files of lower precision with one mistake each: who notices? Weights are edited in the file itself, so that what
 * wrote them can't hide it.
 */
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadModel } from '../../src/convert/load.js';
import { exportFiles } from '../../src/export/index.js';
import type { BeitModel } from '../../src/model.js';
import { PRECISIONS, type PrecisionName } from '../../src/precision.js';
import { readFloat32 } from '../../src/tensor.js';
import { openOnnxFile } from '../../src/verify/onnx-file.js';
import { goldenPath } from '../convert/goldens.js';
import { verifyModel, type VerifyModelOptions } from '../../src/verify/verify.js';

const DEMO = fileURLToPath(new URL('../../fixtures/demo/beit_demo_patch8_64.safetensors', import.meta.url));
const QKV = 'backbone.layers.1.attn.qkv.weight';

let folder: string;
let model: BeitModel;
let count = 0;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'convert-beit-verify-precision-'));
  model = await loadModel(DEMO, { version: 1 });
});
afterAll(async () => {
  await model.close();
  await rm(folder, { recursive: true });
});

async function written(precision: PrecisionName, keep?: string[]): Promise<string> {
  const path = join(folder, `${count++}.onnx`);
  await exportFiles(model, [{ path, precision }], { toolVersion: '0.0.0-test', keep });
  return path;
}

type Edit = (bytes: Buffer) => void;

async function edit(path: string, initializer: string, change: Edit): Promise<void> {
  const onnx = await openOnnxFile(path);
  const { start, end } = onnx.initializers.get(initializer)!.stored;
  await onnx.close();
  const file = await open(path, 'r+');
  const bytes = Buffer.alloc(end - start);
  await file.read(bytes, 0, bytes.length, start);
  change(bytes);
  await file.write(bytes, 0, bytes.length, start);
  await file.close();
}

/** Same length, so that nothing else of the file moves. */
async function replaceText(path: string, from: string, to: string): Promise<void> {
  const file = await open(path, 'r+');
  const bytes = await file.readFile();
  for (let at = bytes.indexOf(from); at >= 0; at = bytes.indexOf(from, at + 1)) {
    await file.write(Buffer.from(to), 0, to.length, at);
  }
  await file.close();
}

async function failing(path: string, options: VerifyModelOptions = {}) {
  const report = await verifyModel(path, model, { samples: 4, ...options });
  return {
    names: report.checks.filter(({ passed }) => !passed).map(({ name }) => name),
    findings: report.checks.flatMap(({ findings }) => findings).join('\n'),
    report,
  };
}

describe('sound files pass', () => {
  it.each([...PRECISIONS.keys()] as PrecisionName[])('%s', async (name) => {
    const { names, findings, report } = await failing(await written(name), { samples: 16 });
    expect({ names, findings }).toEqual({ names: [], findings: '' });
    expect(report.logits!.quality?.precision).toBe(name === 'fp32' ? undefined : name);
  });

  it.each(['fp16', 'q8', 'uint8', 'q4', 'q4f16'] as const)('%s with nothing kept', async (name) => {
    expect((await failing(await written(name, ['none']), { samples: 16 })).names).toEqual([]);
  });
});

const flip =
  (at: number, mask: number): Edit =>
  (bytes) => {
    bytes[at] ^= mask;
  };

describe('one wrong number is found by the provenance check', () => {
  it.each<[string, PrecisionName, string, Edit, RegExp]>([
    [
      'a float16 off by one',
      'fp16',
      QKV,
      flip(200, 1),
      /qkv\.weight: element \[1, 36\] stands for .* not the nearest/,
    ],
    ['a float16 sign', 'fp16', QKV, flip(201, 0x80), /qkv\.weight: element \[1, 36\]/],
    [
      'an int8 off by one',
      'int8',
      `${QKV}_quantized`,
      flip(192 + 5, 1),
      /qkv\.weight: element \[5, 1\] stands for/,
    ],
    ['a 7-bit off by one', 'q8', `${QKV}_quantized`, flip(192 + 5, 1), /qkv\.weight: element \[5, 1\]/],
    ['a uint8 off by one', 'uint8', `${QKV}_quantized`, flip(7, 1), /qkv\.weight: element \[7, 0\]/],
    ['the zero point', 'uint8', `${QKV}_zero_point`, flip(0, 1), /qkv\.weight: element \[0, 0\]/],
    ['a low half of 4 bits', 'q4', `${QKV}_q4`, flip(16, 2), /qkv\.weight: element \[0, 32\]/],
    ['a high half of 4 bits', 'q4', `${QKV}_q4`, flip(33, 0x20), /qkv\.weight: element \[1, 3\]/],
    ['a 4-bit beside float16', 'q4f16', `${QKV}_q4`, flip(16, 2), /qkv\.weight: element \[0, 32\]/],
    [
      'a step 1 % too large',
      'int8',
      `${QKV}_scale`,
      (bytes) => bytes.writeFloatLE(bytes.readFloatLE(12) * 1.01, 12),
      /qkv\.weight: element \[3, \d+\]/,
    ],
    [
      'a block step of other sign',
      'q4',
      `${QKV}_scales`,
      (bytes) => bytes.writeFloatLE(-bytes.readFloatLE(0), 0),
      /qkv\.weight: element \[0, 0\]/,
    ],
    ['a kept bias', 'q8', 'backbone.layers.1.attn.proj.bias', flip(0, 1), /proj\.bias: element \[0\]/],
  ])('%s', async (_, name, initializer, change, message) => {
    const path = await written(name);
    await edit(path, initializer, change);
    const { names, findings } = await failing(path);
    expect(names).toContain('provenance');
    expect(findings).toMatch(message);
  });

  it('a step and its integers that fit each other, but waste levels', async () => {
    const path = await written('int8');
    await edit(path, `${QKV}_scale`, (bytes) => bytes.writeFloatLE(bytes.readFloatLE(0) * 2, 0));
    const source = await readFloat32(model.tensors.get(QKV)!);
    const step = 2 * (Math.max(...source.subarray(0, 64).map(Math.abs)) / 127);
    await edit(path, `${QKV}_quantized`, (bytes) => {
      for (let i = 0; i < 64; i++) bytes.writeInt8(Math.round(source[i] / step), i * 192);
    });
    const { names, findings } = await failing(path);
    expect(names).toContain('provenance');
    expect(findings).toMatch(/the step of output 0 is .* largest level is 64 instead of 127/);
  });
});

describe('a file that is not what it says', () => {
  it.each<[string, PrecisionName, [string, string], string[], RegExp]>([
    [
      'int8 under the name of uint8',
      'int8',
      ['int8', 'fp16'],
      ['inventory'],
      /is int8; a file in fp16 has none/,
    ],
    [
      'a precision nobody knows',
      'q8',
      ['q8', 'q9'],
      ['structure', 'inventory', 'logits'],
      /calls its precision "q9"/,
    ],
    [
      'operators of another domain',
      'q4',
      ['q4', 'q8'],
      ['structure', 'inventory'],
      /only standard ones are portable/,
    ],
  ])('%s', async (_, name, [from, to], checks, message) => {
    const path = await written(name);
    const value = (text: string): string =>
      `convert_beit.dtype\u0012${String.fromCharCode(text.length)}${text}`;
    await replaceText(path, value(from), value(to));
    const { names, findings } = await failing(path);
    expect(names).toEqual(expect.arrayContaining(checks));
    expect(findings).toMatch(message);
  });

  it('a block product that reads its weights in other blocks', async () => {
    const path = await written('q4');
    await replaceText(path, 'block_size\u0018 ', 'block_size\u0018@');
    const { names, findings } = await failing(path);
    expect(names).toContain('structure');
    expect(findings).toMatch(/reads 4-bit blocks of 64/);
  });

  it('steps of one layer used in another', async () => {
    const path = await written('int8');
    const [a, b] = [
      'backbone.layers.1.ffn.layers.1.weight_scale',
      'backbone.layers.0.ffn.layers.1.weight_scale',
    ];
    const onnx = await openOnnxFile(path);
    const node = onnx.nodes.find(({ inputs }) => inputs.includes(a))!;
    await onnx.close();
    // Only the node's use, not the initializer's own name, which stands behind another tag.
    await replaceText(
      path,
      `\n${String.fromCharCode(a.length)}${a}\u0012`,
      `\n${String.fromCharCode(b.length)}${b}\u0012`,
    );
    expect(node.type).toBe('Mul');
    const { names, findings } = await failing(path);
    expect(names).toContain('inventory');
    expect(findings).toMatch(/weight_scale is in the file, but the logits do not depend on it/);
  });
});

describe('the quality gate', () => {
  it('refuses what every other check finds sound, and can be told to accept it', async () => {
    // 32 wide and without LayerScale: four bits are too few for it (the worst of the goldens).
    const changed = await loadModel(goldenPath('v2_no_qkv_bias', 'official.safetensors'));
    const path = join(folder, `${count++}.onnx`);
    await exportFiles(changed, [{ path, precision: 'q4' }], { toolVersion: '0.0.0-test' });
    const refused = await verifyModel(path, changed, { samples: 4 });
    expect(refused.verdict).toBe('failed');
    expect(refused.accepted).toBeUndefined();
    expect(refused.checks.filter(({ passed }) => !passed).map(({ name }) => name)).toEqual(['logits']);
    expect(refused.checks.at(-1)!.detail).toMatch(
      /^not good enough for q4: cosine 0\.\d+ where 0\.97 is needed/,
    );
    const accepted = await verifyModel(path, changed, { samples: 4, acceptQuality: true });
    expect(accepted).toMatchObject({ verdict: 'failed', accepted: true });
    await changed.close();
  });

  it('does not accept a file whose weights are wrong', async () => {
    const path = await written('q4');
    await edit(path, `${QKV}_q4`, flip(16, 2));
    const { report } = await failing(path, { acceptQuality: true });
    expect(report.accepted).toBeUndefined();
  });

  it('computes the reference once for several files', async () => {
    const truth = {};
    const first = await verifyModel(await written('q8'), model, { samples: 3, truth });
    const known = (truth as { reckoned?: unknown }).reckoned;
    const second = await verifyModel(await written('q4'), model, { samples: 3, truth });
    expect((truth as { reckoned?: unknown }).reckoned).toBe(known);
    expect(second.inputs.map(({ oracle }) => oracle)).toEqual(first.inputs.map(({ oracle }) => oracle));
  });
});
