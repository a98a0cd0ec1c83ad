import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/errors.js';
import { parseManifest, readManifest, selectItems, shardOf } from '../../src/release/manifest.js';

const MODEL = 'models:\n  - name: a\n    source: official\n';

describe('parseManifest', () => {
  it('puts defaults under every model, and paths where the manifest lies', () => {
    const { name, items } = parseManifest(
      `version: 1
name: zoo
defaults: { dtype: [fp32, fp16], license: mit }
models:
  - { name: a, source: official }
  - { name: b, source: weights/b.safetensors, dtype: [q8], labels: names.txt, config: /etc/config.json }
  - { name: c, source: 'hf:timm/x@main' }
`,
      '/zoo/zoo.yaml',
    );
    expect(name).toBe('zoo');
    expect(items).toEqual([
      { name: 'a', source: 'official', dtype: ['fp32', 'fp16'], license: 'mit' },
      {
        name: 'b',
        source: '/zoo/weights/b.safetensors',
        dtype: ['q8'],
        license: 'mit',
        labels: '/zoo/names.txt',
        config: '/etc/config.json',
      },
      { name: 'c', source: 'hf:timm/x@main', dtype: ['fp32', 'fp16'], license: 'mit' },
    ]);
  });

  it.each([
    ['no version', MODEL, 'zoo.yaml:1:1: version: it is missing'],
    ['another version', `version: 2\n${MODEL}`, 'zoo.yaml:1:10: version: 1 is needed, not 2'],
    ['no models', 'version: 1\n', 'zoo.yaml:1:1: models: it is missing'],
    [
      'an unknown field',
      `version: 1\n${MODEL}    precision: fp16\n`,
      'zoo.yaml:5:5: models[0].precision: no such field',
    ],
    [
      'an unknown precision',
      `version: 1\n${MODEL}    dtype: [fp32, fp61]\n`,
      'zoo.yaml:5:19: models[0].dtype[1]: fp32, fp16, q8, int8, uint8, q4 or q4f16 is needed, not "fp61"',
    ],
    [
      'a name that leaves its folder',
      'version: 1\nmodels:\n  - name: ../a\n    source: official\n',
      'zoo.yaml:3:11: models[0].name: letters, digits, ".", "_" and "-" are needed',
    ],
    [
      'two models of one name',
      `version: 1\n${MODEL}  - name: A\n    source: official\n`,
      'zoo.yaml:5:11: two models are called A',
    ],
    [
      'a precision alone',
      `version: 1\n${MODEL}    dtype: fp16\n`,
      'zoo.yaml:5:12: models[0].dtype: a list is needed, not "fp16"',
    ],
    [
      'a precision twice',
      `version: 1\n${MODEL}    dtype: [q8, q8]\n`,
      'zoo.yaml:5:12: models[0].dtype: a precision is named twice',
    ],
    [
      'half a pixel',
      `version: 1\n${MODEL}    image_size: 224.5\n`,
      'zoo.yaml:5:17: models[0].image_size: a whole number of pixels, or [height, width], is needed',
    ],
    [
      'an opset of old',
      `version: 1\n${MODEL}    opset: 11\n`,
      'zoo.yaml:5:12: models[0].opset: 17 or more is needed, not 11',
    ],
    [
      'a name that the release itself needs',
      'version: 1\nmodels:\n  - name: Release.json\n    source: official\n',
      'zoo.yaml:3:11: models[0].name: a file of the release itself has this name',
    ],
    [
      'an official checkpoint that there is not',
      'version: 1\nmodels:\n  - name: a\n    source: official:beit_huge\n',
      'zoo.yaml:4:13: no official checkpoint is called "beit_huge"',
    ],
    [
      'a source of no form',
      'version: 1\nmodels:\n  - name: a\n    source: "hf:beit"\n',
      'zoo.yaml:4:13: "hf:beit": hf:<owner>/<repo> is needed',
    ],
    ['two documents', 'version: 1\n---\nversion: 1\n', 'zoo.yaml:2:1: a second document begins here'],
    ['broken YAML', 'version: 1\nmodels: [\n', 'zoo.yaml:3:1: Flow sequence in block collection must'],
    ['a repeated key', 'version: 1\nversion: 1\n', 'zoo.yaml:2:1: Map keys must be unique'],
    ['no map', '- 1\n', 'zoo.yaml:1:1: the manifest: a map of fields is needed, not a list'],
    ['nothing', '', 'zoo.yaml:1:1: the manifest: a map of fields is needed, not nothing'],
    [
      'aliases that multiply',
      `a: &a [1,1,1,1,1,1,1,1,1]\n${['b', 'c', 'd', 'e', 'f', 'g', 'h', 'i']
        .map((name, i) => `${name}: &${name} [${Array(9).fill(`*${'abcdefgh'[i]}`).join(',')}]`)
        .join('\n')}\n`,
      'zoo.yaml:1:1: the aliases of this YAML expand beyond reason',
    ],
    [
      'a control character',
      `version: 1\nmodels:\n  - name: "\\e[31m"\n    source: official\n`,
      'zoo.yaml:3:11:',
    ],
  ])('says where it is wrong: %s', (_, text, message) => {
    expect(() => parseManifest(text, 'zoo.yaml')).toThrow(InputError);
    try {
      parseManifest(text, 'zoo.yaml');
    } catch (error) {
      expect((error as Error).message.slice(0, message.length)).toBe(message);
    }
  });

  it('lists several complaints, and counts the rest', () => {
    const text = `version: 1\nmodels:\n${Array.from({ length: 12 }, (_, i) => `  - name: a${i}`).join('\n')}\n`;
    expect(() => parseManifest(text, 'zoo.yaml')).toThrow(
      /^(zoo\.yaml:\d+:\d+: models\[\d\]\.source: it is missing\n){8}and 4 more$/,
    );
  });

  it('names a file that is not there', async () => {
    await expect(readManifest('/nowhere/zoo.yaml')).rejects.toThrow(
      'the manifest /nowhere/zoo.yaml cannot be read (ENOENT)',
    );
  });
});

describe('choosing items', () => {
  const { items } = parseManifest(
    `version: 1\nmodels:\n${['a', 'b', 'c', 'd', 'e'].map((name) => `  - { name: ${name}, source: official }`).join('\n')}\n`,
    'zoo.yaml',
  );

  it('splits into shards that together are everything', () => {
    const shards = [1, 2, 3].map((index) => shardOf(items, { index, count: 3 }).map(({ name }) => name));
    expect(shards).toEqual([['a', 'd'], ['b', 'e'], ['c']]);
  });

  it('takes the named ones in the manifest’s order', () => {
    expect(selectItems(items, ['d', 'b']).map(({ name }) => name)).toEqual(['b', 'd']);
    expect(() => selectItems(items, ['x'])).toThrow('the manifest has no model called x');
  });
});
