/** Reading `fixtures/pth.br`: PyTorch files that PyTorch wrote. See fixtures/PROVENANCE.md, scripts/pack-pth.mjs. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readPack } from '../support/pack.js';

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
  return (unpacked ??= readPack(new URL('../../fixtures/pth.br', import.meta.url)));
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
