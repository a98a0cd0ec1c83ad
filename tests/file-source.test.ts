import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openFile } from '../src/file-source.js';
import { InputError } from '../src/errors.js';

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

/** Beyond what every source does: `byte-source.test.ts`. */
describe('a file as a byte source', () => {
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
