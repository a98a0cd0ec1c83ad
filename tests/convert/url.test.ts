/** Files at plain addresses, OpenMMLab's among them: downloaded, remembered, resumed, checked. */
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { isPublishedAddress } from '../../src/convert/catalog.js';
import { parseSource, resolveSource, type ResolveOptions } from '../../src/convert/source.js';
import { digestInName, downloadFolder } from '../../src/convert/sources/url-cache.js';
import {
  EnvironmentError,
  FormatError,
  InputError,
  InterruptedError,
  NetworkError,
} from '../../src/errors.js';
import { FileServer, type Misdeed } from '../support/file-server.js';
import { sha256 } from '../support/hub-server.js';

const BYTES = Buffer.alloc(300_000, 'weights ');
const SHA = sha256(BYTES);
const HEADERS = { etag: '"one"' };
const NAMED = `beit-${SHA.slice(0, 8)}.pth`;

let server: FileServer;
/** an address where nobody listens */
let nobody: string;
let cache: string;
let notes: string[];
let env: NodeJS.ProcessEnv;
beforeAll(async () => {
  const gone = await FileServer.start();
  nobody = gone.origin;
  await gone.stop();
});
beforeEach(async () => {
  server = await FileServer.start();
  server.files.set('/w.bin', { content: BYTES, headers: HEADERS });
  server.files.set(`/${NAMED}`, { content: BYTES, headers: HEADERS });
  cache = await mkdtemp(join(tmpdir(), 'url-'));
  env = { CONVERT_BEIT_CACHE: cache, HF_HOME: cache, HF_ENDPOINT: nobody };
  notes = [];
});
afterEach(async () => {
  await server.stop();
  await rm(cache, { recursive: true, force: true });
});

const get = (text = '/w.bin', options: ResolveOptions = {}) =>
  resolveSource(parseSource(text.startsWith('/') ? server.origin + text : text), {
    env,
    onNote: (note) => notes.push(note),
    sleep: () => new Promise((done) => setTimeout(done, 2)),
    silence: 2000,
    ...options,
  });

/** Everything that is left, below the folder of the one host. */
async function left(): Promise<string[]> {
  const all = await readdir(cache, { recursive: true, withFileTypes: true });
  return all.filter((one) => one.isFile()).map((one) => relative(cache, join(one.parentPath, one.name)));
}
const names = async (): Promise<string[]> => (await left()).map((path) => path.split('/').at(-1)!).sort();
const ranges = (): string[] => server.seen.map(({ range }) => range?.replace('bytes=', '') ?? 'all');

