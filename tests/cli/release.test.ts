/** The compiled program: releases and folders, killed, repeated, pushed. */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hashFolder } from '../../src/release/files.js';
import { HubWriteServer } from '../support/hub-write-server.js';
import { cleanEnv, runCompiled } from './harness.js';

const run = promisify(execFile);
const root = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const ZOO = root('fixtures/zoo-tiny.yaml');
const DEMO = root('fixtures/demo/beit_demo_patch8_64.safetensors');
const hasSums = existsSync('/usr/bin/sha256sum');

let folder: string;
let reference: Record<string, string>;
let seconds: number;
const at = (name: string): string => join(folder, name);

async function content(path: string): Promise<Record<string, string>> {
  const files = await hashFolder(path);
  return Object.fromEntries(
    files.filter((file) => !file.path.startsWith('.release/')).map((file) => [file.path, file.sha256]),
  );
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'convert-beit-cli-release-'));
  const start = performance.now();
  const outcome = await runCompiled(['release', ZOO, '--out', at('first')]);
  seconds = (performance.now() - start) / 1000;
  expect(outcome.code, outcome.stderr).toBe(0);
  reference = await content(at('first'));
});
afterAll(() => rm(folder, { recursive: true }));

describe('release', () => {
  it('the tiny zoo is made offline in less than a minute, with everything that clients need', () => {
    expect(seconds).toBeLessThan(60);
    expect(Object.keys(reference)).toEqual(
      expect.arrayContaining([
        'README.md',
        'SHA256SUMS',
        'metafile.yml',
        'release.json',
        'beit-demo/README.md',
        'beit-demo/SHA256SUMS',
        'beit-demo/config.json',
        'beit-demo/model.safetensors',
        'beit-demo/onnx/model.onnx',
        'beit-demo/onnx/model_fp16.onnx',
        'beit-demo/onnx/model_quantized.onnx',
        'beit-demo/parity.html',
        'beit-demo/parity.json',
        'beit-demo/preprocessor_config.json',
        'beit-v2-tiny/onnx/model_fp16.onnx',
      ]),
    );
  });

  it('gives the same bytes in another folder', async () => {
    const outcome = await runCompiled(['release', ZOO, '--out', at('second'), '--json'], { cwd: folder });
    expect(outcome.code, outcome.stderr).toBe(0);
    expect(JSON.parse(outcome.stdout)).toMatchObject({
      ok: true,
      items: [{ name: 'beit-demo', status: 'built' }, { status: 'built' }, { status: 'built' }],
    });
    expect(await content(at('second'))).toEqual(reference);
  });

  it.skipIf(!hasSums)('sha256sum agrees, over all and in every folder', async () => {
    for (const place of ['first', 'first/beit-demo', 'first/beit-v1-tiny', 'first/beit-v2-tiny']) {
      const { stdout } = await run('sha256sum', ['-c', 'SHA256SUMS'], { cwd: at(place) });
      expect(stdout, place).not.toMatch(/FAILED/);
    }
  });

  it('killed at any moment and run again, it ends with the same bytes', async () => {
    const out = at('killed');
    // From the very start to the last files; a seeded walk, so that a failure can be had again.
    for (const share of [0.12, 0.31, 0.47, 0.58, 0.71, 0.83, 0.93]) {
      await runCompiled(['release', ZOO, '--out', out, '--quiet'], {
        whenStarted: (_, stop) => setTimeout(() => stop('SIGKILL'), share * seconds * 1000),
      });
    }
    const last = await runCompiled(['release', ZOO, '--out', out]);
    expect(last.code, last.stderr).toBe(0);
    expect(await content(out)).toEqual(reference);
    expect((await readdir(join(out, '.release'))).sort()).toEqual([
      'beit-demo.json',
      'beit-v1-tiny.json',
      'beit-v2-tiny.json',
    ]);
  }, 120_000);

  it('interrupted, it says how to go on: 130, no litter, what is finished stays', async () => {
    const out = at('interrupted');
    const { code, stderr } = await runCompiled(['release', ZOO, '--out', out], {
      whenStarted: (_, stop) => {
        const watch = setInterval(() => {
          if (!existsSync(join(out, '.release', 'beit-demo.json'))) return;
          clearInterval(watch);
          stop('SIGINT');
        }, 20);
      },
    });
    expect(stderr).toMatch(/interrupted; finished models are kept, run the same command to go on/);
    expect(stderr).not.toMatch(/: failed/);
    expect(code).toBe(130);
    expect(await readdir(out)).toEqual(['.release', 'beit-demo']);
    expect(await readdir(join(out, '.release'))).toEqual(['beit-demo.json']);
  });

  it('says progress item by item, and a summary at the end', async () => {
    const { stdout, stderr } = await runCompiled(['release', ZOO, '--out', at('first')]);
    expect(stderr).toMatch(/^1\/3 beit-demo: unchanged \(.* s\); 1 of 3 done$/m);
    expect(stdout).toMatch(/^beit-demo +unchanged +11 +2\.\d+ MB +passed/m);
    expect(stdout).toMatch(/3 of 3 models are in /);
  });

  it('a failing model: the others are made, its next step is said, exit code 1', async () => {
    const zoo = at('broken.yaml');
    await writeFile(
      zoo,
      `version: 1\nmodels:\n  - { name: gone, source: gone.safetensors }\n  - { name: demo, source: ${DEMO} }\n`,
    );
    const { code, stdout } = await runCompiled(['release', zoo, '--out', at('broken')]);
    expect(code).toBe(1);
    expect(stdout).toMatch(/gone: .*gone\.safetensors does not exist\n {2}next: A source is/);
    expect(stdout).toMatch(/1 of 2 models are in/);
    expect(await readdir(join(at('broken'), 'demo', 'onnx'))).toEqual(['model.onnx']);
  });

  it('only parity failures: exit code 4', async () => {
    // A precision that cannot hold this model.
    const zoo = at('lossy.yaml');
    await writeFile(
      zoo,
      `version: 1\nmodels:\n  - { name: a, source: ${root('fixtures/goldens/v2_no_qkv_bias/official.safetensors')}, dtype: [fp32, q4] }\n`,
    );
    const { code, stdout } = await runCompiled(['release', zoo, '--out', at('lossy')]);
    expect(stdout).toMatch(/a: .*does not reproduce/);
    expect(stdout).toMatch(/next: Nothing was written\. Keep more of it in float32/);
    expect(existsSync(join(at('lossy'), 'a'))).toBe(false);
    expect(code).toBe(4);
  });

  it('--plan needs no folder and no network', async () => {
    const { code, stdout } = await runCompiled(['release', root('scripts/zoo-official.yaml'), '--plan']);
    expect(code).toBe(0);
    expect(stdout.match(/^beit(?:v2)?-/gm)).toHaveLength(30);
    expect(stdout).toMatch(
      /^beit-large-patch16-512-pt22k-ft22kto1k +512 +306 M +fp32,fp16,q8,q4 +~2\.\d+ GB/m,
    );
    expect(stdout).toMatch(/30 models, 94 files, about \d+\.\d GB/);
  });

  it.each([
    ['no --out', ['release', ZOO], 2, /--out <folder> must be given/],
    [
      'a manifest that is none',
      ['release', 'nothing.yaml', '--plan'],
      3,
      /nothing\.yaml cannot be read \(ENOENT\)/,
    ],
    ['an unknown model', ['release', ZOO, '--plan', '--only', 'x'], 3, /has no model called x/],
    ['a shard beyond', ['release', ZOO, '--plan', '--shard', '3/2'], 2, /i\/n with i from 1 to n/],
    ['no amount', ['release', ZOO, '--plan', '--memory', 'much'], 2, /an amount such as 4GB/],
    [
      'one repository for three',
      ['release', ZOO, '--out', 'x', '--push', 'me/x'],
      2,
      /one repository for 3 models/,
    ],
    ['a dry run of nothing', ['release', ZOO, '--out', 'x', '--dry-run'], 2, /nothing is to be pushed/],
  ])('%s', async (_, args, code, message) => {
    const outcome = await runCompiled(args, { cwd: folder });
    expect(outcome.stderr).toMatch(message);
    expect(outcome.code).toBe(code);
  });

  it.each([
    ['4GB', 0],
    ['512MB', 0],
    ['1.5GiB', 0],
    ['4 XB', 2],
  ])('--memory %s', async (amount, code) => {
    expect((await runCompiled(['release', ZOO, '--plan', '--memory', amount])).code).toBe(code);
  });
});

