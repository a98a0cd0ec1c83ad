import { createRequire } from 'node:module';
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { memorySource } from '../../src/bytes.js';
import { safetensors } from '../../src/convert/containers/safetensors.js';
import { sharded } from '../../src/convert/containers/sharded.js';
import { parseJson } from '../../src/convert/json.js';
import { inspectCheckpoint, loadModel } from '../../src/convert/load.js';
import { CONTAINERS, openCheckpoint, openSource } from '../../src/convert/open.js';
import { readBytes } from '../../src/tensor.js';
import { goldenPath } from './goldens.js';
import { TINY, safetensorsBytes, withLength } from './recipe.js';

// CommonJS without types
const { SafeTensor } = createRequire(import.meta.url)('safetensors') as {
  SafeTensor: new (bytes: Uint8Array) => {
    readonly metadata: Map<string, { dtype: string; shape: number[] }>;
    getTensor(name: string): Uint8Array;
  };
};

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'convert-beit-test-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

const noSibling = (): Promise<never> => Promise.reject(new Error('not asked for'));

describe('what a well-formed safetensors file may have', () => {
  const entry = (extra: object): string =>
    JSON.stringify({ dtype: 'F32', shape: [1], data_offsets: [0, 4], ...extra });
  it.each([
    ['spaces behind the header', `{"a":${entry({})}}     `, 4, 1],
    [
      'entries in another order than their data',
      `{"b":${entry({ data_offsets: [4, 8] })},"a":${entry({})}}`,
      8,
      2,
    ],
    ['a scalar', `{"a":${entry({ shape: [] })}}`, 4, 1],
    ['an empty tensor', `{"e":${entry({ shape: [0, 7], data_offsets: [4, 4] })},"a":${entry({})}}`, 4, 2],
    [
      'an empty tensor in front',
      `{"a":${entry({})},"e":${entry({ shape: [0], data_offsets: [0, 0] })}}`,
      4,
      2,
    ],
    ['metadata', `{"__metadata__":{"format":"pt"},"a":${entry({})}}`, 4, 1],
    ['no tensors', '{}', 0, 0],
    ['an escaped name', `{"\\u0061\\n":${entry({})}}`, 4, 1],
    ['a name beyond the basic plane', `{"\u{1f600}\\ud83d\\ude00":${entry({})}}`, 4, 1],
    [
      'names of object members',
      `{"__proto__":${entry({})},"constructor":${entry({ data_offsets: [4, 8] })}}`,
      8,
      2,
    ],
  ])('%s', async (_, header, data, count) => {
    const bytes = withLength(Buffer.from(header), Buffer.alloc(data));
    const opened = await openSource(memorySource('x.safetensors', bytes), noSibling);
    expect(opened.container).toBe('safetensors');
    expect(opened.tensors.size).toBe(count);
    for (const tensor of opened.tensors.values()) await readBytes(tensor);
  });

  it('keeps the names of object members as names', async () => {
    const bytes = safetensorsBytes(new Map([['__proto__', { shape: [2] }]]));
    const { tensors } = await openSource(memorySource('x', bytes), noSibling);
    expect([...tensors.keys()]).toEqual(['__proto__']);
    expect(tensors.get('toString')).toBeUndefined();
  });

  it('reads the header and nothing else', async () => {
    const source = memorySource('x.safetensors', safetensorsBytes(TINY));
    const reads: [number, number][] = [];
    const spy = {
      ...source,
      read: (start: number, end: number) => (reads.push([start, end]), source.read(start, end)),
    };
    await safetensors.open(spy, noSibling);
    const header = 8 + Number(Buffer.from(await source.read(0, 8)).readBigUInt64LE(0));
    expect(reads).toEqual([
      [0, 8],
      [8, header],
    ]);
  });

  it('bounds the number of values in a header', () => {
    expect(() => parseJson('[1,2,3,4]', { subject: 'x', maxValues: 4 })).toThrow(
      'x is not valid JSON: more than 4 values at character 7',
    );
  });
});

describe('contrast: the npm package `safetensors`', () => {
  it.each(['v1_cls', 'mm_out_types', 'mm_bias_true'])('%s: both see the same', async (name) => {
    const path = goldenPath(name, 'mmpretrain.safetensors');
    const theirs = new SafeTensor(Uint8Array.from(readFileSync(path)));
    const ours = await openCheckpoint(path);
    expect([...theirs.metadata.keys()]).toEqual([...ours.tensors.keys()]);
    for (const [key, tensor] of ours.tensors) {
      expect(theirs.metadata.get(key)).toMatchObject({ dtype: tensor.dtype, shape: tensor.shape });
      expect(Buffer.from(theirs.getTensor(key)).equals(await readBytes(tensor)), key).toBe(true);
    }
    await ours.close();
  });

  it('it cannot read metadata, and takes a file that is cut off for a whole one; ours does neither', async () => {
    const withMetadata = safetensorsBytes(TINY, { format: 'pt' });
    expect(() => new SafeTensor(Uint8Array.from(withMetadata))).toThrow(TypeError);
    const { metadata } = await openSource(memorySource('x', withMetadata), noSibling);
    expect([...metadata]).toEqual([['format', 'pt']]);

    const cut = safetensorsBytes(TINY).subarray(0, -10);
    expect(new SafeTensor(Uint8Array.from(cut)).getTensor('head.bias')).toHaveLength(2);
    await expect(openSource(memorySource('x', cut), noSibling)).rejects.toThrow('x is cut off');
  });
});

