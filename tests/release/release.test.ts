/** The release verb with the real converter, on models that take a second. */
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { unzipSync } from 'fflate';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { hashFolder } from '../../src/release/files.js';
import { folderBuilder } from '../../src/release/folder.js';
import { release, type Builder, type ItemEvent, type ReleaseOptions } from '../../src/release/release.js';
import { goldenPath } from '../convert/goldens.js';
import { COMMIT, HubServer } from '../support/hub-server.js';
import { smallClassifier } from '../support/published.js';

let folder: string;
let manifest: string;
let out: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'convert-beit-release-'));
  manifest = join(folder, 'zoo.yaml');
  out = join(folder, 'dist');
});
afterEach(() => rm(folder, { recursive: true }));

const V1 = `  - { name: one, source: ${goldenPath('v1_cls', 'official.safetensors')}, beit_version: 1 }\n`;
const V2 = `  - { name: two, source: ${goldenPath('v2_cls', 'official.safetensors')}, beit_version: 2 }\n`;
const EXPECTED_PLACE = /is a file; a release is a folder|the folder is not there|not a folder/;
const GONE = `  - { name: gone, source: nowhere.safetensors }\n`;

async function run(models: string, options: Partial<ReleaseOptions> = {}, builder: Builder = folderBuilder) {
  await writeFile(manifest, `version: 1\nname: A zoo\nmodels:\n${models}`);
  const events: ItemEvent[] = [];
  const result = await release(
    { manifest, out, env: {}, onItem: (event) => events.push(event), ...options },
    builder,
  );
  return { ...result, events, statuses: result.items.map(({ name, status }) => `${name} ${status}`) };
}

/** Everything of a release that people get; not what it remembers for the next run. */
async function content(path: string): Promise<Record<string, string>> {
  const files = await hashFolder(path);
  return Object.fromEntries(
    files.filter((file) => !file.path.startsWith('.release/')).map((file) => [file.path, file.sha256]),
  );
}

