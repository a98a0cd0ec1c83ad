/** Reading from a server in parts: what `inspect` moves, and that a conversion gives the same bytes. */
import { randomBytes } from 'node:crypto';
import { mkdtemp, open, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { convert, inspect } from '../../src/pipeline.js';
import { goldenPath } from '../convert/goldens.js';
import { unpackPth } from '../convert/pth-goldens.js';
import { FileServer } from '../support/file-server.js';
import { COMMIT, HubServer, sha256 } from '../support/hub-server.js';
import { largeCheckpoint } from '../support/large-checkpoint.js';

const MOST = 1_000_000;
const FIGURES = {
  layout: 'official',
  parameters: 86_530_984,
  flops: 17_581_219_584,
  weightElements: 86_530_984,
};

let folder: string;
let env: NodeJS.ProcessEnv;
let notes: string[];
const onNote = (note: string): void => void notes.push(note);
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'stream-'));
  env = { HF_HOME: folder, CONVERT_BEIT_CACHE: join(folder, 'downloads'), HF_TOKEN: 'hf_secret' };
  notes = [];
});
afterEach(() => rm(folder, { recursive: true, force: true }));

describe('a hub', () => {
  let hub: HubServer;
  const tiny = async (): Promise<Buffer> => readFile(goldenPath('v1_cls', 'official.safetensors'));
  beforeEach(async () => {
    hub = await HubServer.start();
    env.HF_ENDPOINT = hub.endpoint;
  });
  afterEach(() => hub.stop());

  it('inspect hf:… of a 350 MB safetensors moves less than 1 MB, and leaves no weights behind', async () => {
    const { size, pieces } = largeCheckpoint();
    const content = Buffer.alloc(size);
    for (const { at, bytes } of pieces) bytes.copy(content, at);
    expect(size).toBeGreaterThan(345_000_000);
    hub.files.set('model.safetensors', { content, lfs: true, sha256: 'ab'.repeat(32) });
    hub.files.set('config.json', { content: Buffer.from('{"architecture": "beit_base_patch16_224"}') });

    const found = await inspect({ src: 'hf:owner/model', env, onNote });
    expect(found).toMatchObject({
      ...FIGURES,
      layout: 'timm',
      bytes: size,
      id: `hf:owner/model@${COMMIT}/model.safetensors`,
    });
    expect(found.problem).toBeUndefined();
    expect(found.versionEvidence).toContain('config.json');
    console.info(`inspect moved ${hub.bytesWritten} bytes of ${size} in ${hub.seen.length} requests`);
    expect(hub.bytesWritten).toBeLessThan(MOST);
    const left = await readdir(folder, { recursive: true });
    expect(left.filter((name) => name.includes('safetensors') || name.includes('incomplete'))).toEqual([]);
  });

  it('--stream converts to the same bytes as a download, and the token stays with the hub', async () => {
    const bytes = await tiny();
    hub.files.set('model.safetensors', { content: bytes, lfs: true });
    const outputs = await Promise.all(
      [true, false].map(async (stream) => {
        const out = join(folder, `${stream}.onnx`);
        const result = await convert({ src: 'hf:owner/model', out, stream, env, verify: false });
        expect(result.source.files[0].sha256).toBe(sha256(bytes));
        return readFile(out);
      }),
    );
    expect(outputs[0].equals(outputs[1])).toBe(true);
    const cdn = hub.seen.filter((one) => one.on === 'cdn');
    expect(new Set(cdn.map((one) => one.authorization))).toEqual(new Set([undefined]));
    expect(cdn.some((one) => /-\d+$/.test(one.range ?? ''))).toBe(true);
  });

  it('a file that is in the cache already is read from there', async () => {
    hub.files.set('model.safetensors', { content: await tiny(), lfs: true });
    await inspect({ src: 'hf:owner/model', env, stream: false });
    const { sent } = hub;
    expect(sent).toBeGreaterThan(0);
    await inspect({ src: 'hf:owner/model', env });
    expect(hub.sent).toBe(sent);
  });

  it('bytes that are not those the hub vouches for are noticed when all have been read', async () => {
    const bytes = await tiny();
    hub.files.set('model.safetensors', { content: bytes, lfs: true, sha256: 'ab'.repeat(32) });
    const out = join(folder, 'x.onnx');
    await expect(convert({ src: 'hf:owner/model', out, stream: true, env, verify: false })).rejects.toThrow(
      /has sha256 [0-9a-f]{64}; (?:ab){32} was stated for it/,
    );
    expect((await readdir(folder)).filter((name) => name.includes('onnx'))).toEqual([]);
  });
});

describe('an address', () => {
  let server: FileServer;
  beforeEach(async () => {
    server = await FileServer.start();
  });
  afterEach(() => server.stop());

  it('inspect https://… of a sparse 350 MB file moves less than 1 MB', async () => {
    const { size, pieces } = largeCheckpoint();
    const path = join(folder, 'sparse.safetensors');
    const file = await open(path, 'w');
    await file.truncate(size);
    for (const { at, bytes } of pieces) await file.write(bytes, 0, bytes.length, at);
    await file.close();
    server.files.set('/m.safetensors', { content: { path, size }, headers: { etag: '"1"' } });
    const found = await inspect({ src: `${server.origin}/m.safetensors`, env, onNote });
    expect(found).toMatchObject({ ...FIGURES, bytes: size, id: `${server.origin}/m.safetensors` });
    console.info(`inspect moved ${server.sent} bytes of ${size} in ${server.seen.length} requests`);
    expect(server.sent).toBeLessThan(MOST);
    expect(await readdir(folder)).toEqual(['sparse.safetensors']);
  });

  it.each(['zip_official_full.pth', 'legacy_misc_globals.pth'])(
    '%s is read in parts as from the disk',
    async (name) => {
      const files = await mkdtemp(join(folder, 'pth-'));
      unpackPth(files);
      const path = join(files, name);
      server.files.set(`/${name}`, { content: await readFile(path), headers: { etag: '"1"' } });
      const { id, ...remote } = await inspect({ src: `${server.origin}/${name}`, env });
      const { id: local, ...same } = await inspect({ src: path, env });
      expect(remote).toEqual(same);
      expect([id, local]).toEqual([`${server.origin}/${name}`, name]);
    },
  );

  it('digits in the name are checked when a streamed file has been read to its end', async () => {
    const bytes = await readFile(goldenPath('v1_cls', 'official.safetensors'));
    const wrong = randomBytes(4).toString('hex').replace(/^[12]/, 'a');
    server.files.set(`/beit-${wrong}.safetensors`, { content: bytes });
    server.files.set(`/beit-${sha256(bytes).slice(0, 8)}.safetensors`, { content: bytes });
    const run = (name: string) =>
      convert({
        src: `${server.origin}/${name}`,
        out: join(folder, 'x.onnx'),
        stream: true,
        env,
        verify: false,
      });
    await expect(run(`beit-${wrong}.safetensors`)).rejects.toThrow(
      `has sha256 ${sha256(bytes)}; its name says that it begins with ${wrong}`,
    );
    expect(await readdir(folder)).toEqual([]);
    const { source } = await run(`beit-${sha256(bytes).slice(0, 8)}.safetensors`);
    expect(source.files[0].sha256).toBe(sha256(bytes));
  });
});
