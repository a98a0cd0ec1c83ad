/** Commands of the docs: what is marked runnable runs, and every field and option that they name exists. */
import { readFile, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { createProgram } from '../src/cli/program.js';
import { ITEM_FIELDS } from '../src/release/manifest.js';
import { DOCS, ROOT, blocks, checkoutFolder, readDoc, runBlock } from './support/checkout.js';

const pages = (await readdir(DOCS)).filter((name) => name.endsWith('.md')).sort();
const texts = new Map(await Promise.all(pages.map(async (name) => [name, await readDoc(name)] as const)));
const runnable = [...texts].map(([name, text]) => [name, blocks(text, 'sh runnable')] as const);

let folder: string;
beforeAll(async () => {
  folder = await checkoutFolder();
});
afterAll(() => rm(folder, { recursive: true }));

describe.skipIf(process.platform === 'win32')('runnable commands', () => {
  it('there are some', () => {
    const pagesWith = runnable.filter(([, found]) => found.length > 0).map(([name]) => name);
    expect(pagesWith).toEqual(
      expect.arrayContaining([
        'convert-one-model.md',
        'debug-parity.md',
        'release.md',
        'use-in-a-browser.md',
      ]),
    );
  });

  it.each(runnable.filter(([, found]) => found.length > 0))(
    '%s',
    async (_, found) => {
      for (const block of found) await runBlock(block, folder);
    },
    120_000,
  );
});

const program = createProgram({} as never);

/** Commands of ours in a shell text, continued lines joined. */
function calls(text: string): string[] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => /(?:^|run: |&& )npx convert-beit /.test(line))
    .map((line) => line.replace(/^.*?npx convert-beit /, ''));
}

function unknownOptions(call: string): string[] {
  const [first] = call.split(' ');
  const name = first.startsWith('-') ? 'convert' : first;
  const command = program.commands.find((each) => each.name() === name);
  if (!command) return [name];
  const known = new Set(command.options.flatMap(({ long }) => (long ? [long] : [])));
  return [...call.matchAll(/(?<![\w-])--[a-z][\w-]*/g)]
    .map(([flag]) => flag)
    .filter((flag) => !known.has(flag));
}

describe('what docs and workflows say', () => {
  it.each(pages)('%s: options exist', (name) => {
    for (const block of ['sh', 'sh runnable'].flatMap((info) => blocks(texts.get(name)!, info))) {
      for (const call of calls(block)) expect(unknownOptions(call), call).toEqual([]);
    }
  });

  it('release.md describes every field of a manifest', () => {
    const text = texts.get('release.md')!;
    const described = [...text.matchAll(/^\| `(\w+)` /gm)].map(([, field]) => field);
    expect(described.sort()).toEqual([...ITEM_FIELDS].sort());
    expect(text).toContain('`release.json`');
  });

  it.each(['ci.yml', 'release.yml'])('%s calls what a person can call', async (name) => {
    const text = await readFile(join(ROOT, '.github', 'workflows', name), 'utf8');
    const workflow = parse(text) as { jobs: Record<string, { steps: { run?: string; uses?: string }[] }> };
    const steps = Object.values(workflow.jobs).flatMap(({ steps: own }) => own);
    const { scripts } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as {
      scripts: Record<string, string>;
    };
    const lines = steps.flatMap((step) => step.run?.trim().split('\n') ?? []);
    expect(lines.length).toBeGreaterThan(2);
    for (const line of lines) {
      expect(line).toMatch(/^(?:npm ci|npm run \w+|npx convert-beit |diff |sha256sum |echo )/);
      const script = /^npm run (\w+)$/.exec(line)?.[1];
      if (script !== undefined) expect(Object.keys(scripts)).toContain(script);
      for (const call of calls(line)) expect(unknownOptions(call), call).toEqual([]);
    }
    if (name === 'release.yml') {
      const attest = steps.find(({ uses }) => uses?.startsWith('actions/attest-build-provenance@'));
      expect(JSON.stringify(attest)).toContain('release.json');
    }
  });
});
