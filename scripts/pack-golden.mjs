/** Keep a golden as `<file>.br`: `node scripts/pack-golden.mjs <file>…`; tests/support/unpack-goldens.ts unpacks it. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { brotliCompressSync, brotliDecompressSync, constants } from 'node:zlib';

for (const file of process.argv.slice(2)) {
  const bytes = readFileSync(file);
  const packed = brotliCompressSync(bytes, {
    params: {
      [constants.BROTLI_PARAM_LGWIN]: constants.BROTLI_MAX_WINDOW_BITS,
      [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY,
      [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length,
    },
  });
  if (!brotliDecompressSync(packed).equals(bytes)) throw new Error(`${file} does not come back`);
  writeFileSync(`${file}.br`, packed);
  rmSync(file);
  console.log(`${file}.br ${bytes.length} → ${packed.length}`);
}
