/**
 * Pack a folder of small checkpoints into one brotli file: they hold the same weights over and over, so that 2.2 MB
 * become 0.15 MB. `node scripts/pack-pth.mjs <folder> <file>`; tests/support/pack.ts reads it.
 *
 * Content: a line of JSON, `[[name, bytes, sha256], …]`, then the files one after another.
 */
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { brotliCompressSync, constants } from 'node:zlib';

const [folder, file] = process.argv.slice(2);
const files = readdirSync(folder)
  .sort()
  .map((name) => ({ name, bytes: readFileSync(join(folder, name)) }));
const index = files.map(({ name, bytes }) => [
  name,
  bytes.length,
  createHash('sha256').update(bytes).digest('hex'),
]);
const packed = Buffer.concat([Buffer.from(`${JSON.stringify(index)}\n`), ...files.map(({ bytes }) => bytes)]);
writeFileSync(
  file,
  brotliCompressSync(packed, {
    params: {
      [constants.BROTLI_PARAM_LGWIN]: constants.BROTLI_MAX_WINDOW_BITS,
      [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY,
      [constants.BROTLI_PARAM_SIZE_HINT]: packed.length,
    },
  }),
);
console.log(`${files.length} files, ${packed.length} bytes`);