describe('a download', () => {
  it('is kept under the name it had, with its sha256 beside it, and named by its address', async () => {
    const found = await get('/w.bin?key=secret');
    expect(found).toStrictEqual({ path: found.path, sha256: SHA, id: `${server.origin}/w.bin` });
    expect(await readFile(found.path)).toEqual(BYTES);
    expect(await readFile(`${found.path}.sha256`, 'utf8')).toBe(`${SHA}  w.bin\n`);
    expect(await names()).toEqual(['w.bin', 'w.bin.sha256']);
    expect((await left()).join()).not.toContain('secret');
  });

  it('is not repeated while the server has the same version', async () => {
    const first = await get();
    server.sent = 0;
    expect(await get()).toStrictEqual(first);
    expect(server.sent).toBe(1);
  });

  it.each([
    ['another etag', { etag: '"two"' }, BYTES],
    ['another length', HEADERS, BYTES.subarray(5)],
  ])('is repeated for %s, and the old one goes', async (_, headers, content) => {
    await get();
    server.files.set('/w.bin', { content, headers });
    const found = await get();
    expect((await readFile(found.path)).equals(content)).toBe(true);
    expect(await names()).toEqual(['w.bin', 'w.bin.sha256']);
  });

  it('addresses that differ in their query are different files', async () => {
    const [one, two] = [await get('/w.bin?v=1'), await get('/w.bin?v=2')];
    expect(one.path).not.toBe(two.path);
    expect(await names()).toEqual(['w.bin', 'w.bin', 'w.bin.sha256', 'w.bin.sha256']);
  });

  it('stands in while the server cannot be reached, and that is said', async () => {
    const found = await get();
    server.misdeeds.push({ status: 503 });
    expect(await get()).toStrictEqual(found);
    expect(notes).toEqual([
      expect.stringMatching(/\/w\.bin: the server is in trouble .*; using what was downloaded before$/),
    ]);
    const { origin } = server;
    await server.stop();
    expect((await get(`${origin}/w.bin`)).path).toBe(found.path);
    server = await FileServer.start();
  });

  it('stands in without a request under HF_HUB_OFFLINE; without it that is an error', async () => {
    const found = await get();
    env.HF_HUB_OFFLINE = '1';
    server.seen.length = 0;
    expect(await get()).toStrictEqual(found);
    await expect(get('/other.bin')).rejects.toThrow(/has not been downloaded before: HF_HUB_OFFLINE is set/);
    expect(server.seen).toEqual([]);
  });

  it('of an index brings the shards beside it', async () => {
    const index = { weight_map: { a: 'm-1.safetensors', b: 'm-2.safetensors' } };
    server.files.set('/d/m.safetensors.index.json', {
      content: Buffer.from(JSON.stringify(index)),
      headers: HEADERS,
    });
    for (const n of [1, 2])
      server.files.set(`/d/m-${n}.safetensors`, { content: Buffer.from(`${n}`), headers: HEADERS });
    const found = await get('/d/m.safetensors.index.json');
    const shard = await found.open!(join(dirname(found.path), 'm-2.safetensors'));
    expect(Buffer.from(await shard.read(0, 1)).toString()).toBe('2');
    await shard.close();
  });

  it('by two at once happens once', async () => {
    const found = await Promise.all([get(), get()]);
    expect(found[0].path).toBe(found[1].path);
    expect(ranges().filter((range) => range !== '0-0')).toEqual(['all']);
    expect(await names()).toEqual(['w.bin', 'w.bin.sha256']);
  });

  it('sends the token of the hub to the hub only', async () => {
    env.HF_TOKEN = 'hf_secret';
    await get();
    expect(new Set(server.seen.map((one) => one.authorization))).toEqual(new Set([undefined]));
    env.HF_ENDPOINT = server.origin;
    server.seen.length = 0;
    await get('/w.bin?again');
    expect(new Set(server.seen.map((one) => one.authorization))).toEqual(new Set(['Bearer hf_secret']));
  });
});

describe('interruptions', () => {
  it('a cut download goes on where it was cut', async () => {
    server.misdeeds.push({ headers: {} }, { cutAfter: 100_000 });
    expect((await get()).sha256).toBe(SHA);
    expect(ranges()).toEqual(['0-0', 'all', '100000-']);
  });

  it('a stopped one leaves a part to go on with, and nothing else', async () => {
    const stop = new AbortController();
    const progress = ({ bytes }: { bytes: number }): void => {
      if (bytes > 0) stop.abort();
    };
    await expect(get('/w.bin', { signal: stop.signal, progress })).rejects.toBeInstanceOf(InterruptedError);
    expect(await names()).toEqual(['w.bin.incomplete']);
    const before = (await readFile(join(cache, (await left())[0]))).length;
    expect(before).toBeGreaterThan(0);
    expect((await get()).sha256).toBe(SHA);
    if (before < BYTES.length) expect(ranges().at(-1)).toBe(`${before}-`);
    expect(await names()).toEqual(['w.bin', 'w.bin.sha256']);
  });

  it('a part of another version is not gone on with', async () => {
    server.misdeeds.push({ headers: {} }, ...new Array<Misdeed>(9).fill({ cutAfter: 0 }));
    await expect(get()).rejects.toBeInstanceOf(NetworkError);
    server.misdeeds.length = 0;
    const [part] = await left();
    await writeFile(join(cache, part), 'old bytes');
    server.files.set('/w.bin', { content: BYTES, headers: { etag: '"two"' } });
    expect((await get()).sha256).toBe(SHA);
    expect(await names()).toEqual(['w.bin', 'w.bin.sha256']);
  });

  it('without any mark of the version, a part is not gone on with', async () => {
    server.files.set('/w.bin', { content: BYTES });
    server.misdeeds.push({ headers: {} }, ...new Array<Misdeed>(9).fill({ cutAfter: 0 }));
    await expect(get()).rejects.toBeInstanceOf(NetworkError);
    server.misdeeds.length = 0;
    await writeFile(join(cache, (await left())[0]), 'old bytes');
    expect((await get()).sha256).toBe(SHA);
    expect(ranges().at(-1)).toBe('all');
  });
});

