import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { InputError, InterruptedError, UsageError } from '../../src/errors.js';
import { evaluate, mergeEvaluations, type EvaluateOptions } from '../../src/pipeline.js';
import { demoModel, fixture, makeShapes, temporaryFolder } from './support.js';

const folder = temporaryFolder();
const data = join(folder, 'shapes');
const at = (name: string): string => join(folder, name);
let model = '';
const run = (more: Partial<EvaluateOptions> = {}) => evaluate({ model, data, ...more });

beforeAll(async () => {
  model = await demoModel(folder);
  await makeShapes(data, 48, 3);
});

describe('evaluate', () => {
  it('counts what is unreadable, and tells it at once', async () => {
    const folder = at('broken');
    await makeShapes(folder, 8, 4);
    writeFileSync(join(folder, 'ring', 'cut.jpg'), readFileSync(fixture('demo/heart.jpg')).subarray(0, 900));
    writeFileSync(join(folder, 'ring', 'empty.png'), '');
    writeFileSync(join(folder, 'ring', 'notes.txt'), 'x');
    const notes: string[] = [];
    const { evaluation } = await run({ data: folder, onNote: (text) => notes.push(text) });
    expect(evaluation.images).toEqual({ total: 10, evaluated: 8, unreadable: 2, labelled: 8 });
    expect(evaluation.unreadable.map(({ image }) => image)).toEqual(['ring/cut.jpg', 'ring/empty.png']);
    // No place of this machine in what is compared between machines.
    expect(JSON.stringify(evaluation.unreadable)).not.toContain(folder);
    expect(notes).toEqual(
      expect.arrayContaining([
        '1 files of broken are no pictures and not counted',
        'ring/empty.png is empty; a picture is needed',
      ]),
    );
  });

  it('gives PyTorch’s classes and probabilities for the sample pictures, by a list', async () => {
    const expected = JSON.parse(readFileSync(fixture('demo/expected.json'), 'utf8')) as {
      samples: { file: string; top1: string; probability: number }[];
    };
    const list = at('list.csv');
    writeFileSync(
      list,
      expected.samples.map(({ file, top1 }) => `"${fixture(`demo/${file}`)}",${top1}\n`).join(''),
    );
    const results = at('samples.jsonl');
    const { evaluation } = await run({ data: list, results });
    expect(evaluation.model).toMatchObject({ correct1: 3, top1: 1, top5: 1, notFinite: 0 });
    const records = readFileSync(results, 'utf8').trimEnd().split('\n').slice(1);
    for (const [i, { probability }] of expected.samples.entries()) {
      expect((JSON.parse(records[i]) as { p: number[] }).p[0]).toBeCloseTo(probability, 4);
    }
  });

  it('the batch does not show in the results, nor do threads', async () => {
    const of = async (more: Partial<EvaluateOptions>) => (await run(more)).evaluation;
    const expected = await of({ batch: 8 });
    expect({ ...(await of({ batch: 5, threads: 1 })), batch: 8 }).toEqual(expected);
  });

  it('two models: one agrees with itself; another transform shows', async () => {
    const { evaluation } = await run({ against: model });
    expect(evaluation.agreement).toMatchObject({
      top1: 1,
      top5: 1,
      maxDifference: 0,
      onlyModel: 0,
      onlyAgainst: 0,
    });
    expect(evaluation.against).toEqual(evaluation.model);
  });

  it('two models with transforms of their own: each sees its own pixels', async () => {
    // The same network, written as BEiT v2: other mean and std.
    const other = at('v2.onnx');
    const { convert } = await import('../../src/pipeline.js');
    await convert({
      src: fixture('demo/beit_demo_patch8_64.safetensors'),
      out: other,
      version: 2,
      verify: false,
    });
    const alone = (await run({ model: other })).evaluation.model;
    const { evaluation } = await run({ against: other });
    expect(evaluation.against).toEqual(alone);
    expect(evaluation.agreement!.maxDifference).toBeGreaterThan(0.01);
  });

  it('progress ends at the number of pictures', async () => {
    const seen: [number, number | undefined][] = [];
    await run({ shard: [2, 3], onProgress: ({ done, total }) => seen.push([done, total]) });
    expect(seen[0]).toEqual([0, 16]);
    expect(seen.at(-1)).toEqual([16, 16]);
  });

  it('stopped: what is done is kept, and resumed it gives the same', async () => {
    const results = at('stopped.jsonl');
    const stop = new AbortController();
    const stopped = run({
      results,
      batch: 4,
      signal: stop.signal,
      onProgress: ({ done }) => done >= 12 && stop.abort(),
    });
    await expect(stopped).rejects.toThrow(InterruptedError);
    await expect(stopped).rejects.toThrow('--resume goes on');
    const done = readFileSync(results, 'utf8').trimEnd().split('\n').length - 1;
    expect(done).toBeGreaterThanOrEqual(12);
    expect(done).toBeLessThan(48);
    const { evaluation, run: figures } = await run({ results, batch: 4, resume: true });
    expect(figures.resumed).toBe(done);
    expect(evaluation).toEqual((await run({ batch: 4 })).evaluation);
    expect((await mergeEvaluations([results])).evaluation).toEqual(evaluation);
  });
});

describe('what does not fit together', () => {
  it('a results file that is there is not touched without --resume', async () => {
    const results = at('there.jsonl');
    writeFileSync(results, 'precious');
    await expect(run({ results })).rejects.toThrow(UsageError);
    await expect(run({ results, resume: true })).rejects.toThrow('is no results file');
    expect(readFileSync(results, 'utf8')).toBe('precious');
  });

  it('a results file of something else is not gone on with', async () => {
    const results = at('one.jsonl');
    await run({ results, shard: [1, 12] });
    const before = readFileSync(results, 'utf8');
    await expect(run({ results, resume: true, shard: [2, 12] })).rejects.toThrow('the --shard differs');
    await expect(run({ results, resume: true, shard: [1, 12], batch: 2 })).rejects.toThrow(
      'the --batch differs',
    );
    await expect(run({ results, resume: true, shard: [1, 12], preprocess: 'timm' })).rejects.toThrow(
      'the preprocessing differs',
    );
    expect(readFileSync(results, 'utf8')).toBe(before);
  });

  it.each<[string, () => Partial<EvaluateOptions>, string]>([
    ['no model', () => ({ model: at('absent.onnx') }), 'there is no file'],
    ['no ONNX file', () => ({ model: fixture('demo/star.png') }), 'star.png'],
    ['no data', () => ({ data: at('absent') }), 'there is no folder or list'],
    ['no mapping', () => ({ classes: at('absent.txt') }), 'there is no file'],
    ['a folder for results', () => ({ results: folder, resume: true }), 'cannot write --results'],
  ])('%s', async (_, options, message) => {
    await expect(run(options())).rejects.toThrow(message);
  });

  it('class names nobody knows', async () => {
    const strange = at('strange');
    mkdirSync(join(strange, 'unicorn'), { recursive: true });
    copyFileSync(fixture('demo/star.png'), join(strange, 'unicorn', '1.png'));
    await expect(run({ data: strange })).rejects.toThrow(InputError);
    const map = at('map.json');
    writeFileSync(map, '{"unicorn": 6}');
    expect((await run({ data: strange, classes: map })).evaluation.model.top1).toBe(1);
  });
});
