/** The commands of docs/evaluate.md that need nothing from outside, one after another in a folder of their own. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { createProgram } from '../../src/cli/program.js';
import { MAIN, cleanEnv } from '../cli/harness.js';
import { temporaryFolder } from './support.js';

const root = fileURLToPath(new URL('../../', import.meta.url));
const text = readFileSync(join(root, 'docs', 'evaluate.md'), 'utf8');
const blocks = (kind: string): string[] =>
  [...text.matchAll(/^```(.*)\n([\s\S]*?)^```$/gm)].filter((m) => m[1] === kind).map((m) => m[2]);
const runnable = blocks('sh run').flatMap((block) => block.trim().split('\n'));
const folder = temporaryFolder();

describe('docs/evaluate.md', () => {
  it('has commands to run', () => {
    expect(runnable.length).toBeGreaterThanOrEqual(11);
    mkdirSync(join(folder, 'fixtures'));
    cpSync(join(root, 'fixtures', 'demo'), join(folder, 'fixtures', 'demo'), { recursive: true });
    mkdirSync(join(folder, 'scripts'));
    cpSync(join(root, 'scripts', 'make-shapes.mjs'), join(folder, 'scripts', 'make-shapes.mjs'));
    symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'), 'junction');
  });

  it.each(runnable)('%s', (line) => {
    const [program, ...args] = line.split(' ');
    const argv = program === 'node' ? args : [MAIN, ...args.slice(1)];
    expect(program === 'node' ? '' : args[0]).toBe(program === 'node' ? '' : 'convert-beit');
    const { status, stdout, stderr } = spawnSync(process.execPath, argv, {
      cwd: folder,
      env: cleanEnv(),
      encoding: 'utf8',
    });
    expect({ status, stderr }).toMatchObject({ status: 0 });
    if (args.includes('--json')) expect(JSON.parse(stdout)).toMatchObject({ ok: true });
  });

  it('knows every option it speaks of, and speaks of every one that is special', () => {
    const options = new Set(
      createProgram({} as never).commands.flatMap((command) => command.options.map(({ long }) => long)),
    );
    const lines = [...blocks('sh'), ...blocks('yaml')].join('\n').replaceAll(/\\\n/g, ' ');
    const used = [...lines.matchAll(/convert-beit evaluate(.*(?:\n +--.*)*)/g)].flatMap(
      (m) => m[1].match(/--[a-z-]+/g) ?? [],
    );
    expect(used.length).toBeGreaterThan(10);
    expect(used.filter((option) => !options.has(option))).toEqual([]);
    for (const option of [
      '--results',
      '--resume',
      '--shard',
      '--merge',
      '--against',
      '--classes',
      '--labels',
      '--preprocess',
      '--batch',
      '--threads',
      '--top',
      '--json',
    ]) {
      expect(text).toContain(option);
    }
  });

  it('has YAML that is YAML', () => {
    const [workflow, job] = blocks('yaml').map(
      (block) => parse(block) as Record<string, Record<string, object>>,
    );
    expect(workflow['jobs']['part']).toMatchObject({ strategy: { matrix: { part: [1, 2, 3, 4] } } });
    expect(job).toMatchObject({ kind: 'Job', spec: { completionMode: 'Indexed', completions: 16 } });
  });
});