describe('a name that carries the first digits of its sha256', () => {
  it.each([
    ['beit-base_3rdparty_in1k_20221114-c0a4df23.pth', 'c0a4df23'],
    ['resnet50-0676ba61.pt', '0676ba61'],
    ['model-20221114.pth', undefined],
    ['model-20221399.pth', '20221399'],
    ['model-C0A4DF23.pth', undefined],
    ['model_c0a4df23.pth', undefined],
    ['model-c0a4df231.pth', undefined],
    ['c0a4df23.pth', undefined],
    ['x-c0a4df23.txt', undefined],
  ])('%s: %s', (name, digits) => {
    expect(digestInName(name)).toBe(digits);
  });

  it('is held against it, and that is said', async () => {
    expect(await get(`/${NAMED}`)).toMatchObject({ sha256: SHA, sha256Prefix: SHA.slice(0, 8) });
    expect(notes).toEqual([`${NAMED}: its sha256 begins with ${SHA.slice(0, 8)}, as its name says`]);
  });

  it('is asked for once only: the name never means another content', async () => {
    await get(`/${NAMED}`);
    server.seen.length = 0;
    await get(`/${NAMED}`);
    expect(server.seen).toEqual([]);
  });

  it.each([
    ['other bytes', Buffer.alloc(300_000, 'x')],
    ['a sign-in page that says it is a file', Buffer.from('<html>sign in</html>')],
  ])('with %s is refused, and nothing is kept', async (_, content) => {
    server.files.set(`/${NAMED}`, { content, headers: HEADERS });
    const failed = get(`/${NAMED}`);
    await expect(failed).rejects.toThrow(
      `${NAMED} arrived with sha256 ${sha256(content)}; its name says that it begins with ${SHA.slice(0, 8)}`,
    );
    await expect(failed).rejects.toMatchObject({ constructor: FormatError, exitCode: 3 });
    expect(await names()).toEqual([]);
  });
});

