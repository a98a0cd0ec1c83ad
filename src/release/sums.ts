/** `SHA256SUMS`, in the form that `sha256sum -c` reads. */
import type { ReleasedFile } from './record.js';
import { byPath } from './record.js';

/**
 * One line a file: digest, two spaces, name. GNU's form for names with a backslash or a line break (a leading
 * backslash and escapes) is not needed: released names hold neither.
 */
export function checksums(files: readonly ReleasedFile[]): string {
  return [...files]
    .sort(byPath)
    .map(({ path, sha256 }) => `${sha256}  ${path}\n`)
    .join('');
}