describe('a sharded checkpoint', () => {
  const names = [...TINY.keys()];
  const [first, second] = [names.slice(0, 15), names.slice(15)];
  const part = (keys: readonly string[]): Buffer =>
    safetensorsBytes(new Map(keys.map((key) => [key, TINY.get(key)!])), { format: 'pt' });
  const index = JSON.stringify({
    metadata: { total_size: 2316 },
    weight_map: Object.fromEntries(
      names.map((key) => [key, `model-0000${first.includes(key) ? 1 : 2}-of-00002.safetensors`]),
    ),
  });

  it('loads through its index, through its folder, and like the whole file', async () => {
    const beit = join(folder, 'plain');
    mkdirSync(beit);
    writeFileSync(join(beit, 'model.safetensors.index.json'), index);
    writeFileSync(join(beit, 'model-00001-of-00002.safetensors'), part(first));
    writeFileSync(join(beit, 'model-00002-of-00002.safetensors'), part(second));
    for (const path of [beit, join(beit, 'model.safetensors.index.json')]) {
      const model = await loadModel(path);
      expect(model.provenance.container).toBe('sharded safetensors');
      expect(model.provenance.files.map((file) => file.name)).toEqual([
        'model.safetensors.index.json',
        'model-00001-of-00002.safetensors',
        'model-00002-of-00002.safetensors',
      ]);
      const whole = join(folder, 'whole.safetensors');
      writeFileSync(whole, safetensorsBytes(TINY));
      const single = await loadModel(whole);
      expect(model.config).toEqual(single.config);
      for (const [key, tensor] of single.tensors) {
        expect(await readBytes(model.tensors.get(key)!)).toEqual(await readBytes(tensor));
      }
      await Promise.all([model.close(), single.close()]);
    }
  });

  it('may consist of links into a hub cache', async () => {
    const cache = join(folder, 'models--a--b');
    const snapshot = join(cache, 'snapshots', '0123abcd');
    mkdirSync(join(cache, 'blobs'), { recursive: true });
    mkdirSync(snapshot, { recursive: true });
    const put = (name: string, blob: string, bytes: string | Buffer): void => {
      writeFileSync(join(cache, 'blobs', blob), bytes);
      symlinkSync(`../../blobs/${blob}`, join(snapshot, name));
    };
    put('model.safetensors.index.json', 'aa', index);
    put('model-00001-of-00002.safetensors', 'bb', part(first));
    put('model-00002-of-00002.safetensors', 'cc', part(second));
    const found = await inspectCheckpoint(snapshot);
    expect(found.problem).toBeUndefined();
    expect(found.tensors).toHaveLength(TINY.size);
  });

  it('closes what it has opened when a later file is bad', async () => {
    const closed: string[] = [];
    const source = memorySource('model.safetensors.index.json', Buffer.from(index));
    const sibling = (name: string): Promise<ReturnType<typeof memorySource>> => {
      const bytes = name.includes('00001-') ? part(first) : part(second).subarray(0, 50);
      const inner = memorySource(name, bytes);
      return Promise.resolve({ ...inner, close: () => (closed.push(name), inner.close()) });
    };
    await expect(sharded.open(source, sibling)).rejects.toThrow('is cut off');
    expect(closed.sort()).toEqual(['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors']);
  });
});

describe('every container', () => {
  it.each(CONTAINERS.map((container) => [container.name, container] as const))(
    '%s claims no other format’s head',
    (_, container) => {
      const own = { 'PyTorch (zip)': 'PK', 'PyTorch (legacy stream)': '\u0080' }[container.name];
      const foreign = [
        'PK\u0003\u0004',
        'version https://git-lfs',
        '<!DOCTYPE html>',
        '\u0080\u0002}q\u0000',
        '\u001f\u008b\u0008',
        '',
      ].filter((head) => own === undefined || !head.startsWith(own));
      for (const text of foreign) {
        expect(container.matches(Buffer.from(text.padEnd(64, ' '), 'latin1'), 'model')).toBe(false);
      }
      expect(container.matches(new Uint8Array(0), container.endings[0] ?? 'model.pth')).toBe(false);
    },
  );
});

describe('a folder', () => {
  it('with one checkpoint of any name is that checkpoint', async () => {
    const beit = join(folder, 'one');
    mkdirSync(beit);
    writeFileSync(join(beit, 'beitv2_base.safetensors'), safetensorsBytes(TINY));
    writeFileSync(join(beit, 'README.md'), '# BEiT');
    const model = await loadModel(beit);
    expect(model.provenance).toMatchObject({ id: 'beitv2_base.safetensors', version: 2 });
    await model.close();
  });

  it('with model.safetensors and others beside it is model.safetensors', async () => {
    const beit = join(folder, 'more');
    mkdirSync(beit);
    for (const name of ['model.safetensors', 'epoch-1.safetensors'])
      writeFileSync(join(beit, name), safetensorsBytes(TINY));
    const model = await loadModel(beit);
    expect(model.provenance.id).toBe('model.safetensors');
    await model.close();
  });

  it('has open files only as long as a model is open', async () => {
    const count = (): number => readdirSync('/proc/self/fd').length;
    if (process.platform !== 'linux') return;
    const before = count();
    const path = join(folder, 'broken.safetensors');
    writeFileSync(path, safetensorsBytes(new Map([['a', { shape: [1] }]])));
    for (let i = 0; i < 20; i++) {
      await loadModel(path).catch(() => undefined);
      await inspectCheckpoint(path);
    }
    expect(count()).toBe(before);
  });
});
