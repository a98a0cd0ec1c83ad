/** Before all tests: goldens that are kept as `<file>.br` (scripts/pack-golden.mjs) are unpacked; afterwards they go away. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliDecompressSync } from 'node:zlib';

/** Environment variable: the folder they are in. */
export const UNPACKED = 'CONVERT_BEIT_TEST_GOLDENS';

export default function setup(): () => void {
  const packed = fileURLToPath(new URL('../../fixtures/goldens/', import.meta.url));
  const folder = mkdtempSync(join(tmpdir(), 'convert-beit-goldens-'));
  const files = readdirSync(packed, { recursive: true, encoding: 'utf8' });
  for (const file of files.filter((name) => name.endsWith('.br'))) {
    const place = join(folder, file.slice(0, -'.br'.length));
    mkdirSync(dirname(place), { recursive: true });
    writeFileSync(place, brotliDecompressSync(readFileSync(join(packed, file))));
  }
  process.env[UNPACKED] = folder;
  return () => rmSync(folder, { recursive: true, force: true });
}