describe('what a server may do wrong', () => {
  const page = { status: 200, headers: { 'content-type': 'text/html' }, body: '<html>' };
  const good = { headers: {} };
  const FAILING: [name: string, misdeeds: Misdeed[], kind: new () => Error, message: RegExp][] = [
    [
      '404',
      [{ status: 404 }],
      NetworkError as never,
      /\/w\.bin: there is no such file \(the server answers 404\)/,
    ],
    ['403', [{ status: 403 }], NetworkError as never, /it is not open to everybody/],
    [
      'a long wait',
      [{ status: 429, headers: { 'retry-after': '999' } }],
      NetworkError as never,
      /too many requests \(the server answers 429, and asks to wait 999 s\)/,
    ],
    ['a sign-in page', [page], NetworkError as never, /is a web page \(text\/html\), not a file/],
    [
      'gzip',
      [{ ignoreRange: true, headers: { 'content-encoding': 'gzip' } }],
      NetworkError as never,
      /comes compressed \(content-encoding: gzip\)/,
    ],
    [
      'no length',
      [{ ignoreRange: true, headers: { 'content-length': '' } }],
      NetworkError as never,
      /does not say how long the file is/,
    ],
    ['an empty file', [{ status: 200 }], InputError as never, /is an empty file/],
    [
      'another length than it said before',
      [good, { headers: { 'content-length': '299999' }, body: BYTES.subarray(1) }],
      NetworkError as never,
      /sends 299999 bytes for w\.bin; its server states 300000/,
    ],
    [
      'another version than a moment ago',
      [good, { headers: { etag: '"two"' } }],
      NetworkError as never,
      /w\.bin was changed on its server while it was read: "one" became "two"/,
    ],
    [
      'less than its content-length, always',
      [good, ...new Array<Misdeed>(9).fill({ cutAfter: 0 })],
      NetworkError as never,
      /the connection (?:failed|was cut)|ended early/,
    ],
  ];
  it.each(FAILING)('%s', async (_, misdeeds, kind, message) => {
    server.misdeeds.push(...misdeeds);
    const failed = get();
    await expect(failed).rejects.toThrow(message);
    await expect(failed).rejects.toBeInstanceOf(kind);
    await expect(failed).rejects.toMatchObject({ exitCode: kind === (InputError as never) ? 3 : 5 });
    expect((await names()).filter((name) => !name.endsWith('.incomplete'))).toEqual([]);
  });

  it('nobody there: the address, the cause, the ways on', async () => {
    await expect(get(`${nobody}/x.pth`)).rejects.toMatchObject({
      constructor: NetworkError,
      exitCode: 5,
      message: `${nobody}/x.pth: the connection is refused (ECONNREFUSED)`,
      next: 'Ways on: check the address and the network. Download it with another program and give the file: --src <path>.',
    });
  });

  it('429 and 503 that pass', async () => {
    server.misdeeds.push({ status: 429, headers: { 'retry-after': '1' } }, { status: 503 }, good, {
      status: 503,
    });
    expect((await get()).sha256).toBe(SHA);
  });

  it('a folder that cannot be written names the variable', async () => {
    env.CONVERT_BEIT_CACHE = join(cache, 'file');
    await writeFile(env.CONVERT_BEIT_CACHE, '');
    await expect(get()).rejects.toMatchObject({
      constructor: EnvironmentError,
      next: 'Set CONVERT_BEIT_CACHE to a folder that can be written.',
    });
  });

  it.each(['/..%2f..%2fx.pth', '/%2e%2e', '/a%00b', '/con:x', '/'])(
    'a name like %s leads nowhere else',
    async (path) => {
      const url = new URL(path, server.origin);
      server.files.set(decodeURIComponent(url.pathname), { content: BYTES, headers: HEADERS });
      const found = await get(url.href);
      expect(relative(cache, found.path).split('/')[0]).toMatch(/^127\.0\.0\.1/);
      expect(found.path).toMatch(/\/download$/);
    },
  );
});

describe('reading without downloading', () => {
  it('leaves nothing on the disk', async () => {
    const found = await get('/w.bin', { stream: true });
    const source = await found.open!(found.path);
    expect(Buffer.from(await source.read(1000, 1008)).toString()).toBe('weights ');
    await source.close();
    expect(found.sha256).toBeUndefined();
    expect(await left()).toEqual([]);
  });

  it('takes what was downloaded before', async () => {
    const before = await get();
    expect(await get('/w.bin', { stream: true })).toStrictEqual(before);
  });
});

describe('where downloads are kept', () => {
  const home = { HOME: '/home/me' };
  it.each([
    [{ ...home, CONVERT_BEIT_CACHE: '/x' }, 'linux', '/x'],
    [{ ...home, XDG_CACHE_HOME: '/y' }, 'linux', '/y/convert-beit'],
    [home, 'linux', '/home/me/.cache/convert-beit'],
    [home, 'darwin', '/home/me/Library/Caches/convert-beit'],
    [{ ...home, LOCALAPPDATA: '/local' }, 'win32', '/local/convert-beit/Cache'],
  ] as const)('%j on %s: %s', (variables, platform, folder) => {
    expect(downloadFolder(variables, platform)).toBe(folder);
  });
});

