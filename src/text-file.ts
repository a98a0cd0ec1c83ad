/** Small text files that a person names: class names, configs. */
import { readFile } from 'node:fs/promises';
import { ConvertBeitError, EnvironmentError, InputError, printable } from './errors.js';

/** 21,841 names by id and the other way round take 2 MB. */
const MAX_TEXT_BYTES = 16_000_000;

/**
 * A small text file a person names.
 *
 * @param instead what to give where there is no such file, one sentence
 */
export async function readText(path: string, instead?: string): Promise<string> {
  const name = printable(path, 300);
  try {
    const bytes = await readFile(path);
    if (bytes.length > MAX_TEXT_BYTES) {
      throw new InputError(
        `${name} has ${bytes.length.toLocaleString('en-US')} bytes, too many for such a file`,
      );
    }
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    if (cause instanceof ConvertBeitError) throw cause;
    const code = (cause as NodeJS.ErrnoException).code ?? '';
    if (code === 'ENOENT' || code === 'ENOTDIR') {
      throw new InputError(`there is no file ${name}`, { next: instead, cause });
    }
    if (code === 'EISDIR') throw new InputError(`${name} is a folder, not a file`, { cause });
    if (code === '' || code.startsWith('ERR_')) throw new InputError(`${name} is no UTF-8 text`, { cause });
    throw new EnvironmentError(`cannot read ${name}: ${code}`, { cause });
  }
}
