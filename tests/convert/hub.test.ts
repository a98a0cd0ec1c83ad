/** What is downloaded from a hub on 127.0.0.1, and how it is kept. */
import { lstat, mkdir, readFile, readdir, readlink, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { cacheError } from '../../src/convert/sources/hub-errors.js';
import { EnvironmentError, FormatError, InputError } from '../../src/errors.js';
import {
  CONFIG,
  REPO,
  WEIGHTS,
  blob,
  cache,
  env,
  get,
  hub,
  setEnv,
  snapshot,
  useHub,
} from '../support/hub-case.js';
import { COMMIT, gitBlobId, sha256, type StoredFile } from '../support/hub-server.js';

useHub();

describe('what is downloaded', () => {
  it('resolves main to a commit, and says so', async () => {
    const progress: number[] = [];
    const found = await get('hf:owner/model', { progress: ({ bytes }) => progress.push(bytes) });
    expect(found).toMatchObject({
      path: snapshot('model.safetensors'),
      id: `hf:owner/model@${COMMIT}/model.safetensors`,
      commit: COMMIT,
      sha256: sha256(WEIGHTS),
    });
    expect(found.files?.map(({ file, bytes, sha256: hash }) => [file, bytes, hash])).toEqual([
      ['model.safetensors', WEIGHTS.length, sha256(WEIGHTS)],
      ['config.json', CONFIG.length, sha256(CONFIG)],
    ]);
    expect(sha256(await readFile(found.path))).toBe(sha256(WEIGHTS));
    expect(progress.includes(WEIGHTS.length) && progress[0] === 0).toBe(true);
  });

  it('lays the cache out as huggingface_hub does', async () => {
    await get('hf:owner/model@refs/pr/1');
    expect(await readlink(snapshot('model.safetensors'))).toBe(`../../blobs/${sha256(WEIGHTS)}`);
    expect(await readlink(snapshot('config.json'))).toBe(`../../blobs/${gitBlobId(CONFIG)}`);
    expect(await readFile(join(cache, REPO, 'refs', 'refs', 'pr', '1'), 'utf8')).toBe(COMMIT);
    expect((await lstat(blob(WEIGHTS))).isFile()).toBe(true);
    expect((await readdir(join(cache, REPO, 'blobs'))).sort()).toEqual(
      [sha256(WEIGHTS), gitBlobId(CONFIG)].sort(),
    );
    expect(await readdir(join(cache, '.locks', REPO))).toEqual([]);
  });

  it('reads what Python put there without a request', async () => {
    await mkdir(snapshot(), { recursive: true });
    await mkdir(dirname(blob(WEIGHTS)), { recursive: true });
    for (const [file, bytes, id] of [
      ['model.safetensors', WEIGHTS, sha256(WEIGHTS)],
      ['config.json', CONFIG, gitBlobId(CONFIG)],
    ] as const) {
      await writeFile(join(cache, REPO, 'blobs', id), bytes);
      await symlink(`../../blobs/${id}`, snapshot(file));
    }
    expect(await get(`hf:owner/model@${COMMIT}`)).toMatchObject({ sha256: sha256(WEIGHTS), commit: COMMIT });
    expect(hub.seen).toEqual([]);
  });

  const shard = (index: number): string => `model-0000${index}-of-00002.safetensors`;
  const indexOf = (...names: unknown[]): Buffer =>
    Buffer.from(JSON.stringify({ weight_map: Object.fromEntries(names.map((name, i) => [`t${i}`, name])) }));
  const small = (text: string): StoredFile => ({ content: Buffer.from(text) });

  const CHOICES: [name: string, files: Record<string, StoredFile>, chosen: string, count: number][] = [
    [
      'model.safetensors first',
      { 'model.safetensors': small('a'), 'b.safetensors': small('b') },
      'model.safetensors',
      1,
    ],
    [
      'an index with all its shards',
      {
        'model.safetensors.index.json': { content: indexOf(shard(1), shard(2), shard(1)) },
        [shard(1)]: small('one'),
        [shard(2)]: small('two'),
        'README.md': small('-'),
      },
      'model.safetensors.index.json',
      3,
    ],
    [
      'the only one, wherever',
      { 'sub/x.safetensors': small('x'), 'sub/config.json': small('{}') },
      'sub/x.safetensors',
      2,
    ],
    [
      'pytorch_model.bin, beside other files of a trainer',
      { 'pytorch_model.bin': small('p'), 'training_args.bin': small('t'), 'other.pth': small('o') },
      'pytorch_model.bin',
      1,
    ],
    ['the only PyTorch file there is', { 'beit.pth': small('b'), 'optimizer.pt': small('o') }, 'beit.pth', 1],
  ];

  it.each(CHOICES)('takes %s', async (_, files, chosen, count) => {
    hub.files.clear();
    for (const [name, file] of Object.entries(files)) hub.files.set(name, file);
    const found = await get();
    expect(found.path).toBe(snapshot(...chosen.split('/')));
    expect(found.files).toHaveLength(count);
    for (const { file, path } of found.files!) expect(await readFile(path)).toEqual(files[file].content);
    await hub.stop();
    expect(await get(`hf:owner/model@${COMMIT}/${chosen}`)).toEqual(found);
  });

  const NOTHING: [name: string, files: string[], message: RegExp, next: RegExp][] = [
    [
      'no weights',
      ['training_args.bin', 'README.md'],
      /no safetensors or PyTorch file; it holds training_args.bin, README.md/,
      /Give a repository/,
    ],
    ['several PyTorch files', ['a.pth', 'b.bin'], /several models: a.pth, b.bin/, /hf:owner\/model\/a.pth/],
    ['nothing', [], /it is empty/, /Give a repository/],
    [
      'several',
      ['a.safetensors', 'b.safetensors'],
      /several models: a.safetensors, b.safetensors/,
      /hf:owner\/model\/a.safetensors/,
    ],
  ];

  it.each(NOTHING)('a repository with %s', async (_, names, message, next) => {
    hub.files.clear();
    for (const name of names) hub.files.set(name, small(name));
    const failed = get();
    await expect(failed).rejects.toThrow(message);
    await expect(failed).rejects.toMatchObject({
      constructor: InputError,
      next: expect.stringMatching(next),
    });
  });

  it.each<[string, Buffer, RegExp]>([
    ['a way out', indexOf('../../x.safetensors'), /names the shard "\.\.\/\.\.\/x\.safetensors"/],
    ['an absolute path', indexOf('/etc/x.safetensors'), /names the shard/],
    ['a subfolder', indexOf('sub/x.safetensors'), /names the shard/],
    ['another kind of file', indexOf('x.pth'), /names the shard/],
    ['a number', indexOf(7), /names the shard 7/],
    ['nothing', indexOf(), /names 0 shards/],
    ['no map', Buffer.from('[]'), /no "weight_map"/],
    ['no JSON', Buffer.from('<html>'), /no "weight_map"/],
  ])('an index that names %s', async (_, content, message) => {
    hub.files.clear();
    hub.files.set('model.safetensors.index.json', { content });
    const failed = get();
    await expect(failed).rejects.toThrow(message);
    await expect(failed).rejects.toBeInstanceOf(FormatError);
  });

  it('a shard that the repository lacks is named', async () => {
    hub.files.clear();
    hub.files.set('model.safetensors.index.json', { content: indexOf('x.safetensors') });
    await expect(get()).rejects.toThrow(
      /hf:owner\/model@main\/x\.safetensors does not exist at commit c0ffee/,
    );
  });
});

describe('settings', () => {
  it.each<[string, (root: string) => NodeJS.ProcessEnv, string[]]>([
    [
      'HF_HUB_CACHE',
      (root) => ({ HF_HUB_CACHE: join(root, 'c'), HF_HOME: root, HUGGINGFACE_HUB_CACHE: root }),
      ['c'],
    ],
    ['HUGGINGFACE_HUB_CACHE', (root) => ({ HUGGINGFACE_HUB_CACHE: join(root, 'd'), HF_HOME: root }), ['d']],
    ['HF_HOME', (root) => ({ HF_HOME: root, XDG_CACHE_HOME: '/nowhere' }), ['hub']],
    ['XDG_CACHE_HOME', (root) => ({ XDG_CACHE_HOME: root }), ['huggingface', 'hub']],
    ['HOME', (root) => ({ HOME: root }), ['.cache', 'huggingface', 'hub']],
    ['~', (root) => ({ HOME: root, HF_HOME: '~/x' }), ['x', 'hub']],
    ['$NAME', (root) => ({ BASE: root, HF_HUB_CACHE: '${BASE}/$MINE', MINE: 'y' }), ['y']],
  ])('%s says where the cache is', async (_, make, place) => {
    setEnv({ HF_ENDPOINT: `${hub.endpoint}/`, ...make(cache) });
    expect((await get()).path).toBe(join(cache, ...place, REPO, 'snapshots', COMMIT, 'model.safetensors'));
  });

  it.each([
    ['hub.example.org', /HF_ENDPOINT is "hub\.example\.org", which is not a URL/],
    ['ftp://hub.example.org', /an http\(s\) address without/],
    ['http://user:pw@127.0.0.1', /^HF_ENDPOINT holds a user name or a password; /],
  ])('HF_ENDPOINT=%s is refused', async (endpoint, message) => {
    env.HF_ENDPOINT = endpoint;
    const failed = get();
    await expect(failed).rejects.toThrow(message);
    await expect(failed).rejects.toMatchObject({ exitCode: 2 });
  });

  it('an endpoint below a path works', async () => {
    const seen: string[] = [];
    env.HF_ENDPOINT = `${hub.endpoint}/hf/mirror`;
    await get('hf:owner/model', {
      fetch: (input, init) => {
        const url = new URL(input instanceof Request ? input.url : String(input));
        seen.push(url.pathname);
        url.pathname = url.pathname.replace('/hf/mirror', '');
        return fetch(url, init);
      },
    });
    expect(seen).toContain('/hf/mirror/api/models/owner/model/revision/main');
    expect(seen).toContain(`/hf/mirror/owner/model/resolve/${COMMIT}/model.safetensors`);
  });

  it('a cache that cannot be written is the environment’s fault', async () => {
    await writeFile(join(cache, 'file'), '');
    env.HF_HUB_CACHE = join(cache, 'file');
    const failed = get();
    await expect(failed).rejects.toBeInstanceOf(EnvironmentError);
    await expect(failed).rejects.toMatchObject({ next: expect.stringContaining('HF_HUB_CACHE') });
  });

  it.each([
    ['ENOSPC', /blobs\/x: the disk is full \(ENOSPC\)/, /Free room.*goes on where it stopped/],
    ['EDQUOT', /the disk is full/, /Free room/],
    ['EACCES', /the cache cannot be written \(EACCES\)/, /Set HF_HUB_CACHE/],
  ])('%s from the file system', (code, message, next) => {
    const error = cacheError(
      Object.assign(new Error(code), { code, syscall: 'write' }),
      'blobs/x',
    ) as EnvironmentError;
    expect(error).toBeInstanceOf(EnvironmentError);
    expect(error.message).toMatch(message);
    expect(error.next).toMatch(next);
  });

  it('nothing is printed', async () => {
    const spies = [
      ...(['log', 'info', 'debug', 'warn', 'error'] as const).map((name) => vi.spyOn(console, name)),
      vi.spyOn(process.stdout, 'write'),
    ];
    hub.faults.push({ on: 'cdn', cutAfter: 1000 });
    await get();
    const calls = spies.flatMap((spy) => spy.mock.calls);
    vi.restoreAllMocks();
    expect(calls).toEqual([]);
  });
});
