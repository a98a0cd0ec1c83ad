import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/errors.js';
import { mergeResults } from '../../src/evaluate/merge.js';
import { readResults, toLine, type Header, type ImageRecord } from '../../src/evaluate/records.js';
import { Tally, shardSize } from '../../src/evaluate/tally.js';
import { temporaryFolder } from './support.js';

const folder = temporaryFolder();
const MODEL = {
  name: 'm.onnx',
  bytes: 10,
  sha256: 'aa',
  preprocessing: {
    resize: 8,
    crop: [8, 8],
    interpolation: 'bicubic',
    mean: [0.5],
    std: [0.5],
    origin: 'test',
  },
} as const;
const HEADER: Header = {
  format: 'convert-beit evaluation',
  version: 1,
  tool: '1',
  runtime: '2',
  model: MODEL,
  dataset: { name: 'data', images: 6, sha256: 'dd' },
  classes: {
    count: 6,
    how: 'class numbers',
    names: [
      ['0', 0],
      ['5', 5],
    ],
  },
  batch: 8,
  shard: [1, 1],
};
const record = (i: number, more: Partial<ImageRecord> = {}): ImageRecord => ({
  i,
  image: `${i}.png`,
  class: i < 3 ? 0 : 5,
  top: [0, 1, 2, 3, 4],
  p: [0.5, 0.2, 0.1, 0.1, 0.1],
  ...more,
});
const ALL = [0, 1, 2, 3, 4, 5].map((i) => record(i));
let number = 0;
const file = (text: string): string => {
  const path = join(folder, `${number++}.jsonl`);
  writeFileSync(path, text);
  return path;
};
const results = (header: Header, records: readonly ImageRecord[]): string =>
  file([toLine(header), ...records.map(toLine)].join(''));
const shard = (index: number, of: number, records: readonly ImageRecord[]): string =>
  results({ ...HEADER, shard: [index, of] }, records);
const read = async (path: string): Promise<ImageRecord[]> => {
  const records: ImageRecord[] = [];
  await readResults(
    path,
    () => undefined,
    (each) => records.push(each),
  );
  return records;
};

describe('a results file', () => {
  it('cut at any byte gives the records whose line is whole', async () => {
    const whole = readFileSync(results(HEADER, ALL.slice(0, 2)));
    const ends = [...whole.keys()].filter((at) => whole[at] === 10);
    for (let cut = 0; cut <= whole.length; cut += 1) {
      const path = join(folder, 'cut.jsonl');
      writeFileSync(path, whole.subarray(0, cut));
      const records: number[] = [];
      const found = await readResults(
        path,
        () => undefined,
        ({ i }) => records.push(i),
      );
      const complete = ends.filter((end) => end < cut).length;
      expect(found?.bytes).toBe(complete === 0 ? undefined : ends[complete - 1] + 1);
      expect(records).toEqual([0, 1].slice(0, Math.max(0, complete - 1)));
    }
  });

  it('may have lines longer than what is read at a time', async () => {
    const image = 'x'.repeat(700_000);
    expect(await read(results(HEADER, [record(0, { image }), record(1)]))).toEqual([
      record(0, { image }),
      record(1),
    ]);
  });

  it.each<[string, () => string, string]>([
    ['absent', () => join(folder, 'absent.jsonl'), 'there is no results file'],
    ['a folder', () => folder, 'is not a file'],
    ['something else', () => file('{"a": 1}\n'), 'its first line is no header'],
    ['text', () => file('hello\n'), 'line 1 is no JSON'],
    [
      'of a later version',
      () => file(toLine({ ...HEADER, version: 2 } as never)),
      'has version 2 of the results format',
    ],
    [
      'with half a header',
      () => file(toLine({ ...HEADER, classes: undefined } as never)),
      'the header is incomplete',
    ],
    [
      'damaged in the middle',
      () => file(`${toLine(HEADER)}{"i":0,\n${toLine(record(1))}`),
      'line 2 is no JSON',
    ],
    ['with a picture beyond the data', () => results(HEADER, [record(6)]), 'line 2 is no record'],
    ['with a picture of another shard', () => shard(1, 2, [record(1)]), 'line 2 is no record'],
    [
      'with a class beyond the head',
      () => results(HEADER, [record(0, { top: [6], p: [1] })]),
      'line 2 is no record',
    ],
    [
      'with a record that has no answer',
      () => results(HEADER, [{ i: 0, image: 'x' }]),
      'line 2 is no record',
    ],
  ])('%s: an error', async (_, path, message) => {
    await expect(read(path())).rejects.toThrow(message);
    await expect(read(path())).rejects.toThrow(InputError);
  });
});

