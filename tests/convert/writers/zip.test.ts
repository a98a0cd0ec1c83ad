import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { unzipSync } from 'fflate';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { zipPieces, type ZipRecord } from '../../../src/convert/writers/zip.js';
import { pieceLength, writePieces, type Deferred, type Piece } from '../../../src/sink.js';
import { zeros } from '../../../src/tensor-rows.js';
import { memoryTensor } from '../../../src/tensor.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'convert-beit-zip-'));
});
afterAll(() => rm(folder, { recursive: true }));

const bytes = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => (i * 7) % 251);

const RECORDS: ZipRecord[] = [
  { name: 'archive/data.pkl', content: bytes(77) },
  { name: 'archive/data/0', content: { tensor: memoryTensor('U8', [1000], bytes(1000)) } },
  { name: 'archive/data/1', content: { tensor: memoryTensor('U8', [0], new Uint8Array(0)) } },
  { name: 'archive/late', content: { length: 5, bytes: () => Promise.resolve(bytes(5)) } },
];

/** Names, offsets, sizes and checksums as the central directory of a small file has them. */
function directory(
  file: Buffer,
): { name: string; offset: number; size: number; crc: number; extra: Buffer }[] {
  const end = file.length - 22;
  const out = [];
  for (let at = file.readUInt32LE(end + 16), i = 0; i < file.readUInt16LE(end + 10); i++) {
    expect(file.readUInt32LE(at)).toBe(0x02014b50);
    const [nameLength, extraLength] = [file.readUInt16LE(at + 28), file.readUInt16LE(at + 30)];
    out.push({
      name: file.toString('utf8', at + 46, at + 46 + nameLength),
      offset: file.readUInt32LE(at + 42),
      size: file.readUInt32LE(at + 20),
      crc: file.readUInt32LE(at + 16),
      extra: file.subarray(at + 46 + nameLength, at + 46 + nameLength + extraLength),
    });
    at += 46 + nameLength + extraLength;
  }
  return out;
}

describe('zipPieces', () => {
  it('is a zip that others read, with every record at a multiple of 64 bytes', async () => {
    const path = join(folder, 'a.zip');
    await writePieces(path, zipPieces(RECORDS));
    const file = await readFile(path);
    const expected = new Map([
      ['archive/data.pkl', bytes(77)],
      ['archive/data/0', bytes(1000)],
      ['archive/data/1', new Uint8Array(0)],
      ['archive/late', bytes(5)],
    ]);
    const entries = directory(file);
    expect(entries.map(({ name }) => name)).toEqual([...expected.keys()]);
    const unzipped = unzipSync(file);
    for (const { name, offset, size, crc } of entries) {
      const start = offset + 30 + file.readUInt16LE(offset + 26) + file.readUInt16LE(offset + 28);
      expect(start % 64, name).toBe(0);
      const content = expected.get(name)!;
      expect(Buffer.compare(file.subarray(start, start + size), content), name).toBe(0);
      expect(crc, name).toBe(crc32(content));
      // the data descriptor behind the record says the same
      expect(file.readUInt32LE(start + size), name).toBe(0x08074b50);
      expect([file.readUInt32LE(start + size + 4), file.readUInt32LE(start + size + 8)]).toEqual([crc, size]);
      expect(Buffer.compare(unzipped[name], content), name).toBe(0);
    }
  });

  it('the same records give the same bytes', async () => {
    const [a, b] = [join(folder, 'one.zip'), join(folder, 'two.zip')];
    await writePieces(a, zipPieces(RECORDS));
    await writePieces(b, zipPieces(RECORDS));
    expect(Buffer.compare(await readFile(a), await readFile(b))).toBe(0);
  });

  it('takes 64-bit fields where 32 bits end', async () => {
    const giant = zeros({ dtype: 'F32', shape: [5, 2 ** 28] });
    const pieces = zipPieces([
      { name: 'giant', content: { tensor: giant } },
      { name: 'after', content: bytes(3) },
    ]);
    const giantBytes = 5 * 2 ** 30;
    const isDeferred = (piece: Piece): piece is Deferred =>
      'bytes' in piece && !(piece instanceof Uint8Array);
    const [giantDescriptor, , central] = pieces.filter(isDeferred);
    const descriptor = Buffer.from(await giantDescriptor.bytes());
    expect([descriptor.length, descriptor.readBigUInt64LE(16)]).toEqual([24, BigInt(giantBytes)]);

    const local = Buffer.from(pieces[0] as Uint8Array);
    expect([local.readUInt16LE(4), local.readUInt32LE(18), local.length % 64]).toEqual([45, 0xffffffff, 0]);
    expect([local.readUInt16LE(35), local.readBigUInt64LE(39)]).toEqual([1, BigInt(giantBytes)]);

    const entries = Buffer.from(await central.bytes());
    const afterOffset = local.length + giantBytes + 24;
    expect([entries.readUInt32LE(20), entries.readUInt32LE(42)]).toEqual([0xffffffff, 0]);
    expect([entries.readUInt16LE(51), entries.readBigUInt64LE(55)]).toEqual([1, BigInt(giantBytes)]);
    const second = entries.subarray(46 + 5 + 20);
    expect([second.readUInt32LE(20), second.readUInt32LE(42)]).toEqual([3, 0xffffffff]);
    expect([second.readUInt16LE(51), second.readBigUInt64LE(55)]).toEqual([1, BigInt(afterOffset)]);

    const end = Buffer.from(pieces.at(-1) as Uint8Array);
    const total = pieces.reduce((sum, piece) => sum + pieceLength(piece), 0);
    expect(end.readBigUInt64LE(48)).toBe(BigInt(total - end.length - entries.length));
    expect(end.readBigUInt64LE(56 + 8)).toBe(BigInt(total - end.length));
    expect(end.readUInt32LE(76 + 16)).toBe(0xffffffff);
  });
});
