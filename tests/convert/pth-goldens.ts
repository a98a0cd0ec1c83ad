/** Reading `fixtures/pth.br`: PyTorch files that PyTorch wrote. See fixtures/PROVENANCE.md, scripts/pack-pth.mjs. */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { brotliDecompressSync } from 'node:zlib';

export interface ManifestRow {
  readonly file: string;
  /** file of the tensors at `weights_at`, `null` where there are none to find */
  readonly expected: string | null;
  readonly container: 'zip' | 'legacy';
  readonly weights_at: string;
  readonly layout: string;
  readonly torch: string;
  readonly note: string;
}

let unpacked: ReadonlyMap<string, Buffer> | undefined;

/** Every file of the pack by its name; each is what its sha256 says. */
export function pthFiles(): ReadonlyMap<string, Buffer> {
  if (unpacked) return unpacked;
  const packed = brotliDecompressSync(readFileSync(new URL('../../fixtures/pth.br', import.meta.url)));
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
  return (unpacked = files);
}

export function pthManifest(): ReadonlyMap<string, ManifestRow> {
  const text = pthFiles().get('manifest.json')!.toString('utf8');
  return new Map(Object.entries(JSON.parse(text) as Record<string, ManifestRow>));
}

/** Write all files into a folder that is made for them. */
export function unpackPth(folder: string): void {
  mkdirSync(folder, { recursive: true });
  for (const [name, bytes] of pthFiles()) {
    // In upstream's terms: it is no config of a checkpoint.
    if (name !== 'config.json') writeFileSync(join(folder, name), bytes);
  }
}
