import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/errors.js';
import { mapClasses } from '../../src/evaluate/classes.js';
import { parseCsv } from '../../src/evaluate/csv.js';
import { imagePath, openDataset } from '../../src/evaluate/dataset.js';
import { topClasses } from '../../src/evaluate/predict.js';
import { temporaryFolder } from './support.js';

const root = temporaryFolder();
let number = 0;
function folderOf(files: readonly string[]): string {
  const folder = join(root, String(number++));
  mkdirSync(folder);
  for (const file of files) {
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    writeFileSync(join(folder, file), '');
  }
  return folder;
}

describe('a folder', () => {
  it('has a class per sub-folder, in an order that no language changes', async () => {
    const folder = folderOf([
      'b/2.PNG',
      'b/10.jpg',
      'a/x/deep.webp',
      'Z/1.jpeg',
      'ä/1.gif',
      'loose.tif',
      'a/readme.txt',
    ]);
    const { items, ignored } = await openDataset(folder);
    expect(items).toEqual([
      { image: 'Z/1.jpeg', className: 'Z' },
      { image: 'a/x/deep.webp', className: 'a' },
      { image: 'b/10.jpg', className: 'b' },
      { image: 'b/2.PNG', className: 'b' },
      { image: 'loose.tif' },
      { image: 'ä/1.gif', className: 'ä' },
    ]);
    expect(ignored).toBe(1);
  });

  it('has the same digest wherever it lies, another one with another picture', async () => {
    const [one, two, three] = [
      ['a/1.png', 'b/1.png'],
      ['b/1.png', 'a/1.png'],
      ['a/1.png', 'b/2.png'],
    ].map(folderOf);
    const digest = async (path: string) => (await openDataset(path)).sha256;
    expect(await digest(two)).toBe(await digest(one));
    expect(await digest(three)).not.toBe(await digest(one));
  });

  it.skipIf(process.platform === 'win32')(
    'follows links, also to a folder above, and comes to an end',
    async () => {
      const folder = folderOf(['a/1.png']);
      symlinkSync(join(folder, 'a', '1.png'), join(folder, 'a', '2.png'));
      symlinkSync(folder, join(folder, 'a', 'up'));
      const { items } = await openDataset(folder);
      expect(items.map(({ image }) => image)).toEqual(['a/1.png', 'a/2.png']);
    },
  );

  it('without pictures is an error', async () => {
    await expect(openDataset(folderOf(['a/readme.txt']))).rejects.toThrow('there is no picture in');
    await expect(openDataset(join(root, 'absent'))).rejects.toThrow(InputError);
  });
});

describe('a list', () => {
  const list = (text: string | Uint8Array): string => {
    const path = join(folderOf([]), 'list.csv');
    writeFileSync(path, text);
    return path;
  };
  it('has paths relative to itself, quotes, a heading, and pictures of unknown class', async () => {
    const path = list('Path,label\r\nx/1.png,cat\r\n"a, b.png","the ""dog"""\r\n/abs/3.png,\r\n4.png\r\n');
    const dataset = await openDataset(path);
    expect(dataset.items).toEqual([
      { image: 'x/1.png', className: 'cat' },
      { image: 'a, b.png', className: 'the "dog"' },
      { image: '/abs/3.png' },
      { image: '4.png' },
    ]);
    expect(imagePath(dataset, dataset.items[0])).toBe(join(dirname(path), 'x/1.png'));
    expect(imagePath(dataset, dataset.items[2])).toBe('/abs/3.png');
  });

  it.each<[string, string | Uint8Array, string]>([
    ['three cells', 'a.png,1,2\n', 'row 1 has 3 cells'],
    ['no path', 'a.png,1\n,2\n', 'row 2 has 2 cells, the first is ""'],
    ['an open quote', 'a.png,1\n"b.png,2\n', 'the quote opened in line 2 is not closed'],
    ['a picture', Buffer.from([0xff, 0xd8, 0xff, 0xe0]), 'is no text; a folder or a CSV file is needed'],
    ['nothing', 'path,label\n', 'there is no picture in'],
  ])('%s: an error', async (_, text, message) => {
    await expect(openDataset(list(text))).rejects.toThrow(message);
  });

  it('keeps line breaks within quotes', () => {
    expect(parseCsv('"a\nb",c\n\nd', 'x')).toEqual([['a\nb', 'c'], ['d']]);
  });
});