describe('published checkpoints', () => {
  const put = (path: string): void => void server.files.set(path, { content: BYTES, headers: HEADERS });
  const RELEASE = '/github.com/addf400/files/releases/download';
  beforeEach(() => {
    env.CONVERT_BEIT_MIRROR = server.origin;
  });

  it('official:<a row that the hub has> falls back to the release of upstream, and that is said', async () => {
    put(`${RELEASE}/v1.0/beit_base_patch16_224_pt22k_ft22kto1k.pth`);
    const found = await get('official');
    expect(found).toMatchObject({
      id: 'https://github.com/addf400/files/releases/download/v1.0/beit_base_patch16_224_pt22k_ft22kto1k.pth',
      sha256: SHA,
      row: { name: 'beit_base_patch16_224_pt22k_ft22kto1k' },
    });
    expect(notes).toEqual([
      expect.stringMatching(
        /^http:\/\/127\.0\.0\.1:\d+\/.*the connection is refused \(ECONNREFUSED\); taking upstream's own file, https:\/\/github\.com\/addf400\/.*kto1k\.pth$/,
      ),
    ]);
  });

  it('official:<a row that only the release has> goes there at once', async () => {
    put(`${RELEASE}/BEiT-v2/beitv2_base_patch16_224_pt1k_300e_ft1k.pth`);
    const found = await get('official:beitv2_base_patch16_224_pt1k_300e_ft1k');
    expect((await readFile(found.path)).equals(BYTES)).toBe(true);
    expect(notes).toEqual([]);
  });

  it('neither there: both causes, exit code 5', async () => {
    await expect(get('official')).rejects.toMatchObject({
      constructor: NetworkError,
      exitCode: 5,
      message: expect.stringMatching(
        /^beit_base_\w+ cannot be had: .*ECONNREFUSED\); .*there is no such file/,
      ),
      next: expect.stringMatching(/--src <path>.*HF_ENDPOINT/),
    });
  });

  it('mmpretrain:<name> comes from OpenMMLab, and is held against the digits in its name', async () => {
    put('/download.openmmlab.com/mmclassification/v0/beit/beit-base_3rdparty_in1k_20221114-c0a4df23.pth');
    const failed = get('mmpretrain:beit-base-p16_beit-in21k-pre_3rdparty_in1k');
    await expect(failed).rejects.toThrow(/its name says that it begins with c0a4df23/);
    await expect(failed).rejects.toBeInstanceOf(FormatError);
    expect(existsSync(join(cache, '.locks'))).toBe(true);
    expect(await names()).toEqual([]);
  });

  it.each([
    `${RELEASE}/v1.0/beit_base_patch16_224_pt22k.pth`,
    '/download.openmmlab.com/mmselfsup/1.x/beit/some.pth',
  ])('an address of a publisher is asked for there as well: %s', async (path) => {
    put(path);
    const url = `https:/${path}`;
    const found = await get(url);
    expect(found).toMatchObject({ id: url, sha256: SHA });
    expect((await readFile(found.path)).equals(BYTES)).toBe(true);
    const streamed = await get(url, { stream: true });
    expect(streamed.id).toBe(url);
  });

  it.each([
    [`${RELEASE}/v1.0/x.pth`, true],
    ['/download.openmmlab.com/x.pth', true],
    [`${RELEASE}/v1.0/x.pth?token=secret`, false],
    [`${RELEASE}/v1.0/../../x.pth`, false],
    ['/github.com/addf400/files/releases/downloads/v1.0/x.pth', false],
    ['/github.com.example.org/addf400/files/releases/download/v1.0/x.pth', false],
    ['/download.openmmlab.com:8443/x.pth', false],
  ])('whose address %s is: a publisher’s %s', (path, published) => {
    expect(isPublishedAddress(`https:/${path}`)).toBe(published);
  });

  it('a mirror that is no address is refused', async () => {
    env.CONVERT_BEIT_MIRROR = 'mirror.example.org';
    await expect(get('mmpretrain:beit-base_3rdparty_in1k_20221114-c0a4df23')).rejects.toMatchObject({
      exitCode: 2,
    });
  });
});
