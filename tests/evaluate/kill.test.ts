/** 2,000 pictures: in one go, killed again and again, and in four parts. The program itself, as it is installed. */
import { spawn } from 'node:child_process';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { MAIN, cleanEnv, runCompiled } from '../cli/harness.js';
import { demoModel, makeShapes, temporaryFolder } from './support.js';

const COUNT = 2000;
const UNREADABLE = ['circle/00016.png', 'star/00502.png'];
const folder = temporaryFolder();
const data = join(folder, 'shapes');
const at = (name: string): string => join(folder, name);
let model = '';
let whole = '';

interface Answer {
  readonly evaluation: {
    readonly images: object;
    readonly model: { readonly top1: number };
    readonly unreadable: readonly { readonly image: string }[];
  };
}

async function evaluation(args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await runCompiled(['evaluate', ...args, '--json', '--quiet']);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return JSON.stringify((JSON.parse(stdout) as Answer).evaluation);
}

/** Start, and end by SIGKILL once `bytes` of results are there and a little later. */
function killed(
  args: readonly string[],
  results: string,
  bytes: number,
  later: number,
): Promise<string | null> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [MAIN, 'evaluate', ...args, '--quiet'], {
      env: cleanEnv(),
      stdio: 'ignore',
    });
    const watch = setInterval(() => {
      if ((statSync(results, { throwIfNoEntry: false })?.size ?? 0) < bytes) return;
      clearInterval(watch);
      setTimeout(() => child.kill('SIGKILL'), later);
    }, 2);
    child.on('error', reject);
    child.on('close', (_, signal) => {
      clearInterval(watch);
      resolve(signal);
    });
  });
}

beforeAll(async () => {
  model = await demoModel(folder);
  await makeShapes(data, COUNT, 7);
  for (const name of UNREADABLE) writeFileSync(join(data, name), 'no picture');
  whole = await evaluation([model, data, '--results', at('whole.jsonl')]);
}, 180_000);

describe('evaluating 2,000 pictures', () => {
  it('finds what they show, and names the two that cannot be read', () => {
    const { images, unreadable, model: found } = JSON.parse(whole) as Answer['evaluation'];
    expect(images).toEqual({ total: COUNT, evaluated: COUNT - 2, unreadable: 2, labelled: COUNT - 2 });
    expect(unreadable.map(({ image }) => image)).toEqual(UNREADABLE);
    expect(found.top1).toBeGreaterThan(0.97);
  });

  it.skipIf(process.platform === 'win32')(
    'killed at any moment and resumed gives the same',
    async () => {
      const results = at('killed.jsonl');
      const full = statSync(at('whole.jsonl')).size;
      const args = [model, data, '--results', results, '--resume'];
      // At the header, in the first batches, and at arbitrary places after them.
      const moments = [0, 1, 3000, 0.2 * full, 0.41 * full, 0.63 * full, 0.8 * full];
      for (const [i, bytes] of moments.entries()) {
        expect(await killed(args, results, bytes, (i * 37) % 23)).toBe('SIGKILL');
      }
      const before = readFileSync(results, 'utf8').split('\n').length;
      expect(before).toBeGreaterThan(COUNT / 2);
      expect(before).toBeLessThan(COUNT);
      // A line that was being written.
      writeFileSync(results, '{"i":19', { flag: 'a' });
      expect(await evaluation(args)).toBe(whole);
      const lines = (path: string): string[] => readFileSync(path, 'utf8').trimEnd().split('\n').sort();
      expect(lines(results)).toEqual(lines(at('whole.jsonl')));
      // Once more, when nothing is left to do.
      expect(await evaluation(args)).toBe(whole);
    },
    180_000,
  );

  it('in four parts, merged, gives the same', async () => {
    const parts = [1, 2, 3, 4].map((i) => at(`part${i}.jsonl`));
    for (const [i, part] of parts.entries()) {
      const own = await evaluation([model, data, '--shard', `${i + 1}/4`, '--results', part]);
      expect((JSON.parse(own) as Answer['evaluation']).images).toMatchObject({ total: COUNT / 4 });
    }
    const merged = await runCompiled(['evaluate', '--merge', ...parts, '--json']);
    const single = await runCompiled(['evaluate', '--merge', at('whole.jsonl'), '--json']);
    expect(merged).toEqual(single);
    expect(JSON.stringify((JSON.parse(merged.stdout) as Answer).evaluation)).toBe(whole);
  }, 180_000);
});
