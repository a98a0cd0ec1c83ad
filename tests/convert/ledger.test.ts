import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadModel, type LoadOptions } from '../../src/convert/load.js';
import { ConvertBeitError, InputError, printable } from '../../src/errors.js';
import { build, type Recipe } from './recipe.js';

interface LedgerRow {
  /** what is wrong */
  readonly name: string;
  /** `model.safetensors` by default */
  readonly file?: string;
  readonly recipe?: Recipe;
  /** a path to load instead of the built file; `{dir}` is the row's folder */
  readonly path?: string;
  readonly options?: LoadOptions;
  /** class, exact message and exact next step; `{dir}` is the row's folder as messages show it */
  readonly error: string;
  readonly message: string;
  readonly next: string | null;
}

const FIXTURES = fileURLToPath(new URL('../../fixtures/', import.meta.url));
const FILES = readdirSync(FIXTURES).filter((file) => /^ledger.*\.json$/.test(file));
const LEDGER = FILES.flatMap((file) => JSON.parse(readFileSync(join(FIXTURES, file), 'utf8')) as LedgerRow[]);

let root: string;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'cb-'));
});
afterAll(() => {
  rmSync(root, { recursive: true });
});

const inFolder = (text: string, folder: string): string => text.replaceAll('{dir}', folder);

describe('bad inputs', () => {
  it('the ledgers have at least 140 rows, each with a name of its own', () => {
    expect(FILES).toEqual(expect.arrayContaining(['ledger.json', 'ledger-torch.json']));
    expect(LEDGER.length).toBeGreaterThanOrEqual(140);
    expect(new Set(LEDGER.map((row) => row.name)).size).toBe(LEDGER.length);
  });

  it.each(LEDGER.map((row, i) => [row.name, row, i] as const))('%s', async (_, row, i) => {
    const folder = join(root, String(i));
    mkdirSync(folder);
    const built = join(folder, row.file ?? 'model.safetensors');
    if (row.recipe) build(built, row.recipe);
    const { configPath } = row.options ?? {};
    const options = { ...row.options, configPath: configPath && inFolder(configPath, folder) };
    const path = row.path === undefined ? built : inFolder(row.path, folder);

    const error: unknown = await loadModel(path, options).then(
      () => 'no error at all',
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(ConvertBeitError);
    const { name, message, next } = error as ConvertBeitError;
    expect({ error: name, message, next: next ?? null }).toEqual({
      error: row.error,
      message: inFolder(row.message, printable(folder)),
      next: row.next,
    });
    if (error instanceof InputError) expect(error.exitCode).toBe(3);

    expect(`${message}${next ?? ''}`).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/);
  });
});
