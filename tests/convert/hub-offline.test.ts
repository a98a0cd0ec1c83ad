/** A hub that cannot be reached or refuses, with and without a cache. */
import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { NetworkError } from '../../src/errors.js';
import { env, get, hub, notes, useHub, waits } from '../support/hub-case.js';
import { COMMIT, type Fault } from '../support/hub-server.js';

useHub();

describe('without network', () => {
  it('a commit in the cache needs no request', async () => {
    const first = await get();
    await hub.stop();
    const seen = hub.seen.length;
    expect(await get(`hf:owner/model@${COMMIT}`)).toEqual(first);
    expect(await get(`hf:owner/model@${COMMIT}/model.safetensors`)).toEqual(first);
    expect(hub.seen).toHaveLength(seen);
    expect(notes).toEqual([]);
  });

  it('a missing config.json is remembered as missing', async () => {
    hub.files.delete('config.json');
    const first = await get();
    expect(first.files).toHaveLength(1);
    await hub.stop();
    expect(await get(`hf:owner/model@${COMMIT}`)).toEqual(first);
    expect(notes).toEqual([]);
  });

  it('HF_HUB_OFFLINE uses the remembered commit, and makes no request', async () => {
    const first = await get();
    const seen = hub.seen.length;
    env.HF_HUB_OFFLINE = '1';
    expect(await get()).toEqual(first);
    expect(hub.seen).toHaveLength(seen);
    expect(notes).toEqual([]);
  });

  it.each([
    [
      'down',
      () => hub.stop(),
      /the connection is refused \(ECONNREFUSED\); using what the cache holds of commit c0ffee/,
    ],
    [
      'in trouble',
      () => void hub.faults.push({ on: 'hub', status: 503 }),
      /answers 503\); using what the cache holds/,
    ],
  ])('a hub that is %s: the cache stands in, and it is said', async (_, trouble, note) => {
    const first = await get();
    await trouble();
    expect(await get()).toEqual(first);
    expect(notes).toEqual([expect.stringMatching(note)]);
  });

  it('a moved branch is followed when there is network', async () => {
    await get();
    hub.commit = 'deadbeef'.padEnd(40, '2');
    hub.files.set('model.safetensors', { content: Buffer.from('new'), lfs: true });
    const found = await get();
    expect(found.commit).toBe(hub.commit);
    expect(await readFile(found.path, 'utf8')).toBe('new');
    // config.json is the same blob: not downloaded again.
    expect(hub.seen.filter((one) => one.path.endsWith('config.json'))).toHaveLength(1);
  });

  it('HF_HUB_OFFLINE with an empty cache', async () => {
    env.HF_HUB_OFFLINE = 'yes';
    const failed = get();
    await expect(failed).rejects.toThrow(
      /hf:owner\/model@main is not in the cache \(.*\): HF_HUB_OFFLINE is set/,
    );
    await expect(failed).rejects.toMatchObject({
      exitCode: 5,
      next: expect.stringMatching(/^Unset HF_HUB_OFFLINE\. Ways on/),
    });
    expect(hub.seen).toEqual([]);
  });

  it('another file than the cached one', async () => {
    await get();
    env.HF_HUB_OFFLINE = '1';
    await expect(get('hf:owner/model/other.safetensors')).rejects.toThrow(
      /other\.safetensors is not in the cache/,
    );
  });

  it('a hub that cannot be reached: address, cause, ways on', async () => {
    await hub.stop();
    const failed = get();
    await expect(failed).rejects.toThrow(
      `${env.HF_ENDPOINT}/api/models/owner/model/revision/main: the connection is refused (ECONNREFUSED)`,
    );
    await expect(failed).rejects.toMatchObject({
      constructor: NetworkError,
      next: expect.stringMatching(/local file \(--src <path>\).*HF_ENDPOINT.*cache \(.*hub-/),
    });
  });

  it.each([
    ['ENOTFOUND', /host name is not known \(DNS\) \(ENOTFOUND\)/, 1],
    ['EAI_AGAIN', /name server does not answer/, 4],
    ['ECONNRESET', /connection was cut/, 4],
    ['DEPTH_ZERO_SELF_SIGNED_CERT', /certificate is not trusted \(DEPTH_ZERO_SELF_SIGNED_CERT\)/, 1],
    ['UND_ERR_CONNECT_TIMEOUT', /does not answer in time/, 4],
  ])('%s', async (code, message, attempts) => {
    let calls = 0;
    const broken = (): Promise<Response> => {
      calls += 1;
      const cause = Object.assign(new Error('inner'), { code });
      return Promise.reject(new TypeError('fetch failed', { cause }));
    };
    const failed = get('hf:owner/model', { fetch: broken });
    await expect(failed).rejects.toThrow(message);
    await expect(failed).rejects.toBeInstanceOf(NetworkError);
    expect(calls).toBe(attempts);
  });
});

describe('refusals', () => {
  type Refusal = [name: string, source: string, fault: Fault | undefined, message: RegExp, next: RegExp];
  const hubError = (status: number, code?: string): Fault => ({
    on: 'hub',
    status,
    headers: code ? { 'x-error-code': code } : {},
  });

  it.each<Refusal>([
    [
      'gated',
      'hf:owner/model',
      hubError(403, 'GatedRepo'),
      /owner\/model is gated.*\/api\/models\/owner\/model\/revision\/main answers 403; no token was sent/,
      /Ask for access on http:.*owner\/model and set HF_TOKEN/,
    ],
    [
      '401',
      'hf:owner/model',
      hubError(401),
      /owner\/model does not exist, or is private \(.* answers 401/,
      /private repository set HF_TOKEN/,
    ],
    ['403', 'hf:owner/model', hubError(403), /access to hf:owner\/model@main is forbidden/, /Check HF_TOKEN/],
    [
      'no repository',
      'hf:owner/none',
      undefined,
      /owner\/none does not exist, or is private \(.* answers 404/,
      /Check the name/,
    ],
    [
      'no revision',
      'hf:owner/model@gone',
      undefined,
      /owner\/model has no revision "gone"/,
      /branch, tag or commit/,
    ],
    ['no commit', `hf:owner/model@${'9'.repeat(40)}`, undefined, /has no revision "9{40}"/, /commit/],
    [
      'no file',
      'hf:owner/model/none.safetensors',
      undefined,
      /hf:owner\/model@main\/none.safetensors does not exist at commit c0ffee/,
      /See which files/,
    ],
    ['404 of a proxy', 'hf:owner/model', hubError(404), /was not found \(.* answers 404\)/, /HF_ENDPOINT/],
    ['418', 'hf:owner/model', hubError(418), /the request was refused \(.* answers 418\)/, /Ways on/],
  ])('%s', async (_, source, fault, message, next) => {
    if (fault) hub.faults.push(fault);
    const failed = get(source);
    await expect(failed).rejects.toThrow(message);
    await expect(failed).rejects.toMatchObject({
      constructor: NetworkError,
      exitCode: 5,
      next: expect.stringMatching(next),
    });
    expect(waits).toEqual([]);
  });

  it('a refusal is not hidden by the cache', async () => {
    await get();
    hub.faults.push(hubError(403, 'GatedRepo'));
    await expect(get()).rejects.toThrow(/is gated/);
  });
});
