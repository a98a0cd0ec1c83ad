/** Reading what `scripts/pack-pth.mjs` packed: files that hold the same weights over and over. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { brotliDecompressSync } from 'node:zlib';

/** Every file of the pack by its name; each is what its sha256 says. */
export function readPack(url: URL): ReadonlyMap<string, Buffer> {
  const packed = brotliDecompressSync(readFileSync(url));
  const line = packed.indexOf('\n');
  const index = JSON.parse(packed.toString('utf8', 0, line)) as [string, number, string][];
  const files = new Map<string, Buffer>();
  let at = line + 1;
  for (const [name, size, sha256] of index) {
    const bytes = packed.subarray(at, at + size);
    if (createHash('sha256').update(bytes).digest('hex') !== sha256) throw new Error(`${name} is damaged`);
    files.set(name, bytes);
    at += size;
  }
  return files;
}
