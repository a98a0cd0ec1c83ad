import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openFile } from '../../src/convert/sources/file.js';
import { FormatError, InputError } from '../../src/errors.js';

const SIZE = 3_000_000;
const BYTES = Buffer.alloc(SIZE);
for (let i = 0; i < SIZE; i++) BYTES[i] = (i * 7 + (i >> 8)) & 255;

let folder: string;
let path: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'convert-beit-test-'));
  path = join(folder, 'data.bin');
  writeFileSync(path, BYTES);
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

describe('a file as a byte source', () => {
  it('delivers the bytes asked for, whatever was asked before', async () => {
    const source = await openFile(path);
    expect(source).toMatchObject({ name: path, size: SIZE });
    // lengths around the window's and the direct read's sizes
    const length = fc.oneof(fc.nat(300), fc.nat(70_000), fc.constantFrom(262_143, 262_144, 1_048_577));
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(fc.nat(SIZE), length), { maxLength: 12 }), async (ranges) => {
        for (const [at, wanted] of ranges) {
          const end = Math.min(at + wanted, SIZE);
          const found = await source.read(at, end);
          expect(Buffer.compare(found, BYTES.subarray(at, end))).toBe(0);
          expect(found.byteOffset).toBe(0);
        }
      }),
      { numRuns: 60 },
    );
    await source.close();
  });

  it('serves reads at the same time', async () => {
    const source = await openFile(path);
    const starts = Array.from({ length: 200 }, (_, i) => (i * 104_729) % (SIZE - 500));
    const found = await Promise.all(starts.map((start) => source.read(start, start + 500)));
    for (const [i, start] of starts.entries()) {
      expect(Buffer.compare(found[i], BYTES.subarray(start, start + 500))).toBe(0);
    }
    await source.close();
  });

  it('gives memory that belongs to the caller', async () => {
    const source = await openFile(path);
    const first = await source.read(100, 200);
    first.fill(0);
    expect(Buffer.compare(await source.read(100, 200), BYTES.subarray(100, 200))).toBe(0);
    await source.close();
  });

  it.each([[1000], [1_500_000]])('reads %i bytes straight into shared memory', async (length) => {
    const source = await openFile(path);
    const target = new Uint8Array(new SharedArrayBuffer(length + 16), 8, length);
    await source.readInto(target, 12_345);
    expect(Buffer.from(target).equals(BYTES.subarray(12_345, 12_345 + length))).toBe(true);
    await source.close();
  });

  it.each([
    [-1, 4],
    [4, 2],
    [0, SIZE + 1],
    [SIZE + 1, SIZE + 2],
    [Number.NaN, 4],
  ])('refuses the range [%d, %d)', async (start, end) => {
    const source = await openFile(path);
    await expect(source.read(start, end)).rejects.toBeInstanceOf(FormatError);
    await source.close();
  });

  it.each([
    ['a small read', 2_500_000, 100],
    ['a large read', 1_500_000, 1_000_000],
  ])('notices in %s that the file has become shorter', async (_, start, length) => {
    const shrinking = join(folder, 'shrinking.bin');
    writeFileSync(shrinking, BYTES);
    const source = await openFile(shrinking);
    truncateSync(shrinking, 2_000_000);
    await expect(source.read(start, start + length)).rejects.toThrow(
      `shrinking.bin became shorter while it was read: ${start >= 2_000_000 ? '2,500,000' : '2,000,000'} bytes, it had 3,000,000`,
    );
    await source.close();
  });

  it('can be closed twice', async () => {
    const source = await openFile(path);
    await source.close();
    await source.close();
  });
});

describe('what is not a regular file', () => {
  it('a FIFO is refused at once, though nobody writes to it', async () => {
    const fifo = join(folder, 'fifo');
    execFileSync('mkfifo', [fifo]);
    await expect(openFile(fifo)).rejects.toThrow('is a named pipe (FIFO)');
  });

  it('a socket', async () => {
    const server = createServer();
    const socket = join(folder, 's');
    await new Promise<void>((done) => server.listen(socket, done));
    await expect(openFile(socket)).rejects.toThrow('is a socket');
    await new Promise((done) => server.close(done));
  });

  it('a device and a folder', async () => {
    await expect(openFile('/dev/null')).rejects.toThrow('/dev/null is a device');
    await expect(openFile(folder)).rejects.toThrow('is a folder, not a file');
    await expect(openFile(folder)).rejects.toBeInstanceOf(InputError);
  });
});