describe('one model as a folder', () => {
  it('--out ending in a slash', async () => {
    const { code, stdout, stderr } = await runCompiled([
      ...['--src', DEMO, '--out', `${at('one')}/`, '--dtype', 'fp16', '--with-weights'],
    ]);
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(/fp16: passed, cosine 0\.99999/);
    expect(await readdir(at('one'))).toEqual([
      'README.md',
      'SHA256SUMS',
      'config.json',
      'model.safetensors',
      'onnx',
      'parity.html',
      'parity.json',
      'parity.svg',
      'preprocessor_config.json',
    ]);
    const config = JSON.parse(await readFile(join(at('one'), 'config.json'), 'utf8')) as Record<
      string,
      unknown
    >;
    expect(config).toMatchObject({
      model_type: 'beit',
      architectures: ['BeitForImageClassification'],
      layer_norm_eps: 1e-6,
      'transformers.js_config': { dtype: 'fp16' },
    });
  });

  it('--format hub into a folder that is there keeps what else it holds', async () => {
    await mkdir(at('there'));
    await writeFile(join(at('there'), 'notes.txt'), 'mine');
    const args = ['--src', DEMO, '--out', at('there'), '--format', 'hub', '--external-data'];
    expect((await runCompiled(args)).code).toBe(0);
    expect(await readFile(join(at('there'), 'notes.txt'), 'utf8')).toBe('mine');
    expect(await readdir(join(at('there'), 'onnx'))).toEqual(['model.onnx', 'model.onnx_data']);
    const config = await readFile(join(at('there'), 'config.json'), 'utf8');
    expect(JSON.parse(config)).toMatchObject({
      'transformers.js_config': { use_external_data_format: { 'model.onnx': 1 } },
    });
    expect((await runCompiled([...args, '--no-clobber'])).code).toBe(2);
  });

  it.each([
    ['--report', ['--report', 'r.html'], /has its own report/],
    ['--link', ['--link'], /a folder for the hub needs them/],
    ['--dynamic-size', ['--dynamic-size'], /a folder for the hub states one size/],
    ['--drop', ['--drop', 'x'], /--drop is for weights/],
    ['--push without a folder', ['--out', 'model.onnx', '--push', 'me/x'], /--push is for a folder/],
    [
      '--with-weights with --to',
      ['--to', 'transformers', '--with-weights'],
      /--with-weights is for a folder/,
    ],
  ])('%s', async (_, args, message) => {
    const out = args.includes('--out') ? [] : ['--out', 'x/'];
    const { code, stderr } = await runCompiled(['--src', DEMO, ...out, ...args], { cwd: folder });
    expect(stderr).toMatch(message);
    expect(code).toBe(2);
  });
});