describe('class names become numbers', () => {
  const labels = ['tench, Tinca tinca', 'crane', 'Crane, machine', 'bee eater'];
  const map = (names: readonly string[], hints: Partial<Parameters<typeof mapClasses>[1]> = {}) => {
    const { numbers, how } = mapClasses(new Set(names), { classes: 4, ...hints });
    return { ...Object.fromEntries(numbers), how };
  };
  const mapping = (text: string) => ({ mapping: { text, file: 'map' } });
  it.each<[string, () => object, object]>([
    [
      'the model’s names and synonyms',
      () => map(['Tinca Tinca', 'bee eater'], { labels }),
      { 'Tinca Tinca': 0, 'bee eater': 3, how: "the model's class names" },
    ],
    ['a whole name, though it is a synonym elsewhere', () => map(['crane'], { labels }), { crane: 1 }],
    ['numbers', () => map(['3', '0']), { 3: 3, 0: 0, how: 'class numbers' }],
    [
      'as many folders as classes: sorted',
      () => map(['n4', 'n1', 'n3', 'n2']),
      { n1: 0, n4: 3, how: 'the sorted order of the names' },
    ],
    ['a mapping: lines', () => map(['dog'], mapping('cat\ndog\n')), { dog: 1, how: 'the mapping map' }],
    [
      'a mapping: synsets and words',
      () => map(['n01443537'], mapping('n01440764 tench, Tinca tinca\nn01443537 goldfish')),
      { n01443537: 1 },
    ],
    ['a mapping: rows', () => map(['dog', 'cat'], mapping('cat,3\n"dog",0\n')), { cat: 3, dog: 0 }],
    [
      'a mapping: JSON object',
      () => map(['__proto__'], mapping('{"__proto__": 2}')),
      { how: 'the mapping map' },
    ],
    ['a mapping: JSON array', () => map(['b'], mapping('["a", "b"]')), { b: 1 }],
    ['no names at all', () => map([]), { how: "the model's class names" }],
  ])('%s', (_, found, expected) => {
    expect(found()).toMatchObject(expected);
  });

  it.each<[string, () => object, string]>([
    [
      'unknown names',
      () => map(['tench', 'dog'], { labels }),
      '2 class names in the data, 4 classes in the model: it is not known which dog is',
    ],
    ['a number beyond the classes', () => map(['4']), 'it is not known which 4 is'],
    ['a mapping that lacks one', () => map(['dog'], mapping('cat')), 'map has no number for dog'],
    [
      'a mapping beyond the classes',
      () => map(['cat'], mapping('{"cat": 4}')),
      'gives "cat" the number 4; the model has 4 classes',
    ],
    ['a mapping with a name twice', () => map(['cat'], mapping('cat\ncat')), 'has "cat" twice'],
    [
      'a mapping with words for numbers',
      () => map(['cat'], mapping('{"cat": "first"}')),
      '"cat" has no class number',
    ],
  ])('%s: an error', (_, found, message) => {
    expect(found).toThrow(InputError);
    expect(found).toThrow(message);
  });
});

describe('topClasses', () => {
  it('is the order of sorting, equal scores by number', () => {
    const logits = new Float32Array(200).map((_, i) => Math.round(Math.sin(i * 12.9898) * 20) / 4);
    const sorted = [...logits.keys()].sort((a, b) => logits[b] - logits[a] || a - b);
    for (const count of [1, 5, 17, 200]) {
      expect(topClasses(logits, count).map((each) => each.class)).toEqual(sorted.slice(0, count));
    }
    const sum = topClasses(logits, 200).reduce((total, { probability }) => total + probability, 0);
    expect(sum).toBeCloseTo(1, 10);
  });
  it('says nothing about scores that are no numbers', () => {
    expect(topClasses(Float32Array.of(1, NaN, 2), 2)).toEqual([]);
    expect(topClasses(Float32Array.of(1, Infinity), 2)).toEqual([]);
  });
  it('does not overflow', () => {
    expect(topClasses(Float32Array.of(1000, 999), 2)[0].probability).toBeCloseTo(1 / (1 + Math.exp(-1)), 12);
  });
});
