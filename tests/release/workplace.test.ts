import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { replaceFolder } from '../../src/release/workplace.js';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'convert-beit-workplace-'));
});
afterEach(() => rm(folder, { recursive: true }));

it('of many folders that want one place at once, one has it whole and none fails', async () => {
  const names = Array.from({ length: 16 }, (_, i) => String(i));
  for (const name of names) {
    await mkdir(join(folder, name));
    for (const file of ['a', 'b']) await writeFile(join(folder, name, file), name);
  }
  const place = join(folder, 'place');
  await Promise.all(
    names.map((name) => replaceFolder(join(folder, name), place, join(folder, `${name}.previous`))),
  );
  expect(await readdir(folder)).toEqual(['place']);
  expect(await readdir(place)).toEqual(['a', 'b']);
  expect(await readFile(join(place, 'a'), 'utf8')).toBe(await readFile(join(place, 'b'), 'utf8'));
});
