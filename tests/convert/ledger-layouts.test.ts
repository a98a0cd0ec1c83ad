/** Files that mix, lack or contradict: `fixtures/ledger-layouts.json`, every row with its exact error. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadModel, type LoadOptions } from '../../src/convert/load.js';
import { ConvertBeitError } from '../../src/errors.js';
import { build, type Recipe } from './recipe.js';
import type { TinyKind } from './tiny.js';

interface Row {
  readonly name: string;
  readonly recipe: Recipe;
  readonly options?: LoadOptions;
  readonly error: string;
  readonly message: string;
  readonly next: string | null;
}

const ROWS = JSON.parse(
  readFileSync(new URL('../../fixtures/ledger-layouts.json', import.meta.url), 'utf8'),
) as Row[];

let root: string;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'cbl-'));
});
afterAll(() => {
  rmSync(root, { recursive: true });
});

describe('layouts and kinds that do not fit', () => {
  it.each(ROWS.map((row, i) => [row.name, row, i] as const))('%s', async (_, row, i) => {
    const folder = join(root, String(i));
    mkdirSync(folder);
    const path = join(folder, 'model.safetensors');
    build(path, row.recipe);
    const error: unknown = await loadModel(path, row.options).then(
      () => 'no error at all',
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(ConvertBeitError);
    const { name, message, next } = error as ConvertBeitError;
    expect({ error: name, message, next: next ?? null }).toEqual({
      error: row.error,
      message: row.message,
      next: row.next,
    });
  });

  it.each<[TinyKind, object]>([
    ['transformers', { kind: 'classification', classes: 3 }],
    ['mmpretrain', { kind: 'classification', classes: 3 }],
    ['pre-training', { kind: 'pre-training', vocabulary: 5 }],
    ['cls_pt', { kind: 'pre-training', clsPretraining: { earlyLayer: 1, layers: 1, sharedHead: true } }],
    ['segmentation', { kind: 'segmentation', classes: 3 }],
  ])('the %s model that rows are made from is sound itself', async (of, config) => {
    const path = join(root, `${of}.safetensors`);
    build(path, { tiny: { of } });
    const model = await loadModel(path, { hints: { earlyLayer: 1 } });
    expect(model.config).toMatchObject(config);
    await model.close();
  });
});
