/** `--to`, weights endings and `diff`, as a person or a script meets them. */
import { copyFileSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { WeightsOptions } from '../../src/pipeline.js';
import { DIFFERENT, runCompiled, runFake, WRITTEN } from './harness.js';

async function optionsOf(args: readonly string[]): Promise<Partial<WeightsOptions>> {
  let seen: WeightsOptions | undefined;
  const outcome = await runFake(['--src', 'official', ...args], {
    pipeline: {
      convertWeights: (options) => {
        seen = options;
        return Promise.resolve(WRITTEN);
      },
    },
  });
  expect(outcome.stderr).toBe('');
  expect(outcome.code).toBe(0);
  const { signal, onProgress, onNote, env, ...rest } = seen!;
  expect([signal, onProgress, onNote, env]).not.toContain(undefined);
  return JSON.parse(JSON.stringify(rest)) as Partial<WeightsOptions>;
}

describe('convert to weights', () => {
  const defaults = { src: 'official', verify: true, noClobber: false };
  it.each([
    ['.safetensors', ['--out', 'a.safetensors'], { out: 'a.safetensors' }],
    ['.pth', ['--out', 'a.pth'], { out: 'a.pth' }],
    ['.pt, in capitals', ['--out', 'a.PT'], { out: 'a.PT' }],
    [
      '.bin for transformers',
      ['--out', 'a.bin', '--to', 'transformers'],
      { out: 'a.bin', to: 'transformers' },
    ],
    ['a folder', ['--out', 'hf/', '--to', 'transformers'], { out: 'hf/', to: 'transformers' }],
    [
      '--drop, several times',
      ['--out', 'a.pth', '--drop', 'a', 'b*', '--to', 'timm', '--drop', 'c'],
      { out: 'a.pth', to: 'timm', drop: ['a', 'b*', 'c'] },
    ],
    ['--no-verify', ['--out', 'a.pth', '--no-verify'], { out: 'a.pth', verify: false, digest: false }],
    ['--no-verify --json', ['--out', 'a.pth', '--no-verify', '--json'], { out: 'a.pth', verify: false }],
    ['--no-clobber', ['--out', 'a.pth', '--no-clobber'], { out: 'a.pth', noClobber: true }],
    [
      'how the source is read',
      ['--out', 'a.pth', '--config', 'c.json', '--beit-version', '2', '--shared-bias', 'layers'],
      { out: 'a.pth', configPath: 'c.json', version: 2, sharedTable: 'spread' },
    ],
    [
      'which weights of the source',
      ['--out', 'a.pth', '--layout', 'timm', '--ema'],
      { out: 'a.pth', layout: 'timm', ema: true },
    ],
  ])('%s', async (_, args, expected) => {
    expect(await optionsOf(args)).toEqual({ ...defaults, ...expected });
  });

  it.each([
    ['--opset', ['--out', 'a.pth', '--opset', '18'], '--opset is for ONNX'],
    ['--external-data', ['--out', 'a.pth', '--external-data'], '--external-data is for ONNX'],
    ['--samples', ['--out', 'a.safetensors', '--samples', '2'], '--samples is for ONNX'],
    ['--image', ['--out', 'a.pt', '--image', 'a.jpg'], '--image is for ONNX'],
    ['--drop for ONNX', ['--out', 'a.onnx', '--drop', 'a'], '--drop is for weights'],
    ['an unknown layout', ['--out', 'a.pth', '--to', 'keras'], "'--to <layout>' argument 'keras' is invalid"],
  ])('refuses %s', async (_, args, message) => {
    const { code, stderr } = await runFake(['--src', 'official', ...args]);
    expect(code).toBe(2);
    expect(stderr).toContain(message);
  });

  it('tells a person what was written', async () => {
    const { stdout, code } = await runFake(['--src', 'official', '--out', 'hf/', '--to', 'transformers'], {
      pipeline: { convertWeights: () => Promise.resolve(WRITTEN) },
    });
    expect(code).toBe(0);
    for (const text of [
      'config.json, 600 bytes',
      'model.safetensors, 346.4 MB',
      'transformers layout, safetensors: 211 tensors and 12 index buffers',
      'left out: cls_pt_layers.0.gamma_1',
      'passed: model.safetensors read back',
    ]) {
      expect(stdout).toContain(text);
    }
  });

  it('and a script as JSON', async () => {
    const { stdout } = await runFake(['--src', 'official', '--out', 'a.pth', '--json'], {
      pipeline: { convertWeights: () => Promise.resolve(WRITTEN) },
    });
    expect(JSON.parse(stdout)).toMatchObject({
      ok: true,
      output: { layout: 'transformers' },
      parity: WRITTEN.parity,
    });
  });
});

describe('diff', () => {
  const pipeline = { diff: () => Promise.resolve(DIFFERENT) };

  it('shows what differs and ends with 1', async () => {
    const { stdout, stderr, code } = await runFake(['diff', 'a', 'b'], { pipeline });
    expect({ stderr, code }).toEqual({ stderr: '', code: 1 });
    expect(stdout.split('\n')).toEqual([
      'tensor          verdict      max |a - b|  elements  a           b',
      'head.fc.bias    differs          5.00e-1         2  f32[10]     f32[10]',
      'evil\\u{1b}[31m  only in b                           -           i64[]',
      'head.fc.weight  other dtype          NaN        40  f32[10, 4]  f16[10, 4]',
      '',
      'a  4 tensors, safetensors, official layout',
      'b  4 tensors, PyTorch (zip), names of no known layout',
      'not equal: 1 equal, 1 differs, 1 other dtype, 1 only in b; largest difference NaN',
      '',
    ]);
  });

  it('--all shows equal tensors too', async () => {
    const { stdout } = await runFake(['diff', 'a', 'b', '--all'], { pipeline });
    expect(stdout).toContain('backbone.cls_token  equal');
  });

  it('equal ends with 0', async () => {
    const equal = { ...DIFFERENT, equal: true, rows: DIFFERENT.rows.slice(0, 1) };
    const { code } = await runFake(['diff', 'a', 'b'], { pipeline: { diff: () => Promise.resolve(equal) } });
    expect(code).toBe(0);
  });

  it('--json has every row, --quiet only the exit code', async () => {
    const json = await runFake(['diff', 'a', 'b', '--json'], { pipeline });
    expect(json.code).toBe(1);
    expect(JSON.parse(json.stdout)).toMatchObject({
      ok: true,
      equal: false,
      maxAbs: 'NaN',
      rows: { length: 4 },
    });
    const quiet = await runFake(['diff', 'a', 'b', '--quiet'], { pipeline });
    expect(quiet).toMatchObject({ code: 1, stdout: '', stderr: '' });
  });

  it.each([
    ['one source', ['diff', 'a'], "missing required argument 'b'"],
    ['three', ['diff', 'a', 'b', 'c'], "unexpected argument 'c'"],
  ])('refuses %s', async (_, args, message) => {
    const { code, stderr } = await runFake(args);
    expect(code).toBe(2);
    expect(stderr).toContain(message);
  });
});

describe('the compiled program', () => {
  const folder = mkdtempSync(join(tmpdir(), 'convert-beit-weights-cli-'));
  const source = join(folder, 'weights.safetensors');
  beforeAll(() => {
    copyFileSync(
      fileURLToPath(new URL('../../fixtures/goldens/v1_cls/official.safetensors', import.meta.url)),
      source,
    );
  });
  afterAll(() => {
    rmSync(folder, { recursive: true });
  });

  it('writes .pth, reads it again, and finds the two equal', async () => {
    const out = join(folder, 'beit.pth');
    const written = await runCompiled(['--src', source, '--out', out, '--json']);
    expect(written.code).toBe(0);
    expect(JSON.parse(written.stdout)).toMatchObject({
      ok: true,
      output: {
        path: out,
        container: 'PyTorch (zip)',
        layout: 'mmpretrain',
        tensors: 58,
        buffers: 3,
        dropped: [],
      },
      parity: { verdict: 'passed' },
    });
    const same = await runCompiled(['diff', source, out]);
    expect(same).toMatchObject({ code: 0, stdout: expect.stringContaining('equal: 58 equal') as string });
    const other = fileURLToPath(
      new URL('../../fixtures/goldens/v2_cls/official.safetensors', import.meta.url),
    );
    expect((await runCompiled(['diff', other, out])).code).toBe(1);
  });

  it('an error leaves nothing behind', async () => {
    const before = readdirSync(folder);
    const { code, stderr } = await runCompiled([
      '--src',
      source,
      '--out',
      `${folder}/x.pth`,
      '--drop',
      'nothing',
    ]);
    expect(code).toBe(2);
    expect(stderr).toContain('--drop nothing: the source has no tensor of that name');
    expect(readdirSync(folder)).toEqual(before);
    expect(existsSync(join(folder, 'x.pth'))).toBe(false);
  });
});