describe('push', () => {
  let server: HubWriteServer;
  let env: NodeJS.ProcessEnv;
  beforeAll(async () => {
    server = new HubWriteServer();
    await server.start();
    env = cleanEnv({ HF_HUB_OFFLINE: '', HF_ENDPOINT: server.url, HF_TOKEN: 'hf_good', HF_HOME: folder });
  });
  afterAll(() => server.stop());

  const release = (...more: string[]) =>
    runCompiled(['release', ZOO, '--out', at('pushed'), '--push', 'me/{name}', ...more], { env });

  it('says what will change, sends it once, and nothing the second time', async () => {
    const dry = await release('--dry-run');
    expect(dry.code, dry.stderr).toBe(0);
    expect(dry.stderr).toMatch(/\/me\/beit-demo: new repository, 11 of 11 files to send/);
    expect(dry.stderr).toMatch(/^ {2}add onnx\/model_quantized\.onnx /m);
    expect(dry.stdout).toMatch(/would be pushed to me\/beit-v1-tiny \(--dry-run\)/);
    expect(server.repositories.size).toBe(0);
    const first = await release();
    expect(first.stdout).toMatch(/pushed to .*\/me\/beit-v2-tiny\/commit\//);
    expect([...server.repositories.keys()].sort()).toEqual([
      'me/beit-demo',
      'me/beit-v1-tiny',
      'me/beit-v2-tiny',
    ]);
    const { files, commits } = server.repositories.get('me/beit-demo')!;
    expect(commits).toHaveLength(1);
    expect([...files.keys()].sort()).toEqual(
      (await hashFolder(join(at('pushed'), 'beit-demo'))).map(({ path }) => path),
    );
    expect(files.get('README.md')!.toString()).toContain("'me/beit-demo'");
    const second = await release();
    expect(second.stdout).toMatch(/me\/beit-demo is up to date/);
    expect(server.repositories.get('me/beit-demo')!.commits).toHaveLength(1);
  });

  it('never pushes what was not verified: exit code 4, nothing sent', async () => {
    const before = server.requests.length;
    const args = ['--src', DEMO, '--out', `${at('unproven')}/`, '--no-verify', '--push', 'me/unproven'];
    const { code, stdout } = await runCompiled(args, { env });
    expect(code).toBe(4);
    expect(stdout).toMatch(
      /not pushed to me\/unproven: .* is not pushed: parity of onnx\/model\.onnx \(skipped\)/,
    );
    expect(server.requests.length).toBe(before);
  });

  it('one model, private', async () => {
    const args = ['--src', DEMO, '--out', `${at('mine')}/`, '--push', 'me/mine', '--private', '--json'];
    const { code, stdout, stderr } = await runCompiled(args, { env });
    expect(code, stderr).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ ok: true, pushed: [{ repo: 'me/mine' }] });
    expect(server.repositories.get('me/mine')!.isPrivate).toBe(true);
  });

  it('a wrong token: the models are there, the push failed', async () => {
    const args = ['--src', DEMO, '--out', `${at('refused')}/`, '--push', 'me/refused'];
    const { code, stdout } = await runCompiled(args, { env: { ...env, HF_TOKEN: 'hf_bad' } });
    expect(code).toBe(1);
    expect(stdout).toMatch(/not pushed to me\/refused: .*the access token is not accepted/);
    expect(stdout).not.toContain('hf_bad');
    expect(existsSync(join(at('refused'), 'onnx', 'model.onnx'))).toBe(true);
    expect(server.repositories.has('me/refused')).toBe(false);
  });
});
