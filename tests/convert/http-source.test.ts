/** Reading a file by range requests: how many, how much, and what a server may do wrong. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ByteSource } from '../../src/bytes.js';
import { httpContext } from '../../src/convert/sources/context.js';
import { openHttp } from '../../src/convert/sources/http-source.js';
import type { RequestFailure } from '../../src/convert/sources/hub-http.js';
import { InterruptedError, NetworkError } from '../../src/errors.js';
import { storedTensor } from '../../src/tensor.js';
import { FileServer, type Misdeed } from '../support/file-server.js';

const SIZE = 12_000_000;
const BYTES = Buffer.alloc(SIZE);
for (let i = 0; i < SIZE; i++) BYTES[i] = (i * 5 + (i >> 9)) & 255;
const HEADERS = { etag: '"one"', 'last-modified': 'Mon, 01 Jan 2024 00:00:00 GMT' };
const KIB = 1024;

let server: FileServer;
let waits: number[];
beforeEach(async () => {
  server = await FileServer.start();
  server.files.set('/w.bin', { content: BYTES, headers: HEADERS });
  waits = [];
});
afterEach(() => server.stop());

interface Options {
  readonly url?: string;
  readonly bytes?: number;
  readonly signal?: AbortSignal;
  readonly token?: string;
  readonly endpoint?: string;
}

async function open({ url = `${server.origin}/w.bin`, bytes, signal, token, endpoint }: Options = {}) {
  const context = await httpContext({
    env: { HF_TOKEN: token, HF_ENDPOINT: endpoint, HF_TOKEN_PATH: '/nowhere' },
    signal,
    silence: 2000,
    sleep: (milliseconds) => {
      waits.push(milliseconds);
      return Promise.resolve();
    },
  });
  const explain = (failure: unknown): Error => {
    const { url: at, message } = failure as RequestFailure;
    return new NetworkError(`${at}: ${message}`);
  };
  return await openHttp({ url, name: 'host/w.bin', ...(bytes !== undefined && { bytes }), explain }, context);
}

const ranges = (): string[] => server.seen.map(({ range }) => range?.replace('bytes=', '') ?? 'all');
const expectBytes = async (source: ByteSource, start: number, end: number): Promise<void> => {
  expect(Buffer.compare(await source.read(start, end), BYTES.subarray(start, end))).toBe(0);
};

describe('requests', () => {
  it('one for the beginning, which serves all small reads there', async () => {
    const source = await open();
    await expectBytes(source, 0, 8);
    await expectBytes(source, 8, 30_000);
    await expectBytes(source, 65_000, 65_536);
    expect(ranges()).toEqual(['0-65535']);
    await source.close();
  });

  it('neighbours and near ones share a request; a jump is a small one', async () => {
    const source = await open();
    await expectBytes(source, 70_000, 70_100);
    await expectBytes(source, 100_000, 100_100);
    await expectBytes(source, 5_000_000, 5_000_008);
    expect(ranges()).toEqual([
      '0-65535',
      `70000-${70_000 + 128 * KIB - 1}`,
      `5000000-${5_000_000 + 64 * KIB - 1}`,
    ]);
    await source.close();
  });

  it('reading from end to end asks for every byte once, in few requests', async () => {
    const source = await open();
    for (let at = 0; at < SIZE; at += 50_000) await expectBytes(source, at, Math.min(at + 50_000, SIZE));
    expect(server.sent).toBe(SIZE);
    expect(server.seen.length).toBeLessThan(10);
    await source.close();
  });

  it('a tensor is read to its end and not beyond', async () => {
    const source = await open();
    const tensor = storedTensor('F32', [2_500_000], { source, start: 1_000_000, end: 11_000_000 });
    let at = 1_000_000;
    for await (const chunk of tensor.chunks()) {
      expect(Buffer.compare(chunk, BYTES.subarray(at, at + chunk.length))).toBe(0);
      at += chunk.length;
    }
    expect(server.sent).toBe(64 * KIB + 10_000_000);
    expect(server.seen.length).toBe(4);
    await source.close();
  });

  it('memory is bounded: a large read is cut into parts', async () => {
    const source = await open();
    await expectBytes(source, 100, SIZE);
    const lengths = ranges().map((range) => range.split('-').map(Number));
    expect(Math.max(...lengths.map(([first, last]) => last - first + 1))).toBe(4 * 1024 * KIB);
    await source.close();
  });

  it('goes straight to where a redirect led, and back when that address has expired', async () => {
    const other = await FileServer.start();
    other.files.set('/signed', { content: BYTES, headers: HEADERS });
    const redirect = { status: 302, headers: { location: `${other.origin}/signed?Signature=x` } };
    server.misdeeds.push(redirect, redirect);
    const source = await open();
    await expectBytes(source, 1_000_000, 1_000_010);
    expect([server.seen.length, other.seen.length]).toEqual([1, 2]);
    other.misdeeds.push({ status: 403 });
    await expectBytes(source, 3_000_000, 3_000_010);
    expect([server.seen.length, other.seen.length]).toEqual([2, 4]);
    await source.close();
    await other.stop();
  });

  it('a token goes to the hub’s own host, never to where it redirects', async () => {
    const other = await FileServer.start();
    other.files.set('/signed', { content: BYTES, headers: HEADERS });
    server.misdeeds.push({ status: 302, headers: { location: `${other.origin}/signed` } });
    const source = await open({ token: 'hf_secret', endpoint: server.origin });
    await expectBytes(source, 1_000_000, 1_000_010);
    expect(server.seen.map((one) => one.authorization)).toEqual(['Bearer hf_secret']);
    expect(other.seen.map((one) => one.authorization)).toEqual([undefined, undefined]);
    await source.close();
    await other.stop();
  });

  it('no token goes to a host that is not the hub’s', async () => {
    const source = await open({ token: 'hf_secret', endpoint: 'http://127.0.0.1:9' });
    expect(server.seen.map((one) => one.authorization)).toEqual([undefined]);
    await source.close();
  });
});

describe('what passes', () => {
  const PASSING: [name: string, misdeeds: Misdeed[], waited: number[]][] = [
    ['429 with a time to wait', [{ status: 429, headers: { 'retry-after': '3' } }], [3000]],
    ['503 twice', [{ status: 503 }, { status: 503 }], [500, 1000]],
    ['a cut connection', [{ cutAfter: 0 }], [500]],
    ['an answer that is cut', [{ cutAfter: 10_000 }], [500]],
    [
      'an answer that is cut again and again',
      [{ cutAfter: 9000 }, { cutAfter: 9000 }, { cutAfter: 9000 }],
      [500, 500, 500],
    ],
    [
      'another range than the one asked for, once',
      [{ headers: { 'content-range': `bytes 7-70/${SIZE}` } }],
      [500],
    ],
    ['a part without content-range, once', [{ headers: { 'content-range': '' } }], [500]],
    ['a strong etag that becomes weak', [{ headers: { etag: 'W/"one"' } }], []],
    ['no etag any more', [{ headers: { etag: '' } }], []],
  ];
  it.each(PASSING)('%s', async (_, misdeeds, waited) => {
    const source = await open();
    server.misdeeds.push(...misdeeds);
    await expectBytes(source, 1_000_000, 1_050_000);
    expect(waits).toEqual(waited);
    await source.close();
  });

  it('goes on where an answer was cut', async () => {
    const source = await open();
    server.misdeeds.push({ cutAfter: 10_000 });
    await expectBytes(source, 1_000_000, 1_050_000);
    expect(ranges().slice(1)).toEqual(['1000000-1065535', '1010000-1065535']);
    await source.close();
  });

  it('a part that failed is asked for again when somebody reads there', async () => {
    const source = await open();
    server.misdeeds.push({ status: 403 });
    await expect(source.read(1_000_000, 1_000_010)).rejects.toThrow('status 403');
    await expectBytes(source, 1_000_000, 1_000_010);
    await source.close();
  });
});

describe('what does not pass', () => {
  const repeat = (misdeed: Misdeed, times: number): Misdeed[] => new Array<Misdeed>(times).fill(misdeed);
  const FAILING: [name: string, misdeeds: Misdeed[], message: RegExp][] = [
    [
      'another version, by its etag',
      [{ headers: { etag: '"two"' } }],
      /host\/w\.bin was changed on its server while it was read: "one" became "two"/,
    ],
    [
      'another version, by its date',
      [{ headers: { etag: '', 'last-modified': 'Tue, 02 Jan 2024 00:00:00 GMT' } }],
      /was changed on its server/,
    ],
    [
      'another length',
      [{ headers: { 'content-range': 'bytes 1000000-1065535/13000000' } }],
      /was changed on its server while it was read: 12\.0 MB became 13\.0 MB/,
    ],
    [
      '416: the file is shorter now',
      [{ status: 416 }],
      /was changed on its server while it was read: it is shorter now/,
    ],
    ['no ranges any more', [{ ignoreRange: true }], /sends whole files only/],
    [
      'a sign-in page',
      [{ status: 200, headers: { 'content-type': 'text/html; charset=utf-8' }, body: '<html>' }],
      /is a web page \(text\/html; charset=utf-8\), not a file/,
    ],
    ['gzip', [{ headers: { 'content-encoding': 'gzip' } }], /comes compressed \(content-encoding: gzip\)/],
    [
      'always another range',
      repeat({ headers: { 'content-range': `bytes 7-70/${SIZE}` } }, 5),
      /bytes 1000000 to 1065535 were asked for; the answer has "bytes 7-70\/12000000"/,
    ],
    [
      'more than the range that is announced',
      repeat({ headers: { 'content-range': `bytes 1000000-1000099/${SIZE}` } }, 5),
      /more bytes than the answer announced/,
    ],
    ['503 without end', repeat({ status: 503 }, 5), /status 503/],
    ['404', [{ status: 404 }], /status 404/],
    ['a wait that is too long', [{ status: 429, headers: { 'retry-after': '3600' } }], /status 429/],
  ];
  it.each(FAILING)('%s', async (_, misdeeds, message) => {
    const source = await open();
    server.misdeeds.push(...misdeeds);
    const failed = source.read(1_000_000, 1_000_010);
    await expect(failed).rejects.toThrow(message);
    await expect(failed).rejects.toBeInstanceOf(NetworkError);
    await source.close();
  });

  it('a server without ranges is told at once, with the next step', async () => {
    server.always = { ignoreRange: true };
    await expect(open()).rejects.toMatchObject({
      constructor: NetworkError,
      message: `${server.origin} sends whole files only (it ignores range requests), so host/w.bin cannot be read in parts`,
      next: expect.stringMatching(/^Download it first: leave out --stream/),
    });
    expect(server.seen).toHaveLength(1);
  });

  it('another length than the stated one', async () => {
    await expect(open({ bytes: SIZE + 1 })).rejects.toThrow(
      /has 12\.0 MB on its server; 12\.0 MB are stated/,
    );
  });

  it('the end of the run stops a read', async () => {
    const controller = new AbortController();
    const source = await open({ signal: controller.signal });
    controller.abort();
    await expect(source.read(1_000_000, 1_000_010)).rejects.toBeInstanceOf(InterruptedError);
    await source.close();
  });
});
