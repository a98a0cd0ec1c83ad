import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { memorySource, type ByteSource } from '../src/bytes.js';
import { SourceDigest, sha256Of } from '../src/digest.js';
import { EnvironmentError, FormatError } from '../src/errors.js';
import { fileError, pieceLength, writePieces, type Piece } from '../src/sink.js';
import { memoryTensor, storedTensor, type Tensor } from '../src/tensor.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'convert-beit-sink-'));
});
afterAll(() => rm(folder, { recursive: true }));

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

function pattern(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * 31 + Math.floor(i / 977)) % 251;
  return bytes;
}

const range = (source: ByteSource, start: number, end: number): Tensor =>
  storedTensor('U8', [end - start], { source, start, end });

describe('writePieces', () => {
  // 40 MB takes the hashing threads, the small ones stay in this thread.
  it.each([
    ['in this thread', 100_000],
    ['with hashing threads', 40_000_000],
  ])('copies, hashes both sides %s', async (name, size) => {
    const bytes = pattern(size);
    const source = memorySource('source', bytes);
    const digest = new SourceDigest(source);
    const [a, b, c] = [Math.floor(size / 10), Math.floor(size / 3), size - 77];
    const pieces: Piece[] = [
      Uint8Array.of(1, 2, 3),
      { tensor: range(source, a, b) },
      new Uint8Array(0),
      { tensor: range(source, b, c) },
      { length: 2, bytes: async () => Uint8Array.of(9, Number((await digest.hex()).length)) },
    ];
    const path = join(folder, name);
    const seen: number[] = [];
    const written = await writePieces(path, pieces, {
      sourceDigests: new Map([[source, digest]]),
      onProgress: (done) => seen.push(done),
      flush: true,
    });
    const expected = Buffer.concat([Uint8Array.of(1, 2, 3), bytes.subarray(a, c), Uint8Array.of(9, 64)]);
    const found = await readFile(path);
    expect(found.equals(expected)).toBe(true);
    expect(written).toEqual({ bytes: expected.length, sha256: sha256(expected) });
    expect(seen.at(-1)).toBe(pieces.reduce((sum, piece) => sum + pieceLength(piece), 0));
    expect(await sha256Of(source)).toBe(sha256(bytes));
  });

  it('hashes a source right whatever order its tensors are read in', async () => {
    const bytes = pattern(50_000);
    const source = memorySource('source', bytes);
    const digest = new SourceDigest(source);
    await writePieces(
      join(folder, 'shuffled'),
      [
        [30_000, 40_000],
        [0, 100],
        [35_000, 50_000],
        [90, 20_000],
      ].map(([s, e]) => ({ tensor: range(source, s, e) })),
      { sourceDigests: new Map([[source, digest]]) },
    );
    expect(await digest.hex()).toBe(sha256(bytes));
  });

  it.each([
    ['too few', [Uint8Array.of(1)]],
    ['too many', [Uint8Array.of(1, 2), Uint8Array.of(3)]],
  ])('counts what a lazy tensor delivers: %s', async (name, chunks) => {
    const lying: Tensor = {
      dtype: 'U8',
      shape: [2],

      async *chunks() {
        yield* chunks;
      },
    };
    await expect(writePieces(join(folder, name), [{ tensor: lying }])).rejects.toThrow(FormatError);
  });

  it('never replaces a file', async () => {
    const path = join(folder, 'twice');
    await writePieces(path, [Uint8Array.of(1)]);
    await expect(writePieces(path, [Uint8Array.of(2)])).rejects.toThrow();
    expect([...(await readFile(path))]).toEqual([1]);
  });

  it('stops when aborted', async () => {
    const signal = AbortSignal.abort(new Error('stop'));
    await expect(writePieces(join(folder, 'aborted'), [Uint8Array.of(1)], { signal })).rejects.toThrow(
      'stop',
    );
  });

  it.each([
    ['ENOSPC', /the disk is full \(2\.00 kB needed\)/],
    ['EACCES', /not allowed to write there/],
    ['EFBIG', /takes no file this large/],
    ['ENOENT', /the folder is not there/],
  ])('puts %s in words', (code, message) => {
    const error = fileError(Object.assign(new Error('raw'), { code }), '/x/y', 2000);
    expect(error).toBeInstanceOf(EnvironmentError);
    expect((error as Error).message).toMatch(message);
  });
});

describe('pieces that are known late', () => {
  it('are filled in when everything else was written', async () => {
    const seen: number[] = [];
    const source = memorySource('s', pattern(1000));
    const pieces: Piece[] = [
      { length: 2, late: true, bytes: () => Promise.resolve(Uint8Array.of(seen.length, 7)) },
      { tensor: range(source, 0, 600), observe: (bytes) => seen.push(bytes.length) },
      {
        tensor: memoryTensor('U8', [3], Uint8Array.of(1, 2, 3)),
        observe: (bytes) => seen.push(bytes.length),
      },
    ];
    const path = join(folder, 'late');
    expect(await writePieces(path, pieces)).toEqual({ bytes: 605 });
    const found = await readFile(path);
    expect([...found.subarray(0, 2)]).toEqual([seen.length, 7]);
    expect(found.subarray(2, 602).equals(pattern(1000).subarray(0, 600))).toBe(true);
    expect(seen.reduce((sum, length) => sum + length, 0)).toBe(603);
  });

  it('must have the announced length', async () => {
    const pieces: Piece[] = [{ length: 2, late: true, bytes: () => Promise.resolve(new Uint8Array(3)) }];
    await expect(writePieces(join(folder, 'wrong'), pieces)).rejects.toThrow(FormatError);
  });
});
