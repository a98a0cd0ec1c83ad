/** docs/library.md: what the types say, and examples that run with the built package. */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as api from '../src/index.js';
import { cleanEnv } from './cli/harness.js';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../', import.meta.url));
const page = await readFile(join(root, 'docs', 'library.md'), 'utf8');
const headings = [...page.matchAll(/^### (\w+)$/gm)].map(([, name]) => name);
const sections = page.split(/^(?=##+ )/m);
const examples = sections.flatMap((section) =>
  [...section.matchAll(/^```js\n([\s\S]*?)^```$/gm)].map(
    ([, code]) => [/^### (\w+)/.exec(section)![1], code] as const,
  ),
);

it('is what scripts/make-api-docs.mjs makes of the types (npm run docs)', async () => {
  const { stdout } = await run(process.execPath, ['scripts/make-api-docs.mjs', '--print'], {
    cwd: root,
    maxBuffer: 10_000_000,
  });
  expect(page).toBe(stdout);
}, 60_000);

it('has every export, and every link leads somewhere', () => {
  expect(headings).toEqual(expect.arrayContaining(Object.keys(api)));
  const seen = new Map<string, number>();
  const anchors = [...page.matchAll(/^#+ (.+)$/gm)].map(([, title]) => {
    const plain = title.toLowerCase().replaceAll(' ', '-');
    const times = seen.get(plain) ?? 0;
    seen.set(plain, times + 1);
    return times === 0 ? plain : `${plain}-${times}`;
  });
  const links = [...page.matchAll(/\]\(#([^)]+)\)/g)].map(([, anchor]) => anchor);
  expect(links.filter((anchor) => !anchors.includes(anchor))).toEqual([]);
  expect(page).not.toContain('{@link');
});

describe('examples', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'convert-beit-library-'));
    await mkdir(join(folder, 'node_modules'));
    await symlink(root, join(folder, 'node_modules', 'convert-beit'), 'junction');
    await symlink(join(root, 'fixtures'), join(folder, 'fixtures'), 'junction');
  });
  afterAll(() => rm(folder, { recursive: true }));

  it('there is one for every function', () => {
    const functions = Object.entries(api).filter(([name]) => /^[a-z]/.test(name));
    expect(examples.map(([name]) => name)).toEqual(expect.arrayContaining(functions.map(([name]) => name)));
  });

  // One folder for all, in the page's order: a later one reads what an earlier one wrote.
  it.each(examples)(
    '%s',
    async (name, code) => {
      const file = join(folder, `${name}.mjs`);
      await writeFile(file, code);
      const { stdout, stderr } = await run(process.execPath, [file], { cwd: folder, env: cleanEnv() });
      expect(stderr).toBe('');
      expect(stdout).not.toMatch(/^$|undefined|NaN|\bfalse\b/);
    },
    60_000,
  );
});
