/**
 * The floors: imports go down only, stages never import each other, and there is no cycle.
 */
import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join, posix, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const src = join(dirname(dirname(fileURLToPath(import.meta.url))), 'src');
const STAGES = ['convert', 'export', 'verify', 'evaluate'];
const FLOOR_2 = [
  'pipeline.ts',
  'results.ts',
  'summaries.ts',
  'not-onnx.ts',
  'parity.ts',
  'reproduce.ts',
  'evaluation.ts',
  'classifier-file.ts',
];
const TOP = ['index.ts', ...FLOOR_2];

const files = readdirSync(src, { recursive: true, encoding: 'utf8' })
  .map((file) => file.split('\\').join('/'))
  .filter((file) => file.endsWith('.ts'));

/** Every relative import of a file, as a path below `src/`. Static, dynamic, re-exports, and worker URLs. */
function importsOf(file: string): string[] {
  const text = readFileSync(join(src, file), 'utf8');
  const found = [...text.matchAll(/(?:from|import|compiledUrl)\s*\(?\s*'(\.[^']+)'/g)].map(
    (match) => match[1],
  );
  return found.map((path) => posix.join(posix.dirname(file), path).replace(/\.js$/, '.ts'));
}

function floor(file: string): number {
  const [folder] = file.split('/');
  if (folder === 'cli' || file === 'index.ts') return 3;
  if (folder === 'release' || folder === 'verbs' || FLOOR_2.includes(file)) return 2;
  if (STAGES.includes(folder)) return 1;
  return 0;
}

const graph = new Map(files.map((file) => [file, importsOf(file)]));
const edges = [...graph].flatMap(([from, list]) => list.map((to) => ({ from, to })));

describe('architecture', () => {
  it('reads real imports', () => {
    expect(files).toEqual(expect.arrayContaining([...TOP, 'errors.ts']));
    expect(edges.length).toBeGreaterThan(files.length);
  });

  it('imports only files that exist', () => {
    expect(edges.filter(({ to }) => !graph.has(to) && !to.endsWith('.json'))).toEqual([]);
  });

  it('has no upward edge', () => {
    expect(edges.filter(({ from, to }) => floor(to) > floor(from))).toEqual([]);
  });

  it('has no edge between stages', () => {
    const stage = (file: string): string | undefined => STAGES.find((name) => file.startsWith(`${name}/`));
    expect(edges.filter(({ from, to }) => stage(from) && stage(to) && stage(from) !== stage(to))).toEqual([]);
  });

  it('has no cycle', () => {
    const done = new Set<string>();
    const cycles: string[][] = [];
    const visit = (file: string, path: readonly string[]): void => {
      if (path.includes(file)) cycles.push([...path.slice(path.indexOf(file)), file]);
      if (done.has(file) || path.includes(file)) return;
      for (const to of graph.get(file) ?? []) visit(to, [...path, file]);
      done.add(file);
    };
    for (const file of files) visit(file, []);
    expect(cycles).toEqual([]);
  });

  it('prints only in the command line', () => {
    const printing = files.filter(
      (file) =>
        floor(file) < 3 &&
        /\bconsole\.\w+\(|process\.std(out|err)\.write/.test(
          // Examples in docstrings may print.
          readFileSync(join(src, file), 'utf8').replaceAll(/\/\*\*[\s\S]*?\*\//g, ''),
        ),
    );
    expect(printing.map((file) => relative(src, join(src, file)))).toEqual([]);
  });
});
