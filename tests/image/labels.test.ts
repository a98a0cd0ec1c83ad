import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readSiblingConfig } from '../../src/convert/config-file.js';
import { InputError } from '../../src/errors.js';
import { fitLabels, parseLabels } from '../../src/labels.js';

describe('parseLabels', () => {
  it.each<[string, string, string[]]>([
    ['lines', 'cat\ndog\n', ['cat', 'dog']],
    ['lines of Windows, with a byte order mark', '\ufeffcat\r\ndog\r\n\r\n', ['cat', 'dog']],
    ['a class without a name in between', 'cat\n\ndog', ['cat', '', 'dog']],
    ['a JSON array', '["cat", "dog"]', ['cat', 'dog']],
    ['an object by id, in any order', '{"1": "dog", "0": "cat"}', ['cat', 'dog']],
    ['a transformers config', '{"model_type": "beit", "id2label": {"0": "cat", "1": "dog"}}', ['cat', 'dog']],
    ['a timm config', '{"architecture": "beit_x", "label_names": ["cat", "dog"]}', ['cat', 'dog']],
    ['a name that a prototype has', '{"0": "__proto__", "1": "constructor"}', ['__proto__', 'constructor']],
  ])('%s', (_, text, expected) => {
    expect(parseLabels(text, 'names')).toEqual(expected);
  });

  it.each<[string, string, string]>([
    ['nothing', ' \n', 'names holds no class names'],
    ['broken JSON', '{"0": ', 'names is no valid JSON'],
    ['an id missing', '{"0": "cat", "2": "dog"}', 'there are 2 class names, but none for id "1"'],
    ['names as keys', '{"cat": 0}', '"cat" is no class id with a name'],
    ['numbers in an array', '["cat", 1]', 'name 1 is no string'],
  ])('%s: an error', (_, text, message) => {
    expect(() => parseLabels(text, 'names')).toThrow(InputError);
    expect(() => parseLabels(text, 'names')).toThrow(message);
  });
});

describe('the names of ImageNet-22k', () => {
  const full = Array.from({ length: 21_843 }, (_, id) => `name ${id}`);
  const without = full.filter((_, id) => id !== 9205 && id !== 15027);

  it('a full list fits a head of 21,841 classes: the two unused names go', () => {
    const fitted = fitLabels(full, 21_841);
    expect(fitted).toEqual(without);
    expect([fitted[9204], fitted[9205], fitted[15_026]]).toEqual(['name 9204', 'name 9206', 'name 15028']);
  });

  it('stays as it is for any other head, and any other list for this one', () => {
    expect(fitLabels(full, 21_843)).toBe(full);
    expect(fitLabels(without, 21_841)).toBe(without);
  });

  it('id2label with the two gaps, as the converter of transformers leaves it', () => {
    const gaps = Object.fromEntries(
      full.flatMap((name, id) => (id === 9205 || id === 15027 ? [] : [[String(id), name]])),
    );
    expect(parseLabels(JSON.stringify({ id2label: gaps }), 'config.json')).toEqual(without);
  });

  it('also in a config.json beside the weights', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'convert-beit-labels-'));
    try {
      const id2label = Object.fromEntries(
        full.flatMap((name, id) => (id === 9205 || id === 15027 ? [] : [[String(id), name]])),
      );
      const label2id = Object.fromEntries(Object.entries(id2label).map(([id, name]) => [name, Number(id)]));
      const path = join(folder, 'config.json');
      writeFileSync(path, JSON.stringify({ model_type: 'beit', id2label, label2id }));
      expect((await readSiblingConfig(path))?.labels).toEqual(without);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('another gap stays an error', () => {
    const gaps = Object.fromEntries(
      full.flatMap((name, id) => (id === 5 || id === 6 ? [] : [[String(id), name]])),
    );
    expect(() => parseLabels(JSON.stringify(gaps), 'names')).toThrow('none for id "5"');
  });
});
