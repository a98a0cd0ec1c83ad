import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NetworkError, UsageError } from '../../src/errors.js';
import { hashFolder } from '../../src/release/files.js';
import { checkRepository, planPush, push, type PushOptions } from '../../src/release/push.js';
import type { ReleasedFile } from '../../src/release/record.js';
import { HubWriteServer } from '../support/hub-write-server.js';

let server: HubWriteServer;
let folder: string;
let files: ReleasedFile[];
let options: PushOptions;

beforeEach(async () => {
  server = new HubWriteServer();
  await server.start();
  folder = await mkdtemp(join(tmpdir(), 'convert-beit-push-'));
  await mkdir(join(folder, 'onnx'));
  await writeFile(join(folder, 'README.md'), '# card\n');
  await writeFile(join(folder, 'config.json'), '{}\n');
  await writeFile(join(folder, 'onnx', 'model.onnx'), new Uint8Array(100_000).fill(7));
  files = await hashFolder(folder);
  options = { title: 'Release', env: { HF_ENDPOINT: server.url, HF_TOKEN: 'hf_good', HOME: folder } };
});
afterEach(async () => {
  await server.stop();
  await rm(folder, { recursive: true });
});

const pushAll = async (more: Partial<PushOptions> = {}) => {
  const all = { ...options, ...more };
  return push(await planPush('me/beit', folder, files, all), folder, all);
};

describe('push', () => {
  it('creates the repository and commits everything at once', async () => {
    const plan = await planPush('me/beit', folder, files, options);
    expect(plan).toMatchObject({ repo: 'me/beit', createsRepository: true });
    expect(plan.changes.map(({ path, change }) => [path, change])).toEqual([
      ['README.md', 'add'],
      ['config.json', 'add'],
      ['onnx/model.onnx', 'add'],
    ]);
    expect(server.repositories.size).toBe(0);
    const seen: string[] = [];
    const pushed = await push(plan, folder, { ...options, onProgress: (file) => seen.push(file) });
    const repository = server.repositories.get('me/beit')!;
    expect(pushed.url).toMatch(/\/me\/beit\/commit\/[0-9a-f]{40}$/);
    expect(repository.isPrivate).toBe(false);
    expect(repository.commits).toEqual([
      { title: 'Release', paths: ['README.md', 'config.json', 'onnx/model.onnx'], pullRequest: false },
    ]);
    expect([...repository.lfs]).toEqual(['onnx/model.onnx']);
    expect(seen).toContain('onnx/model.onnx');
  });

  it('does nothing the second time, and sends only what changed the third', async () => {
    await pushAll();
    expect(await pushAll()).toEqual({ repo: 'me/beit' });
    await writeFile(join(folder, 'README.md'), '# a better card\n');
    files = await hashFolder(folder);
    const plan = await planPush('me/beit', folder, files, options);
    expect(plan.changes.map(({ path, change }) => [path, change])).toEqual([
      ['README.md', 'update'],
      ['config.json', 'same'],
      ['onnx/model.onnx', 'same'],
    ]);
    await push(plan, folder, options);
    const { commits } = server.repositories.get('me/beit')!;
    expect(commits.map(({ paths }) => paths)).toEqual([
      ['README.md', 'config.json', 'onnx/model.onnx'],
      ['README.md'],
    ]);
  });

  it('makes a private repository, and a pull request', async () => {
    await pushAll({ private: true });
    expect(server.repositories.get('me/beit')!.isPrivate).toBe(true);
    await writeFile(join(folder, 'config.json'), '{"a":1}\n');
    files = await hashFolder(folder);
    const pushed = await pushAll({ pullRequest: true });
    expect(pushed.pullRequest).toBe(`${server.url}/me/beit/discussions/1`);
    expect(server.repositories.get('me/beit')!.files.get('config.json')!.toString()).toBe('{}\n');
  });

  it.each([
    ['429, then free', { match: /preupload/, status: 429, headers: { 'retry-after': '0' }, times: 1 }],
    ['503 twice', { match: /POST .*commit/, status: 503, headers: { 'retry-after': '0' }, times: 2 }],
    ['502 from the store', { match: /PUT \/store/, status: 502, headers: { 'retry-after': '0' }, times: 1 }],
    ['a cut upload', { match: /PUT \/store/, status: 0, cut: true, times: 1 }],
    ['a cut commit', { match: /POST .*commit/, status: 0, cut: true, times: 1 }],
  ])('gets over %s', async (_, trouble) => {
    server.troubles = [trouble];
    await pushAll();
    expect(server.repositories.get('me/beit')!.commits).toHaveLength(1);
    expect(server.repositories.get('me/beit')!.files.size).toBe(3);
  });

  it.each([
    ['401', { match: /create/, status: 401 }, 'the access token is not accepted (401'],
    [
      '403 on creation',
      { match: /create/, status: 403 },
      'the access token has no right to write there (403',
    ],
    ['403 on commit', { match: /commit/, status: 403 }, 'the access token has no right to write there (403'],
    ['409 on commit', { match: /commit/, status: 409 }, 'the repository was changed at the same moment (409'],
    ['429 for good', { match: /preupload/, status: 429, headers: { 'retry-after': '0' } }, 'it asks to wait'],
    [
      '500 for good',
      { match: /commit/, status: 500, headers: { 'retry-after': '0' } },
      'it has an error of its own (500',
    ],
    ['uploads cut for good', { match: /PUT \/store/, status: 0, cut: true }, 'did not take me/beit'],
  ])('publishes nothing on %s', async (_, trouble, message) => {
    server.troubles = [{ ...trouble, times: 99 }];
    const failed = pushAll();
    await expect(failed).rejects.toThrow(NetworkError);
    await expect(failed).rejects.toThrow(message);
    expect([...(server.repositories.get('me/beit')?.files.keys() ?? [])]).toEqual([]);
  });

  it('needs a token, and a hub that may be asked', async () => {
    await expect(pushAll({ env: { HF_ENDPOINT: server.url, HOME: folder } })).rejects.toThrow(
      'pushing to me/beit needs an access token',
    );
    await expect(pushAll({ env: { ...options.env, HF_HUB_OFFLINE: '1' } })).rejects.toThrow(UsageError);
    expect(server.requests).toEqual([]);
  });

  it('says who does not answer', async () => {
    const { url } = server;
    await server.stop();
    await expect(pushAll()).rejects.toThrow(`${url} did not take me/beit: ECONNREFUSED`);
    await server.start();
  });

  it.each(['beit', 'a/b/c', '../x', 'me/..', 'me/a--b', 'me/ä', ''])('refuses %j as a name', (name) => {
    expect(() => checkRepository(name)).toThrow(UsageError);
  });
});
