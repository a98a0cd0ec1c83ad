/** What a server says and is not believed; where the token goes. */
import { existsSync } from 'node:fs';
import { mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { EnvironmentError, NetworkError } from '../../src/errors.js';
import {
  CONFIG,
  REPO,
  WEIGHTS,
  blob,
  cache,
  env,
  get,
  hub,
  notes,
  snapshot,
  useHub,
} from '../support/hub-case.js';
import { COMMIT, gitBlobId, sha256, type Fault } from '../support/hub-server.js';

useHub();

describe('what is believed', () => {
  const id = sha256(WEIGHTS);
  const lfs = (oid: unknown, size: unknown = WEIGHTS.length): Record<string, unknown> => ({
    lfs: { oid, size },
  });

  it.each<[string, Record<string, unknown>]>([
    ['a path as hash', lfs('../../x')],
    ['a path with the right ending', lfs(`../../../${id}`)],
    ['a path as long as a hash', lfs('../../'.padEnd(64, 'a'))],
    ['an absolute path', lfs('/tmp/x')],
    ['a hash in capitals', lfs(id.toUpperCase())],
    ['a hash with a line break', lfs(`${id}\n`)],
    ['a short hash', lfs(id.slice(1))],
    ['a sha1 for a large file', lfs(gitBlobId(WEIGHTS))],
    ['a number as hash', lfs(7)],
    ['a path as git id', { lfs: undefined, oid: '../../x' }],
    ['a sha256 as git id', { lfs: undefined, oid: id }],
    ['only a Xet hash', { lfs: undefined, xetHash: id }],
    ['two lengths', lfs(id, WEIGHTS.length - 1)],
    ['a negative length', { size: -1, ...lfs(id, -1) }],
    ['a length that is no integer', { size: 1.5, ...lfs(id, 1.5) }],
    ['a length beyond 2^53', { size: 1e300, ...lfs(id, 1e300) }],
    ['a folder', { type: 'directory' }],
  ])('%s is not', async (_, stated) => {
    hub.files.set('model.safetensors', { content: WEIGHTS, lfs: true, stated });
    const failed = get();
    await expect(failed).rejects.toThrow(/does not answer as a hub does when asked for hf:owner\/model@main/);
    await expect(failed).rejects.toBeInstanceOf(NetworkError);
    expect(hub.ranges()).toEqual([]);
    expect(existsSync(join(cache, REPO, 'blobs'))).toBe(false);
  });

  it.each<[string, string]>([
    ['no JSON', '<html>sign in</html>'],
    ['null', 'null'],
    ['a list', '[]'],
    ['no commit', '{"siblings": []}'],
    ['a path as commit', '{"sha": "../../../../x", "siblings": []}'],
    ['no files', `{"sha": "${COMMIT}", "siblings": {}}`],
  ])('an answer with %s', async (_, body) => {
    hub.faults.push({
      on: 'hub',
      path: '/revision/',
      status: 200,
      headers: { 'content-type': 'application/json' },
      body,
    });
    await expect(get()).rejects.toThrow(/does not answer as a hub does/);
    expect(existsSync(join(cache, REPO))).toBe(false);
  });

  it('names of files that lead out are not seen', async () => {
    hub.files.clear();
    for (const name of [
      '../x.safetensors',
      '/x.safetensors',
      'a\\..\\x.safetensors',
      'C:x.safetensors',
      'ok.safetensors',
    ]) {
      hub.files.set(name, { content: Buffer.from(name) });
    }
    expect((await get()).path).toBe(snapshot('ok.safetensors'));
  });

  it.each<[string, Fault[]]>([
    ['a large file', [{ on: 'cdn', damage: true }]],
    ['a small file', [{ on: 'hub', path: 'resolve', damage: true }]],
  ])('%s that arrives damaged is removed', async (name, faults) => {
    const large = name === 'a large file';
    if (!large) hub.files.set('model.safetensors', { content: WEIGHTS });
    hub.faults.push(...faults);
    const failed = get();
    await expect(failed).rejects.toThrow(
      large
        ? new RegExp(`model\\.safetensors arrived damaged: sha256 [0-9a-f]{64}; the hub states ${id}`)
        : new RegExp(
            `model\\.safetensors arrived damaged: git blob id [0-9a-f]{40}; the hub states ${gitBlobId(WEIGHTS)}`,
          ),
    );
    await expect(failed).rejects.toBeInstanceOf(NetworkError);
    expect(await readdir(join(cache, REPO, 'blobs'))).toEqual([]);
    expect(sha256(await readFile((await get()).path))).toBe(sha256(WEIGHTS));
  });

  it.each<[string, Fault]>([
    ['less than stated', { on: 'cdn', status: 200, body: '<html>sign in</html>' }],
    ['more than stated', { on: 'cdn', surplus: 1 }],
    ['very much more', { on: 'cdn', surplus: 30_000_000 }],
    [
      'a range of another file',
      { on: 'cdn', status: 206, headers: { 'content-range': 'bytes 0-9/10' }, body: '0123456789' },
    ],
  ])('a storage that sends %s', async (_, fault) => {
    hub.faults.push(fault);
    await expect(get()).rejects.toThrow(/sends .*bytes for model\.safetensors; the hub states 300000/);
    expect(existsSync(blob(WEIGHTS))).toBe(false);
    const left = `${blob(WEIGHTS)}.incomplete`;
    if (existsSync(left)) expect((await readFile(left)).length).toBeLessThanOrEqual(WEIGHTS.length);
  });

  it('a length that no disk holds is refused before a byte is asked for', async () => {
    const size = 2 ** 52;
    hub.files.set('model.safetensors', { content: WEIGHTS, lfs: true, stated: { size, ...lfs(id, size) } });
    const failed = get();
    await expect(failed).rejects.toThrow(/model\.safetensors is 4503\.6 TB; the disk of .* has .* left/);
    await expect(failed).rejects.toBeInstanceOf(EnvironmentError);
    expect(hub.ranges()).toEqual([]);
  });

  it('a config.json of an absurd length is left out, and it is said', async () => {
    hub.files.set('config.json', { content: CONFIG, stated: { size: 1e9 } });
    expect((await get()).files).toHaveLength(1);
    expect(notes).toEqual([
      expect.stringMatching(/config\.json is said to be 1,000,000,000 bytes long.*going on without it/),
    ]);
  });

  it('a blob of the wrong length in the cache is replaced', async () => {
    await mkdir(dirname(blob(WEIGHTS)), { recursive: true });
    await writeFile(blob(WEIGHTS), 'short');
    expect(sha256(await readFile((await get()).path))).toBe(sha256(WEIGHTS));
  });

  it.each([
    ['to another scheme', 'file:///etc/passwd', /redirect to file:\/\/, which is not followed/],
    [
      'with a password',
      'http://user:secret@127.0.0.1/x',
      /redirect to http:\/\/127\.0\.0\.1, which is not followed/,
    ],
    ['to nowhere', 'http://', /a redirect to what is not a URL/],
    ['without end', '/owner/model/resolve/loop', /more than 10 redirects/],
  ])('a redirect %s', async (_, location, message) => {
    for (let i = 0; i < 11; i++)
      hub.faults.push({ on: 'hub', path: 'resolve', status: 302, headers: { location } });
    const failed = get();
    await expect(failed).rejects.toThrow(message);
    await expect(failed).rejects.not.toThrow(/secret/);
  });
});

describe('the token', () => {
  const token = 'hf_verySecretToken';

  it.each<[string, () => Promise<void> | void]>([
    ['HF_TOKEN', () => void (env.HF_TOKEN = ` ${token}\n`)],
    ['HUGGING_FACE_HUB_TOKEN', () => void (env.HUGGING_FACE_HUB_TOKEN = token)],
    ['the token file', () => writeFile(join(cache, 'token'), `${token}\n`)],
    [
      'HF_TOKEN_PATH',
      async () => {
        env.HF_TOKEN_PATH = join(cache, 'elsewhere');
        await writeFile(env.HF_TOKEN_PATH, token);
      },
    ],
  ])('from %s goes to the hub and never to its storage', async (_, give) => {
    await give();
    await get();
    const sentTo = (on: string): Set<string | undefined> =>
      new Set(hub.seen.filter((one) => one.on === on).map((one) => one.authorization));
    expect(sentTo('hub')).toEqual(new Set([`Bearer ${token}`]));
    expect(sentTo('cdn')).toEqual(new Set([undefined]));
  });

  it('is not sent when HF_HUB_DISABLE_IMPLICIT_TOKEN says so', async () => {
    Object.assign(env, { HF_TOKEN: token, HF_HUB_DISABLE_IMPLICIT_TOKEN: '1' });
    await get();
    expect(hub.seen.every((one) => one.authorization === undefined)).toBe(true);
  });

  it.each<[string, Fault]>([
    ['401', { on: 'hub', status: 401 }],
    ['403', { on: 'cdn', status: 403 }],
    ['404', { on: 'hub', status: 404 }],
    ['no hub', { on: 'hub', status: 200, body: '<' }],
  ])('is in no error (%s), and neither is a signed address', async (_, fault) => {
    env.HF_TOKEN = token;
    hub.faults.push(fault);
    const error: unknown = await get().catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(NetworkError);
    const { message, next } = error as NetworkError;
    expect(`${message} ${next}`).not.toMatch(/verySecret|Signature/);
  });

  it.each([
    ['a line break', 'hf_abc\r\nX-Evil: 1'],
    ['other letters', 'hf_äöü'],
  ])('with %s is refused without being quoted', async (_, bad) => {
    env.HF_TOKEN = bad;
    const failed = get();
    await expect(failed).rejects.toMatchObject({
      exitCode: 2,
      message: 'HF_TOKEN holds characters that no access token has',
    });
  });
});