describe('release', () => {
  it('one failure stops no other, and is told with its next step', async () => {
    const { items, statuses, events } = await run(V1 + GONE + V2);
    expect(statuses).toEqual(['one built', 'gone failed', 'two built']);
    expect(items[1].error).toMatchObject({ kind: 'InputError' });
    expect(items[1].error?.message).toMatch(/nowhere\.safetensors does not exist$/);
    expect(items[1].error?.next).toMatch(/^A source is: /);
    expect(events.map(({ name, status }) => `${name} ${status}`)).toEqual([
      'one started',
      'one built',
      'gone failed',
      'two started',
      'two built',
    ]);
    expect((await readdir(out)).sort()).toEqual([
      '.release',
      'README.md',
      'SHA256SUMS',
      'metafile.yml',
      'one',
      'release.json',
      'two',
    ]);
    expect(await readdir(join(out, '.release'))).toEqual(['one.json', 'two.json']);
  });

  it('goes on where it was: finished models are left alone, changed ones are made again', async () => {
    await run(V1 + V2);
    const before = await content(out);
    const built: string[] = [];
    const watched: Builder = {
      ...folderBuilder,
      build: (item, ...rest) => {
        built.push(item.name);
        return folderBuilder.build(item, ...rest);
      },
    };
    expect((await run(V1 + V2, {}, watched)).statuses).toEqual(['one unchanged', 'two unchanged']);
    expect(built).toEqual([]);
    expect(await content(out)).toEqual(before);
    // A file that somebody changed, and one with another option.
    await writeFile(join(out, 'one', 'config.json'), '{}');
    expect((await run(V1 + V2, {}, watched)).statuses).toEqual(['one built', 'two unchanged']);
    expect(await content(out)).toEqual(before);
    const titled = V2.replace('name: two', 'name: two, title: Second');
    expect((await run(V1 + titled, {}, watched)).statuses).toEqual(['one unchanged', 'two built']);
    expect(built).toEqual(['one', 'two']);
  });

  it('notices other weights under the same name', async () => {
    const source = join(folder, 'model.safetensors');
    const models = `  - { name: one, source: model.safetensors, beit_version: 1 }\n`;
    await writeFile(source, await readFile(goldenPath('v1_cls', 'official.safetensors')));
    await run(models);
    await writeFile(source, await readFile(goldenPath('v1_cls_pool', 'official.safetensors')));
    expect((await run(models)).statuses).toEqual(['one built']);
  });

  it('shards, then a run over all, end as one run over all', async () => {
    const models = V1 + V2 + V1.replace('one', 'three');
    await run(models);
    const whole = await content(out);
    out = join(folder, 'parts');
    expect((await run(models, { shard: { index: 1, count: 2 } })).statuses).toEqual([
      'one built',
      'three built',
    ]);
    expect((await run(models, { shard: { index: 2, count: 2 } })).statuses).toEqual(['two built']);
    expect((await run(models)).statuses).toEqual(['one unchanged', 'two unchanged', 'three unchanged']);
    expect(await content(out)).toEqual(whole);
  });

  it('several jobs at once give the same bytes', async () => {
    await run(V1 + V2, { jobs: 1 });
    const one = await content(out);
    out = join(folder, 'parallel');
    await run(V1 + V2, { jobs: 2, memory: 64e9 });
    expect(await content(out)).toEqual(one);
  });

  it('dated names as OpenMMLab publishes, from SOURCE_DATE_EPOCH', async () => {
    const options = { nameStyle: 'openmmlab' as const, env: { SOURCE_DATE_EPOCH: '1668384000' } };
    await run(V1, options);
    const [name] = await readdir(join(out, 'one', 'onnx'));
    const bytes = await readFile(join(out, 'one', 'onnx', name));
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    expect(name).toBe(`one_3rdparty_10cls_20221114-${sha256.slice(0, 8)}.onnx`);
    const sums = await readFile(join(out, 'SHA256SUMS'), 'utf8');
    expect(sums).toContain(`${sha256}  one/onnx/${name}\n`);
    // transformers.js would not find it, so nothing says that it would.
    expect(await readFile(join(out, 'one', 'README.md'), 'utf8')).not.toContain(
      "'@huggingface/transformers'",
    );
    expect(await readFile(join(out, 'one', 'config.json'), 'utf8')).not.toContain('transformers.js_config');
    expect((await run(V1, options)).statuses).toEqual(['one unchanged']);
  });

  it('a zip of everything, the same each time', async () => {
    const { files } = await run(V1, { zip: true });
    expect(files.map(({ path }) => path)).toContain('A-zoo.zip');
    const zip = await readFile(join(out, 'A-zoo.zip'));
    const entries = unzipSync(zip);
    const listed = Object.keys(await content(out)).filter((path) => path !== 'A-zoo.zip');
    expect(Object.keys(entries).sort()).toEqual(listed.sort());
    expect(
      Buffer.from(entries['one/config.json']).equals(await readFile(join(out, 'one', 'config.json'))),
    ).toBe(true);
    out = join(folder, 'again');
    await run(V1, { zip: true });
    expect((await readFile(join(out, 'A-zoo.zip'))).equals(zip)).toBe(true);
  });

  it('release.json and metafile.yml say where everything came from', async () => {
    await run(V1.replace(' }', ', metrics: { top1: 81.5 }, training_data: [ImageNet-1k] }'));
    const provenance = JSON.parse(await readFile(join(out, 'release.json'), 'utf8')) as {
      items: { inputs: { files: { sha256: string }[] }; outputs: { path: string; sha256: string }[] }[];
    };
    const [item] = provenance.items;
    const source = await readFile(goldenPath('v1_cls', 'official.safetensors'));
    expect(item.inputs.files).toEqual([
      {
        name: 'official.safetensors',
        bytes: source.length,
        sha256: createHash('sha256').update(source).digest('hex'),
      },
    ]);
    for (const { path, sha256 } of item.outputs) {
      const bytes = await readFile(join(out, 'one', path));
      expect(createHash('sha256').update(bytes).digest('hex'), path).toBe(sha256);
    }
    expect(JSON.stringify(provenance)).not.toContain(folder);
    const metafile = parse(await readFile(join(out, 'metafile.yml'), 'utf8')) as {
      Models: Record<string, unknown>[];
    };
    expect(metafile.Models[0]).toMatchObject({
      Name: 'one',
      'In Collection': 'BEiT',
      Metadata: { 'Training Data': 'ImageNet-1k' },
      Results: [{ Task: 'Image Classification', Metrics: { 'Top 1 Accuracy': 81.5 }, Source: 'published' }],
      Config: 'one/config.json',
    });
    const card = await readFile(join(out, 'one', 'README.md'), 'utf8');
    expect(card).toContain('as published');
  });

  it('a finished model from a hub is not downloaded again, also where there is no cache', async () => {
    const hub = await HubServer.start();
    try {
      const weights = await readFile(goldenPath('v1_cls', 'official.safetensors'));
      hub.files.set('model.safetensors', { content: weights, lfs: true });
      const models = `  - { name: one, source: 'hf:owner/model', beit_version: 1 }\n`;
      const env = (cache: string) => ({
        env: { HF_ENDPOINT: hub.endpoint, HF_HUB_CACHE: join(folder, cache), HF_HOME: folder },
      });
      const first = await run(models, env('cache'));
      expect(first.statuses).toEqual(['one built']);
      expect(first.items[0].released?.source.id).toMatch(
        /^hf:owner\/model@[0-9a-f]{40}\/model\.safetensors$/,
      );
      const sent = hub.sent;
      expect((await run(models, env('another'))).statuses).toEqual(['one unchanged']);
      expect(hub.sent - sent).toBeLessThan(weights.length / 2);
    } finally {
      await hub.stop();
    }
  });

  it('class names from a hub: recorded, and a model without them is made again when they can be had', async () => {
    const hub = await HubServer.start('timm/beit_base_patch16_224.in22k_ft_in22k_in1k');
    try {
      hub.files.set('model.safetensors', { content: smallClassifier(1000), lfs: true });
      const id2label = Object.fromEntries(Array.from({ length: 1000 }, (_, id) => [id, `class ${id}`]));
      const names = new Map([['config.json', { content: Buffer.from(JSON.stringify({ id2label })) }]]);
      const models = `  - { name: one, source: official }\n`;
      const labelsOf = async () => {
        const text = await readFile(join(out, 'release.json'), 'utf8');
        return (JSON.parse(text) as { items: { inputs: { labels: unknown } }[] }).items[0].inputs.labels;
      };
      const told: string[] = [];
      const options = (cache: string) => ({
        verify: false,
        env: { HF_ENDPOINT: hub.endpoint, HF_HUB_CACHE: join(folder, cache), HF_HOME: folder },
        onNote: (note: string) => void told.push(note),
      });
      expect((await run(models, options('cache'))).statuses).toEqual(['one built']);
      expect(await labelsOf()).toEqual({ missing: 'imagenet-1k' });
      expect(told).toEqual([expect.stringMatching(/^one: no class names: .*; give them with --labels$/)]);
      expect((await run(models, options('cache'))).statuses).toEqual(['one unchanged']);

      hub.others.set('microsoft/beit-base-patch16-224', names);
      expect((await run(models, options('cache'))).statuses).toEqual(['one built']);
      const recorded = await labelsOf();
      expect(recorded).toEqual({
        count: 1000,
        origin: `imagenet-1k, hf:microsoft/beit-base-patch16-224@${COMMIT}/config.json`,
        sha256: createHash('sha256')
          .update(JSON.stringify(Object.values(id2label)))
          .digest('hex'),
      });
      expect(await readFile(join(out, 'one', 'config.json'), 'utf8')).toContain('"0": "class 0"');
      expect(await readFile(join(out, 'one', 'README.md'), 'utf8')).toContain(
        'Class names are from `imagenet-1k, hf:microsoft/',
      );
      expect((await run(models, options('cache'))).statuses).toEqual(['one unchanged']);

      // Out of reach again, on a machine without the cache: what is finished stays as it is.
      hub.others.clear();
      expect((await run(models, options('another'))).statuses).toEqual(['one unchanged']);
      expect(await labelsOf()).toEqual(recorded);
      // What the manifest asks for has to be had.
      const { items } = await run(models.replace(' }', ', labels: imagenet-1k }'), options('another'));
      expect(items[0].error).toMatchObject({ kind: 'NetworkError' });
      expect((await run(models.replace(' }', ', labels: none }'), options('another'))).statuses).toEqual([
        'one built',
      ]);
    } finally {
      await hub.stop();
    }
  });

  it('what a process that is gone left unfinished is cleared away; what others work at is not', async () => {
    const host = createHash('sha256').update(hostname()).digest('hex').slice(0, 8);
    const state = join(out, '.release');
    const gone = `work-${host}-999999999-00000000`;
    // In a container the next process often has the number of the last one.
    const ours = `work-${host}-${process.pid}-00000000`;
    const parents = `work-${host}-${process.ppid}-00000000`;
    const elsewhere = 'work-00000000-999999999-00000000';
    const old = 'work-00000000-1-00000000';
    for (const name of [gone, ours, parents, elsewhere, old])
      await mkdir(join(state, name, 'one'), { recursive: true });
    await utimes(join(state, old), 0, 0);
    await run(V1);
    expect(await readdir(state)).toEqual(['one.json', elsewhere, parents].sort());
  });

  it('with --only and --shard, the lists keep what was finished before; with nothing finished, they stay', async () => {
    await run(V1 + V2);
    const before = await content(out);
    expect((await run(V1 + V2, { only: ['two'] })).statuses).toEqual(['two unchanged']);
    expect(await content(out)).toEqual(before);
    // Not as the manifest says now: no longer a part of it.
    const titled = V1.replace('name: one', 'name: one, title: First');
    await run(titled + V2, { only: ['two'] });
    const table = await readFile(join(out, 'README.md'), 'utf8');
    expect(table).toContain('[two](two/)');
    expect(table).not.toContain('[one](one/)');
    await run(V1 + V2);
    expect(await content(out)).toEqual(before);
    const { items, files } = await run(GONE.replace('gone', 'one'));
    expect([items[0].status, files]).toEqual(['failed', []]);
    expect(await content(out)).toEqual(before);
  });

  it('a model that the manifest no longer has is told, and left', async () => {
    await run(V1 + V2);
    const notes: string[] = [];
    await run(V2, { onNote: (text) => notes.push(text) });
    expect(notes).toContain(
      'one: made by an earlier release, not in this manifest; left there, and in none of its lists',
    );
    expect(await readdir(join(out, 'one'))).toContain('config.json');
    expect(await readFile(join(out, 'SHA256SUMS'), 'utf8')).not.toContain(' one/');
  });

  it('two releases into one folder at once end as one', async () => {
    await run(V1 + V2);
    const before = await content(out);
    out = join(folder, 'shared');
    const both = await Promise.all([run(V1 + V2), run(V1 + V2)]);
    expect(both.flatMap(({ items }) => items.map(({ error }) => error))).toEqual(Array(4).fill(undefined));
    expect(await content(out)).toEqual(before);
    expect(await readdir(join(out, '.release'))).toEqual(['one.json', 'two.json']);
  });

  it('a folder that cannot be made is an error, not a wait', async () => {
    await writeFile(join(folder, 'file'), '');
    for (const place of ['file', 'file/below', 'file/below/that']) {
      await expect(run(V1, { out: join(folder, place) })).rejects.toThrow(EXPECTED_PLACE);
    }
    await run(V1, { out: join(folder, 'some', 'where', 'deep') });
    expect(await readdir(join(folder, 'some', 'where', 'deep'))).toContain('one');
  });

  it('release.json names all that went in: weights, the config, class names, what lay beside', async () => {
    const source = join(folder, 'model.safetensors');
    await writeFile(source, await readFile(goldenPath('v1_cls', 'official.safetensors')));
    await writeFile(join(folder, 'hints.json'), '{"num_attention_heads": 4}');
    await writeFile(join(folder, 'names.txt'), Array.from({ length: 10 }, (_, i) => `class ${i}\n`).join(''));
    await writeFile(join(folder, 'preprocessor_config.json'), '{"image_mean": [0.5, 0.5, 0.5]}');
    const files = 'config: hints.json, labels: names.txt';
    const { statuses } = await run(`  - { name: one, source: ., ${files}, beit_version: 1 }\n`);
    expect(statuses).toEqual(['one built']);
    const { items } = JSON.parse(await readFile(join(out, 'release.json'), 'utf8')) as {
      items: { inputs: Record<string, unknown> }[];
    };
    const named = async (name: string) => ({
      name,
      sha256: createHash('sha256')
        .update(await readFile(join(folder, name)))
        .digest('hex'),
    });
    expect(items[0].inputs).toMatchObject({
      files: [await named('model.safetensors')],
      config: await named('hints.json'),
      labels: await named('names.txt'),
      beside: [await named('preprocessor_config.json')],
    });
  });

  it('a task that a checkpoint cannot do fails alone', async () => {
    const { items } = await run(V1.replace('one,', 'one, task: segment,') + V2);
    expect(items[0].error).toMatchObject({
      kind: 'UsageError',
      message: 'this is a classification checkpoint: it cannot segment',
    });
    expect(items[1].status).toBe('built');
  });
});
