/** This package's own version, from the package.json one level above `src/` and `dist/`. */
import { readFileSync } from 'node:fs';

const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

/**
 * Of this package; every written file names it.
 *
 * @example
 * ```js
 * import { VERSION } from 'convert-beit';
 *
 * console.log(VERSION);
 * ```
 */
export const VERSION: string = manifest.version;
