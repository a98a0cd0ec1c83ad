/** Cut, stalled, repeated and simultaneous downloads. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { compiledUrl } from '../../src/compiled.js';
import { InterruptedError } from '../../src/errors.js';
import {
  REPO,
  WEIGHTS,
  blob,
  cache,
  env,
  get,
  hub,
  leavePart,
  notes,
  useHub,
  waits,
} from '../support/hub-case.js';
import { sha256, type Fault } from '../support/hub-server.js';

useHub();

describe('interruptions', () => {
  const CUTS: [name: string, faults: Fault[], ranges: string[], sent?: number][] = [
    ['one cut', [{ on: 'cdn', cutAfter: 100_000 }], ['all', 'bytes=100000-'], WEIGHTS.length],
    [
      'three cuts',
      [50_000, 60_000, 70_000].map((cutAfter) => ({ on: 'cdn', cutAfter })),
      ['all', 'bytes=50000-', 'bytes=110000-', 'bytes=180000-'],
      WEIGHTS.length,
    ],
    ['a cut before the first byte', [{ on: 'cdn', cutAfter: 0 }], ['all', 'all'], WEIGHTS.length],
    ['silence', [{ on: 'cdn', stallAfter: 100_000 }], ['all', 'bytes=100000-'], WEIGHTS.length],
    [
      '503, then 429',
      [
        { on: 'cdn', status: 503 },
        { on: 'cdn', status: 429 },
      ],
      ['all', 'all', 'all'],
      WEIGHTS.length,
    ],
    [
      'a server that ignores the range',
      [
        { on: 'cdn', cutAfter: 100_000 },
        { on: 'cdn', ignoreRange: true },
      ],
      ['all', 'bytes=100000-'],
      100_000 + WEIGHTS.length,
    ],
    [
      'a server that sends another range',
      [
        { on: 'cdn', cutAfter: 100_000 },
        { on: 'cdn', headers: { 'content-range': 'bytes 7-299999/300000' } },
      ],
      ['all', 'bytes=100000-', 'all'],
    ],
    [
      'a cut on the way to the file',
      [{ on: 'hub', path: '/resolve/', cutAfter: 0 }],
      ['all'],
      WEIGHTS.length,
    ],
    ['a cut API', [{ on: 'hub', path: '/api/', cutAfter: 0 }], ['all'], WEIGHTS.length],
    ['an API in trouble', [{ on: 'hub', path: 'paths-info', status: 502 }], ['all'], WEIGHTS.length],
  ];

  it.each(CUTS)('%s', async (_, faults, ranges, sent) => {
    hub.faults.push(...faults);
    const found = await get('hf:owner/model', faults[0].stallAfter === undefined ? {} : { silence: 2000 });
    expect(sha256(await readFile(found.path))).toBe(sha256(WEIGHTS));
    expect(hub.ranges()).toEqual(ranges);
    if (sent !== undefined) expect(hub.sent).toBe(sent);
    expect(hub.faults).toEqual([]);
  });

  it('goes on with what an earlier run left', async () => {
    await leavePart(WEIGHTS.subarray(0, 123_456));
    const progress: number[] = [];
    await get('hf:owner/model/model.safetensors', { progress: ({ bytes }) => progress.push(bytes) });
    expect(hub.ranges()).toEqual(['bytes=123456-']);
    expect(hub.sent).toBe(WEIGHTS.length - 123_456);
    expect(progress[0]).toBe(123_456);
    expect(notes).toContainEqual(expect.stringMatching(/resumed at 123\.5 kB of 300\.0 kB/));
    expect(sha256(await readFile(blob(WEIGHTS)))).toBe(sha256(WEIGHTS));
    expect(existsSync(`${blob(WEIGHTS)}.incomplete`)).toBe(false);
  });

  it.each<[string, Buffer, string[]]>([
    ['is complete', WEIGHTS, []],
    ['is too long', Buffer.concat([WEIGHTS, WEIGHTS]), ['all']],
    ['is damaged', randomBytes(1000), ['bytes=1000-', 'all']],
  ])('what an earlier run left %s', async (_, left, ranges) => {
    await leavePart(left);
    expect(sha256(await readFile((await get()).path))).toBe(sha256(WEIGHTS));
    expect(hub.ranges()).toEqual(ranges);
  });

  it('Ctrl-C leaves the part, and the next run goes on from there', async () => {
    const controller = new AbortController();
    hub.faults.push({ on: 'cdn', stallAfter: 80_000 });
    const failed = get('hf:owner/model', {
      signal: controller.signal,
      progress: ({ bytes }) => bytes === 80_000 && controller.abort(),
    });
    await expect(failed).rejects.toBeInstanceOf(InterruptedError);
    expect((await readFile(`${blob(WEIGHTS)}.incomplete`)).length).toBe(80_000);
    await get();
    expect(hub.ranges()).toEqual(['all', 'bytes=80000-']);
  });

  it('a killed process leaves the part and a lock; the next one goes on', async () => {
    hub.faults.push({ on: 'cdn', stallAfter: 90_000 });
    const source = compiledUrl('../../src/convert/source.js', import.meta.url);
    const script = `
      import { parseSource, resolveSource } from ${JSON.stringify(source)};
      await resolveSource(parseSource('hf:owner/model'), { progress: (event) => console.log(event.bytes) });`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      env: { PATH: process.env.PATH, ...env },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const ended = once(child, 'exit');
    let said = '';
    for await (const text of child.stdout) {
      said += String(text);
      if (said.includes('\n90000\n')) child.kill('SIGKILL');
    }
    expect(await ended).toEqual([null, 'SIGKILL']);
    expect(await readdir(join(cache, '.locks', REPO))).toHaveLength(1);
    expect(sha256(await readFile((await get()).path))).toBe(sha256(WEIGHTS));
    expect(hub.ranges()).toEqual(['all', 'bytes=90000-']);
    expect(hub.sent).toBe(WEIGHTS.length);
    expect(await readdir(join(cache, '.locks', REPO))).toEqual([]);
  });

  it('gives up after some failures in a row, and keeps the part', async () => {
    hub.faults.push({ on: 'cdn', cutAfter: 1000 });
    for (let i = 0; i < 10; i++) hub.faults.push({ on: 'cdn', status: 503 });
    await expect(get()).rejects.toThrow(
      /^the server is in trouble \(http:\/\/127\.0\.0\.1:\d+\/model\.safetensors answers 503\)$/,
    );
    expect(hub.ranges()).toHaveLength(5);
    expect((await readFile(`${blob(WEIGHTS)}.incomplete`)).length).toBe(1000);
  });

  it('respects Retry-After, within reason', async () => {
    hub.faults.push({ on: 'cdn', status: 429, headers: { 'retry-after': '7' } });
    await get();
    expect(waits).toEqual([7000]);
    await rm(join(cache, REPO), { recursive: true });
    hub.faults.push({ on: 'cdn', status: 429, headers: { 'retry-after': '3600' } });
    await expect(get()).rejects.toThrow(/too many requests .* asks to wait 3600 s/);
    expect(waits).toEqual([7000]);
  });

  it('waits longer each time', async () => {
    for (let i = 0; i < 3; i++) hub.faults.push({ on: 'cdn', status: 500 });
    await get();
    expect(waits).toEqual([500, 1000, 2000]);
  });

  it('two at once download once', async () => {
    hub.faults.push({ on: 'cdn', cutAfter: 150_000 });
    const [one, two] = await Promise.all([get(), get()]);
    expect(one).toEqual(two);
    expect(sha256(await readFile(one.path))).toBe(sha256(WEIGHTS));
    expect(hub.sent).toBe(WEIGHTS.length);
    expect(notes).toContainEqual('model.safetensors: another process is downloading it; waiting');
  });

  it('a lock whose owner is dead is no obstacle', async () => {
    const lock = join(cache, '.locks', REPO, `${sha256(WEIGHTS)}.convert-beit.lock`);
    await mkdir(dirname(lock), { recursive: true });
    const { hostname } = await import('node:os');
    await writeFile(lock, JSON.stringify({ host: hostname(), pid: 2 ** 22 + 1, id: 'x' }));
    await get();
    expect(notes).toEqual([]);
    expect(existsSync(lock)).toBe(false);
  });
});
