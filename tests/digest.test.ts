import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ByteSource } from '../src/bytes.js';
import { loadModel } from '../src/convert/load.js';
import { openFile } from '../src/file-source.js';
import { createDigest, prepareDigest, takeFileDigest } from '../src/digest.js';
import { exportOnnx } from '../src/export/index.js';
import type { BeitModel } from '../src/model.js';
import { goldenPath } from './convert/goldens.js';

let folder: string;
let big: string;
let hex: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'convert-beit-digest-'));
  big = join(folder, 'big.bin');
  const bytes = new Uint8Array(17_000_001).map((_, i) => (i * 31 + Math.floor(i / 977)) % 251);
  hex = createHash('sha256').update(bytes).digest('hex');
  await writeFile(big, bytes);
});
afterAll(() => rm(folder, { recursive: true }));

/** A small model that says its weights come from `source`. */
async function from(source: ByteSource): Promise<BeitModel> {
  const model = await loadModel(goldenPath('v1_cls', 'official.safetensors'));
  const files = [{ name: 'big.bin', source }];
  return { ...model, provenance: { ...model.provenance, files } };
}

describe('a digest that starts before anything else', () => {
  it('is the digest of the whole file, and says which file that was', async () => {
    prepareDigest(big);
    prepareDigest(big);
    const digest = takeFileDigest(big)!;
    const file = await openFile(big);
    expect(await digest.result()).toEqual({ hex, identity: await file.file!.identity() });
    expect(takeFileDigest(big)).toBeUndefined();
    await file.close();
  });

  it.each([
    ['a small file', () => goldenPath('v1_cls', 'io.safetensors')],
    ['a folder', () => folder],
    ['nothing', () => join(folder, 'absent')],
  ])('is not begun for %s', (_, path) => {
    prepareDigest(path());
    expect(takeFileDigest(path())).toBeUndefined();
  });

  it('goes into the written file', async () => {
    prepareDigest(big);
    const source = await openFile(big);
    const out = join(folder, 'good.onnx');
    const exported = await exportOnnx(await from(source), out, { toolVersion: '0.0.0' });
    await source.close();
    expect(exported.sourceSha256).toEqual(new Map([['big.bin', hex]]));
    expect((await readFile(out)).includes(hex)).toBe(true);
  });

  it('does not vouch for a file that was written to meanwhile', async () => {
    prepareDigest(big);
    const source = await openFile(big);
    const other: ByteSource = {
      ...source,
      name: big,
      size: source.size,
      read: (start, end) => source.read(start, end),
      file: { path: big, identity: () => Promise.resolve('another') },
    };
    const written = exportOnnx(await from(other), join(folder, 'bad.onnx'), { toolVersion: '0.0.0' });
    await expect(written).rejects.toThrow('big.bin was changed while it was read');
    await source.close();
  });
});

describe('an abandoned digest', () => {
  it('rejects what is waited for: a promise that never settles would end the program silently', async () => {
    const digest = createDigest(1e9);
    const pending = digest.update(new Uint8Array(100));
    digest.abandon();
    await expect(pending).rejects.toThrow('the hashing thread stopped');
  });

  it('rejects the digest of a file too', async () => {
    prepareDigest(big);
    const digest = takeFileDigest(big)!;
    const pending = digest.result();
    digest.abandon();
    await expect(pending).rejects.toThrow('the hashing thread stopped');
  });
});
