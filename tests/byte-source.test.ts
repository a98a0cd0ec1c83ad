/** What every byte source does, wherever its bytes are. A new kind of source is one row. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { memorySource, type ByteSource } from '../src/bytes.js';
import { httpContext } from '../src/convert/sources/context.js';
import { openHttp } from '../src/convert/sources/http-source.js';
import { FormatError } from '../src/errors.js';
import { openFile } from '../src/file-source.js';
import { FileServer } from './support/file-server.js';

const SIZE = 9_500_000;
const BYTES = Buffer.alloc(SIZE);
for (let i = 0; i < SIZE; i++) BYTES[i] = (i * 7 + (i >> 8) + (i >> 16)) & 255;

let folder: string;
let server: FileServer;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'convert-beit-test-'));
  writeFileSync(join(folder, 'data.bin'), BYTES);
  writeFileSync(join(folder, 'empty.bin'), '');
  server = await FileServer.start();
  server.files.set('/data.bin', { content: BYTES, headers: { etag: '"1"' } });
});
afterAll(async () => {
  rmSync(folder, { recursive: true });
  await server.stop();
});

async function overHttp(name: string, bytes: number): Promise<ByteSource> {
  const context = await httpContext({ env: { HF_HUB_DISABLE_IMPLICIT_TOKEN: '1' } });
  const explain = (failure: unknown): Error => failure as Error;
  return await openHttp({ url: `${server.origin}/${name}`, name, bytes, explain }, context);
}

const KINDS: readonly [kind: string, open: (name: 'data.bin' | 'empty.bin') => Promise<ByteSource>][] = [
  ['a file', (name) => openFile(join(folder, name))],
  ['memory', (name) => Promise.resolve(memorySource(name, name === 'data.bin' ? BYTES : Buffer.alloc(0)))],
  ['an address', (name) => overHttp(name, name === 'data.bin' ? SIZE : 0)],
];

describe.each(KINDS)('%s as a byte source', (_, open) => {
  const using = async (task: (source: ByteSource) => Promise<void>): Promise<void> => {
    const source = await open('data.bin');
    try {
      await task(source);
    } finally {
      await source.close();
    }
  };

  it('knows its size and ends with its name', () =>
    using(async (source) => {
      expect(source.size).toBe(SIZE);
      expect(source.name.endsWith('data.bin')).toBe(true);
      await Promise.resolve();
    }));

  it('delivers the bytes asked for, whatever was asked before', () =>
    using(async (source) => {
      // lengths around the sizes of windows, parts and direct reads
      const length = fc.oneof(
        fc.nat(300),
        fc.nat(70_000),
        fc.constantFrom(262_143, 262_144, 1_048_577, 5_000_000),
      );
      const range = fc.tuple(fc.oneof(fc.nat(SIZE), fc.constantFrom(0, 65_535, 65_536, 4_194_304)), length);
      const ranges = fc.array(fc.tuple(range, fc.boolean()), { maxLength: 8 });
      await fc.assert(
        fc.asyncProperty(ranges, async (asked) => {
          for (const [[at, wanted], expected] of asked) {
            const end = Math.min(at + wanted, SIZE);
            if (expected) source.expect?.(at, end);
            const found = await source.read(at, end);
            expect(Buffer.compare(found, BYTES.subarray(at, end))).toBe(0);
          }
        }),
        { numRuns: 25 },
      );
    }));

  it('serves reads at the same time', () =>
    using(async (source) => {
      const starts = Array.from({ length: 60 }, (_, i) => (i * 1_048_573) % (SIZE - 90_000));
      const found = await Promise.all(starts.map((start) => source.read(start, start + 90_000)));
      for (const [i, start] of starts.entries()) {
        expect(Buffer.compare(found[i], BYTES.subarray(start, start + 90_000))).toBe(0);
      }
    }));

  it('gives memory that belongs to the caller, from its first byte on', () =>
    using(async (source) => {
      const first = await source.read(100, 200);
      expect(first.byteOffset).toBe(0);
      first.fill(0);
      expect(Buffer.compare(await source.read(100, 200), BYTES.subarray(100, 200))).toBe(0);
    }));

  it.each([0, 1000, 1_500_000])('reads %i bytes straight into shared memory', (length) =>
    using(async (source) => {
      const target = new Uint8Array(new SharedArrayBuffer(length + 16), 8, length);
      await source.readInto(target, 12_345);
      expect(Buffer.from(target).equals(BYTES.subarray(12_345, 12_345 + length))).toBe(true);
    }),
  );

  it('reads nothing at its end', () =>
    using(async (source) => {
      expect((await source.read(SIZE, SIZE)).length).toBe(0);
    }));

  it.each([
    [-1, 4],
    [4, 2],
    [0, SIZE + 1],
    [SIZE + 1, SIZE + 2],
    [Number.NaN, 4],
  ])('refuses the range [%d, %d)', (start, end) =>
    using(async (source) => {
      const failed = source.read(start, end);
      await expect(failed).rejects.toBeInstanceOf(FormatError);
      await expect(failed).rejects.toThrow(
        `bytes [${start}, ${end}) lie outside of data.bin (9,500,000 bytes)`,
      );
    }),
  );

  it('may be empty, and be closed twice', async () => {
    const source = await open('empty.bin');
    expect(source.size).toBe(0);
    expect((await source.read(0, 0)).length).toBe(0);
    await expect(source.read(0, 1)).rejects.toBeInstanceOf(FormatError);
    await source.close();
    await source.close();
  });
});