describe('merging', () => {
  it('parts in any order give what the whole gives', async () => {
    const whole = await mergeResults([results(HEADER, ALL)]);
    const parts = [0, 1, 2].map((at) => shard(at + 1, 3, ALL.filter(({ i }) => i % 3 === at).reverse()));
    for (const order of [
      [0, 1, 2],
      [2, 0, 1],
    ]) {
      expect(JSON.stringify(await mergeResults(order.map((at) => parts[at])))).toBe(JSON.stringify(whole));
    }
    expect(whole.images).toEqual({ total: 6, evaluated: 6, unreadable: 0, labelled: 6 });
    expect(whole.model).toMatchObject({ correct1: 3, top1: 0.5, correct5: 3, top5: 0.5 });
  });

  it.each<[string, () => string[], string]>([
    [
      'a part missing',
      () => [shard(1, 2, [ALL[0], ALL[2], ALL[4]])],
      '3 of 6 pictures have no result: a part is not among the files',
    ],
    [
      'a part not finished',
      () => [shard(1, 2, [ALL[0]]), shard(2, 2, [ALL[1], ALL[3], ALL[5]])],
      '(shard 1/2) has 1 of 3',
    ],
    ['a part twice', () => [shard(1, 1, ALL), shard(1, 1, ALL)], 'picture 0 (0.png) has two results'],
    [
      'another model',
      () => [results(HEADER, ALL), results({ ...HEADER, model: { ...MODEL, sha256: 'bb' } }, [])],
      'the model differs',
    ],
    [
      'another preparation',
      () => [
        results(HEADER, ALL),
        results({ ...HEADER, model: { ...MODEL, preprocessing: { ...MODEL.preprocessing, resize: 9 } } }, []),
      ],
      'the preprocessing differs',
    ],
    [
      'other data',
      () => [
        results(HEADER, ALL),
        results({ ...HEADER, dataset: { name: 'data', images: 6, sha256: 'ee' } }, []),
      ],
      'the data set differs',
    ],
    [
      'another batch size',
      () => [results(HEADER, ALL), results({ ...HEADER, batch: 4 }, [])],
      'the --batch differs',
    ],
    ['a file without a line', () => [file('')], 'holds no results yet'],
    ['no files', () => [], 'no results files'],
  ])('%s: an error', async (_, paths, message) => {
    await expect(mergeResults(paths())).rejects.toThrow(message);
  });

  it('shards cover every picture once', () => {
    for (const images of [0, 1, 7, 2000]) {
      for (const of of [1, 3, 4, 9]) {
        const sizes = Array.from({ length: of }, (_, at) => shardSize(images, [at + 1, of]));
        expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(images);
        expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
      }
    }
  });
});

describe('counting', () => {
  it('two models: who is right, and how often they agree', () => {
    const tally = new Tally({ ...HEADER, against: MODEL });
    const other = (...top: number[]) => ({ top, p: top.map(() => 0.1) });
    tally.add(record(0, { other: other(0, 1, 2, 3, 4), difference: 0.5 })); // both right
    tally.add(record(1, { other: other(1, 0, 2, 3, 4), difference: 0.25 })); // only the model
    tally.add(record(3, { other: other(5, 1, 2, 3, 4) })); // only the other
    tally.add(record(4, { other: other(0, 4, 3, 2, 1) })); // neither
    tally.add(record(5, { class: undefined, top: [], p: [], other: other() })); // no answers, class unknown
    tally.add({ i: 2, image: '2.png', error: 'damaged' });
    const result = tally.result();
    expect(result.agreement).toEqual({
      top1: 2 / 5,
      top5: 3 / 5,
      maxDifference: 0.5,
      bothRight: 1,
      onlyModel: 1,
      onlyAgainst: 1,
      neither: 1,
    });
    expect(result.images).toEqual({ total: 6, evaluated: 5, unreadable: 1, labelled: 4 });
    expect(result.model).toMatchObject({ correct1: 2, correct5: 2, top1: 0.5, notFinite: 1 });
    expect(result.unreadable).toEqual([{ image: '2.png', error: 'damaged' }]);
    expect(result.perClass).toEqual([
      { class: 0, name: '0', images: 2, correct1: 2, correct5: 2 },
      { class: 5, name: '5', images: 2, correct1: 0, correct5: 0 },
    ]);
  });

  it('without known classes there is no accuracy', () => {
    const tally = new Tally(HEADER);
    tally.add(record(0, { class: undefined }));
    expect(tally.result().model).not.toHaveProperty('top1');
  });
});
