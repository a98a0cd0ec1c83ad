/** The compiled program as a person or a script meets it. */
import {
  copyFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server } from 'node:http';
import { spawn, spawnSync } from 'node:child_process';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { VERSION } from '../../src/version.js';
import { cleanEnv, MAIN, runCompiled } from './harness.js';

const CHECKPOINT = fileURLToPath(
  new URL('../../fixtures/goldens/v1_cls/official.safetensors', import.meta.url),
);
const OTHER = fileURLToPath(new URL('../../fixtures/goldens/v2_cls/official.safetensors', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'convert-beit-cli-'));
const weights = join(folder, 'weights.safetensors');
beforeAll(() => {
  copyFileSync(CHECKPOINT, weights);
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

describe('help and version', () => {
  it.each([['--version'], ['-V']])('%s', async (flag) => {
    expect(await runCompiled([flag])).toEqual({ code: 0, signal: null, stdout: `${VERSION}\n`, stderr: '' });
  });

  it.each([
    [
      'the program',
      ['--help'],
      ['convert', 'verify', 'inspect', 'list', 'completion', 'Exit codes:', 'HF_ENDPOINT'],
    ],
    ['help', ['help'], ['Usage: convert-beit --src <source> --out <file>']],
    [
      'convert',
      ['convert', '--help'],
      ['--src <source>', '--out <file>', '--shared-bias <how>', 'official:<name>'],
    ],
    ['convert by its options', ['--src', 'official', '--help'], ['--out <file>', '--image <file...>']],
    ['verify', ['verify', '--help'], ['Usage: convert-beit verify [options] <model>', '--samples <n>']],
    ['inspect', ['inspect', '-h'], ['Usage: convert-beit inspect [options] <source>', 'hf:<owner>/<repo>']],
    ['list', ['list', '--help'], ['--json']],
    ['completion', ['completion', '--help'], ['bash', 'zsh', 'fish']],
    ['help for a command', ['help', 'verify'], ['Usage: convert-beit verify']],
  ])('%s', async (_, args, expected) => {
    const { code, stdout, stderr } = await runCompiled(args);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    for (const text of [...expected, 'Examples:']) expect(stdout).toContain(text);
    for (const line of stdout.split('\n')) expect(line.length).toBeLessThanOrEqual(110);
  });

  it('without any argument: help on stderr, a usage error', async () => {
    const { code, stdout, stderr } = await runCompiled([]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain('Usage: convert-beit');
  });
});

describe('usage errors end with 2', () => {
  const complete = ['--src', 'x', '--out', 'y'];
  it.each([
    [
      'nothing to write to',
      ['--src', 'official'],
      '--out <file> must be given',
      'convert-beit --src official --out model.onnx',
    ],
    ['neither', ['--json'], '--src <source> and --out <file> must be given', 'convert-beit --src official'],
    [
      'an unknown option',
      ['--src', 'official', '--otu', 'm'],
      "unknown option '--otu'",
      'Did you mean --out?',
    ],
    ...['0', '384x', 'x384', '-1', '1e3', '9000', '384x384x3', ''].map(
      (size): [string, string[], string, string] => [
        `--img-size "${size}"`,
        [...complete, `--img-size=${size}`],
        'It must be N or HxW, whole numbers of pixels from 1 to 8192',
        'convert-beit convert --help',
      ],
    ),
    ...(
      [
        ['--out', ['--src', 'x', '--out', 'no/such/model.onnx']],
        ['--out', ['--src', 'x', '--out', 'no/such/beit.pth']],
        ['--out', ['--src', 'x', '--out', 'no/such/hf/', '--to', 'transformers']],
        ['--out', ['--src', 'x', '--out', 'no/such/beit/']],
        ['--report', [...complete, '--report', 'no/such/report.html']],
        ['--report', ['verify', 'm.onnx', '--src', 'x', '--report', 'no/such/report.json']],
      ] as const
    ).map(([option, args]): [string, string[], string, string] => [
      `no folder for ${args.at(-1)}`,
      [...args],
      `the folder of ${option} no/such/`,
      'Create it (mkdir -p no/such), or choose another place.',
    ]),
    ['an unknown command', ['lst'], "unknown command 'lst'", 'Did you mean list?'],
    ['a source without --src', ['official', 'm.onnx'], "unknown command 'official'", '--src official --out'],
    ['a command after options', ['--json', 'list'], "unexpected argument 'list'", 'convert-beit list'],
    [
      'one argument too many',
      ['inspect', 'a', 'b'],
      "unexpected argument 'b'",
      'convert-beit inspect --help',
    ],
    [
      'no argument',
      ['verify', '--src', 'a'],
      "missing required argument 'model'",
      'convert-beit verify --help',
    ],
    [
      'a value that is an option',
      ['--src', '--out', 'y'],
      "'--src <source>' argument '--out' is invalid. Its value is missing; a file of that name is ./--out",
      '--help',
    ],
    ['an empty value', [...complete, '--config', ''], 'must not be empty', '--help'],
    ['no value', ['--src'], "option '--src <source>' argument missing", '--help'],
    ['not a number', [...complete, '--opset', 'x'], 'whole number from 1 to 99', '--help'],
    ['a fraction', [...complete, '--samples', '1.5'], 'whole number from 1 to 1000', '--help'],
    ['too few', [...complete, '--samples', '0'], 'whole number from 1 to 1000', '--help'],
    ['negative', [...complete, '--seed', '-1'], 'whole number from 0 to 4294967295', '--help'],
    ['too large', [...complete, '--seed', '4294967296'], 'whole number from 0 to 4294967295', '--help'],
    ['not finite', [...complete, '--threads', '1e3'], 'whole number from 1 to 1024', '--help'],
    [
      'no such choice',
      [...complete, '--shared-bias', 'spread'],
      'Allowed choices are keep, layers',
      '--help',
    ],
    ['no such version', [...complete, '--beit-version', '3'], 'Allowed choices are 1, 2', '--help'],
    ['no such shell', ['completion', 'tcsh'], 'Allowed choices are bash, zsh, fish', '--help'],
    [
      'images and no verification',
      [...complete, '--no-verify', '--image', 'a.jpg'],
      "'--no-verify' cannot be used with",
      '--help',
    ],
    ['an escape sequence is not repeated', ['\u001b[31mx'], "unknown command '\\u{1b}[31mx'", '--help'],
  ])('%s', async (_, args, message, next) => {
    const { code, stderr } = await runCompiled(args);
    expect(code).toBe(2);
    expect(stderr).toContain(message);
    const [first, second, ...rest] = stderr.split('\n');
    expect(first).toMatch(/^error: /);
    expect(second).toMatch(/^ {2}next: /);
    expect(second).toContain(next);
    expect(rest).toEqual(['']);
  });
});

describe('other failures', () => {
  it.each([
    ['a file that is not there', 3, 'input', ['inspect', './no-such-file'], {}],
    ['a file that is no checkpoint', 3, 'input', ['inspect', MAIN], {}],
    ['an unknown catalog name', 2, 'usage', ['inspect', 'official:no_such_model'], {}],
    [
      'nobody listening',
      5,
      'network',
      ['inspect', 'hf:owner/repo'],
      { HF_ENDPOINT: 'http://127.0.0.1:9', HF_HUB_OFFLINE: '' },
    ],
  ])('%s: exit code %d', async (_, code, kind, args, env) => {
    const outcome = await runCompiled([...args, '--json'], { env: cleanEnv({ HF_HOME: folder, ...env }) });
    expect(outcome.code).toBe(code);
    expect(JSON.parse(outcome.stdout)).toMatchObject({ ok: false, error: { kind, exitCode: code } });
    expect(outcome.stderr).toMatch(/^error: /m);
    expect(outcome.stderr).not.toMatch(/^ {4}at /m);
  });

  it('--verbose adds where it came from', async () => {
    const { stderr } = await runCompiled(['inspect', './no-such-file', '--verbose']);
    expect(stderr).toMatch(/^ {4}at /m);
  });
});

describe('list', () => {
  it('is a table of whole lines in a pipe, without colour', async () => {
    const { stdout, code } = await runCompiled(['list']);
    expect(code).toBe(0);
    expect(stdout).not.toContain('\u001b');
    expect(stdout.split('\n')[0]).toMatch(/^name +ver +px +classes +params +FLOPs +top-1 +top-5 +from$/);
    expect(stdout).toMatch(
      /^beit_base_patch16_224_pt22k_ft22kto1k \* +v1 +224 +1000 +86\.5 M +17\.6 G +85\.2 +97\.6 +hf:timm\/beit_base_patch16_224\.in22k_ft_in22k_in1k$/m,
    );
    expect(stdout).toMatch(
      /^beitv2_large_patch16_224_pt1k_300e_ft1k +v2 +224 +1000 +304 M +61\.6 G +86\.6 +- /m,
    );
  });

  it.each([
    ['FORCE_COLOR', { FORCE_COLOR: '1' }, true],
    ['NO_COLOR', { FORCE_COLOR: '1', NO_COLOR: '1' }, false],
  ])('%s', async (_, env, coloured) => {
    const { stdout } = await runCompiled(['list'], { env: cleanEnv(env) });
    expect(stdout.includes('\u001b[')).toBe(coloured);
    const help = await runCompiled(['--help'], { env: cleanEnv(env) });
    expect(help.stdout.includes('\u001b[')).toBe(coloured);
  });

  it('--json has the figures', async () => {
    const { stdout } = await runCompiled(['list', '--json']);
    const { models } = JSON.parse(stdout) as { models: { name: string; isDefault: boolean }[] };
    expect(models).toContainEqual(
      expect.objectContaining({
        name: 'beit_base_patch16_224_pt22k_ft22kto1k',
        isDefault: true,
        parameters: 86_530_984,
        flops: 17_581_219_584,
      }),
    );
    expect(models.filter((model) => model.isDefault)).toHaveLength(1);
  });
});

describe('inspect', () => {
  it('shows config, figures and every tensor', async () => {
    const { stdout, code } = await runCompiled(['inspect', weights]);
    expect(code).toBe(0);
    for (const text of [
      'weights.safetensors, 278.2 kB',
      'safetensors, official layout',
      '32×32, patch 4, 3 blocks × 32, 4 heads, 10 classes',
      'a relative position table per block, LayerScale, q and v bias, MLP 128, mean pooling, eps 1e-6',
      '42,938 parameters',
      '58 tensors',
    ]) {
      expect(stdout).toContain(text);
    }
    expect(stdout).toMatch(
      /^blocks\.2\.attn\.qkv\.weight +backbone\.layers\.2\.attn\.qkv\.weight +F32 +96×32 +12\.3 kB$/m,
    );
  });

  it('--json has every tensor', async () => {
    const { stdout } = await runCompiled(['inspect', weights, '--json']);
    const inspection = JSON.parse(stdout) as { tensors: unknown[] };
    expect(inspection).toMatchObject({
      ok: true,
      id: 'weights.safetensors',
      layout: 'official',
      parameters: 42_938,
    });
    expect(inspection.tensors).toHaveLength(58);
  });
});

describe('convert and verify', () => {
  const model = join(folder, 'model.onnx');

  it('converts, says so in one JSON object, and the file verifies', async () => {
    const { stdout, stderr, code } = await runCompiled(['--src', weights, '--out', model, '--json']);
    expect({ code, stderr: stderr.replace(/^note: .*\n/gm, '') }).toEqual({ code: 0, stderr: '' });
    expect(JSON.parse(stdout)).toMatchObject({
      ok: true,
      tool: { name: 'convert-beit', version: VERSION },
      source: { id: 'weights.safetensors', config: { depth: 3 } },
      output: { bytes: readFileSync(model).length, opset: 17 },
      parity: { verdict: 'passed' },
    });
    const verified = await runCompiled(['verify', model, '--src', weights, '--samples', '1']);
    expect(verified.code).toBe(0);
    expect(verified.stdout).toMatch(/^parity +passed/m);
  });

  it('another model’s file does not verify: exit code 4, the report on stderr', async () => {
    const { stdout, stderr, code } = await runCompiled([
      'verify',
      model,
      '--src',
      OTHER,
      '--samples',
      '1',
      '--json',
    ]);
    expect(code).toBe(4);
    expect(JSON.parse(stdout)).toMatchObject({
      ok: false,
      error: { kind: 'parity' },
      parity: { verdict: 'failed' },
    });
    expect(stderr).toMatch(/FAILED[\s\S]*^error: /m);
  });

  it('--quiet says nothing when all is well', async () => {
    const outcome = await runCompiled(['--src', weights, '--out', model, '--no-verify', '--quiet']);
    expect(outcome).toEqual({ code: 0, signal: null, stdout: '', stderr: '' });
  });
});

describe.skipIf(process.platform === 'win32')('a stopped program', () => {
  let silent: Server;
  let endpoint: string;
  /** called when a request arrives, which is never answered */
  let onRequest: () => void = () => undefined;
  beforeAll(async () => {
    silent = createServer(() => {
      onRequest();
    });
    await new Promise<void>((done) => silent.listen(0, '127.0.0.1', done));
    endpoint = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`;
  });
  afterAll(() => {
    silent.closeAllConnections();
    silent.close();
  });

  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('%s while a server does not answer: %d', async (signal, code) => {
    const out = mkdtempSync(join(folder, 'stopped-'));
    const outcome = await runCompiled(
      ['--src', 'hf:owner/repo/model.safetensors', '--out', join(out, 'model.onnx'), '--json'],
      {
        env: cleanEnv({ HF_ENDPOINT: endpoint, HF_HUB_OFFLINE: '', HF_HOME: join(out, 'hub') }),
        whenStarted: (_, stop) => {
          onRequest = () => {
            stop(signal);
          };
        },
      },
    );
    expect({ code: outcome.code, signal: outcome.signal }).toEqual({ code, signal: null });
    expect(JSON.parse(outcome.stdout)).toMatchObject({
      ok: false,
      error: { kind: 'interrupted', exitCode: code },
    });
    expect(outcome.stderr).not.toMatch(/^ {4}at /m);
    expect(readdirSync(out).filter((name) => name !== 'hub')).toEqual([]);
  });

  it('SIGINT to the whole group, as a terminal sends it, while the file is verified: 130, no litter, the old file intact', async () => {
    const out = mkdtempSync(join(folder, 'stopped-'));
    const target = join(out, 'model.onnx');
    writeFileSync(target, 'what was there before');
    // Many inputs: it cannot be done before the signal arrives.
    const outcome = await runCompiled(['--src', weights, '--out', target, '--samples', '1000', '--json'], {
      detached: true,
      whenStarted: (pid) => {
        const watch = setInterval(() => {
          const staging = readdirSync(out).find((name) => name.startsWith('.convert-beit-'));
          if (staging === undefined || !existsSync(join(out, staging, 'model.onnx'))) return;
          clearInterval(watch);
          process.kill(-pid, 'SIGINT');
        }, 5);
      },
    });
    expect({ code: outcome.code, signal: outcome.signal }).toEqual({ code: 130, signal: null });
    expect(JSON.parse(outcome.stdout)).toMatchObject({ ok: false, error: { kind: 'interrupted' } });
    expect(readdirSync(out)).toEqual(['model.onnx']);
    expect(readFileSync(target, 'utf8')).toBe('what was there before');
  });
});

describe.skipIf(process.platform === 'win32')('stdout', () => {
  it('a reader that goes away is no error', async () => {
    const child = spawn(process.execPath, [MAIN, 'inspect', weights, '--json'], { env: cleanEnv() });
    child.stdout.destroy();
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    const code = await new Promise((done) => child.on('close', done));
    expect({ code, stderr: stderr.replace(/^note: .*\n/gm, '') }).toEqual({ code: 0, stderr: '' });
  });

  it.skipIf(!existsSync('/dev/full'))('a full disk is one', () => {
    const { status, stderr } = spawnSync('sh', ['-c', '"$NODE" "$MAIN" list > /dev/full'], {
      encoding: 'utf8',
      env: { ...cleanEnv(), NODE: process.execPath, MAIN },
    });
    expect(status).toBe(1);
    expect(stderr).toContain('error: cannot write to stdout: ENOSPC');
  });
});

describe('inspect --stats', () => {
  it('shows modules, pictures and weights', async () => {
    const { stdout, code } = await runCompiled(['inspect', weights, '--stats']);
    expect(code).toBe(0);
    for (const text of [
      /^pictures resize short side to 36/m,
      /^weights {2}nothing unusual/m,
      /^model +32×32 pixels, 65 tokens +42,938 +3\.4 M$/m,
      /^│ │ ├ qkv +32 → 96 +3,136 +200 k$/m,
      /^backbone\.layers\.0\.gamma_1 +0\.159 +1\.03 +0\.567 +0\.219 +0$/m,
    ]) {
      expect(stdout).toMatch(text);
    }
  });

  it('is the same as JSON', async () => {
    const { stdout } = await runCompiled(['inspect', weights, '--stats', '--json']);
    const { modules, statistics, preprocessing, published } = JSON.parse(stdout) as Record<string, never>;
    expect(modules).toMatchObject({ parameters: 42_938, flops: 3_368_224 });
    expect(statistics).toMatchObject({ unusual: [], groups: { head: { nan: 0, infinite: 0 } } });
    expect(preprocessing).toMatchObject({ crop: [32, 32] });
    expect(published).toEqual([]);
  });

  it('reads no weights without it', async () => {
    const { stdout } = await runCompiled(['inspect', weights, '--json']);
    expect(JSON.parse(stdout)).not.toHaveProperty('statistics');
  });
});
