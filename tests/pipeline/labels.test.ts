/** Class names of published models: from the hub, when it has them; and never a reason to fail. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isPublished, publishedSet, fetchLabels } from '../../src/convert/published-labels.js';
import { parseSource } from '../../src/convert/source.js';
import { InputError, NetworkError } from '../../src/errors.js';
import { LABEL_SETS, labelSetNamed } from '../../src/label-sets.js';
import { parseManifest } from '../../src/release/manifest.js';
import type { BeitModel } from '../../src/model.js';
import { classify, convert, type ConvertOptions } from '../../src/pipeline.js';
import { openOnnxFile } from '../../src/verify/onnx-file.js';
import { withClassNames } from '../../src/verbs/names.js';
import { COMMIT, HubServer, type Fault } from '../support/hub-server.js';
import { smallClassifier } from '../support/published.js';

const ROW = 'beit_base_patch16_224_pt22k_ft22kto1k';
const TIMM = 'timm/beit_base_patch16_224.in22k_ft_in22k_in1k';
const NAMES_1K = Array.from({ length: 1000 }, (_, id) => `class ${id}, no. ${id}`);
const star = fileURLToPath(new URL('../../fixtures/demo/star.png', import.meta.url));

let hub: HubServer;
let folder: string;
let out: string;
let notes: string[];
let env: NodeJS.ProcessEnv;
beforeEach(async () => {
  hub = await HubServer.start(TIMM);
  hub.files.set('model.safetensors', { content: smallClassifier(1000), lfs: true });
  hub.files.set('config.json', { content: Buffer.from('{"architecture": "beit_base_patch16_224"}') });
  serve('imagenet-1k', { id2label: Object.fromEntries(NAMES_1K.entries()) });
  folder = await mkdtemp(join(tmpdir(), 'convert-beit-names-'));
  out = join(folder, 'model.onnx');
  notes = [];
  env = { HF_ENDPOINT: hub.endpoint, HF_HUB_CACHE: join(folder, 'hub'), HF_HOME: folder };
});
afterEach(async () => {
  await hub.stop();
  await rm(folder, { recursive: true });
});

/** What the hub has as a set's `config.json`. */
function serve(set: string, content: object | string): void {
  const text = typeof content === 'string' ? content : JSON.stringify(content);
  const files = new Map([['config.json', { content: Buffer.from(text) }]]);
  hub.others.set(labelSetNamed(set)!.repo, files);
}

const asked = (repo = 'microsoft/'): string[] =>
  hub.seen.filter(({ path }) => path.includes(repo)).map(({ method, path }) => `${method} ${path}`);

async function run(options: Partial<ConvertOptions> = {}) {
  const onNote = (note: string): void => void notes.push(note);
  const result = await convert({ src: 'official', out, verify: false, env, onNote, ...options });
  const file = await openOnnxFile(out);
  await file.close();
  const labels = file.metadata.get('convert_beit.labels');
  return {
    ...result,
    names: labels === undefined ? undefined : (JSON.parse(labels) as string[]),
    origin: file.metadata.get('convert_beit.labels_source'),
  };
}

describe('a published model', () => {
  it.each(['official', `official:${ROW}`, `hf:${TIMM}`, `hf:${TIMM}@main/model.safetensors`])(
    '%s gets the names it was trained on',
    async (src) => {
      const { names, origin, source } = await run({ src });
      expect(names).toEqual(NAMES_1K);
      expect(origin).toBe(`imagenet-1k, hf:microsoft/beit-base-patch16-224@${COMMIT}/config.json`);
      expect(source.labels).toMatchObject({ count: 1000, origin });
      // Nothing but the one small file.
      expect(asked().at(-1)).toBe(`GET /microsoft/beit-base-patch16-224/resolve/${COMMIT}/config.json`);
      expect(asked()).toHaveLength(3);
      expect(notes.filter((note) => note.includes('class names'))).toEqual([]);
    },
  );

  it('takes them from the cache, with and without a network, and writes the same bytes', async () => {
    const first = await run();
    const requests = asked().length;
    expect((await run()).output.sha256).toBe(first.output.sha256);
    env['HF_HUB_OFFLINE'] = '1';
    expect((await run()).output.sha256).toBe(first.output.sha256);
    expect(asked()).toHaveLength(requests);
  });

  it('has names of its own: those stay', async () => {
    const own = NAMES_1K.map((name) => `my ${name}`);
    const config = { architecture: 'beit_base_patch16_224', label_names: own };
    hub.files.set('config.json', { content: Buffer.from(JSON.stringify(config)) });
    const { names, origin } = await run();
    expect([names, origin]).toEqual([own, 'config.json beside the weights']);
    expect(asked()).toEqual([]);
  });

  it('as features has no use for them', async () => {
    expect((await run({ task: 'features' })).names).toBeUndefined();
    expect(asked()).toEqual([]);
  });

  it.each<[string, () => void, RegExp]>([
    [
      'no such repository',
      () => hub.others.clear(),
      /^no class names: microsoft\/beit-base-patch16-224 does not exist, or is private/,
    ],
    [
      'no such file',
      () => hub.others.set('microsoft/beit-base-patch16-224', new Map()),
      /does not exist at commit/,
    ],
    [
      'a gated repository',
      () => fault({ status: 401, headers: { 'x-error-code': 'GatedRepo' } }),
      /is gated/,
    ],
    ['a hub in trouble', () => fault({ status: 503 }), /answers 503/],
    ['damaged bytes', () => fault({ path: 'resolve', damage: true }), /arrived damaged/],
    ['no JSON', () => serve('imagenet-1k', 'oops {'), /has 1 names, not the 1,000 of ImageNet-1k/],
    ['an array', () => serve('imagenet-1k', '[1'), /is no valid JSON/],
    ['no names', () => serve('imagenet-1k', {}), /holds no class names/],
    ['too few', () => serve('imagenet-1k', { id2label: { 0: 'cat' } }), /has 1 names, not the 1,000/],
    [
      'placeholders',
      () =>
        serve(
          'imagenet-1k',
          NAMES_1K.map((_, id) => `LABEL_${id}`),
        ),
      /names, not the/,
    ],
    ['too much', () => fault({ path: 'nowhere' }, { size: 17_000_000 }), /17,000,000 bytes/],
    ['no network, nothing cached', () => void (env['HF_HUB_OFFLINE'] = '1'), /HF_HUB_OFFLINE is set/],
  ])('%s: one note, and the model is written without', async (_, trouble, note) => {
    // The weights are there already: what fails is the names alone.
    await run({ labels: 'none' });
    notes = [];
    hub.seen.length = 0;
    trouble();
    const { names, origin, source } = await run();
    expect([names, origin, source.labels]).toEqual([undefined, undefined, undefined]);
    const told = notes.filter((text) => text.includes('class names'));
    expect(told).toEqual([expect.stringMatching(note)]);
    expect(told[0]).toMatch(/^no class names: .*; give them with --labels$/s);
    // Nobody is asked twice.
    expect(new Set(asked()).size).toBe(asked().length);
  });

  function fault(of: Omit<Fault, 'on'>, stated?: Record<string, unknown>): void {
    const repo = 'microsoft/beit-base-patch16-224';
    hub.faults.push({ on: 'hub', ...of, path: of.path === undefined ? repo : `${repo}/${of.path}` });
    if (!stated) return;
    hub.others.set(repo, new Map([['config.json', { content: Buffer.from('{}'), stated }]]));
  }

  it('a hub that says nothing is not waited for', async () => {
    hub.faults.push({ on: 'hub', path: 'microsoft/', stallAfter: 0 });
    const silent = fetchLabels(LABEL_SETS[0], { env, silence: 50 });
    await expect(silent).rejects.toThrow(NetworkError);
    expect(asked()).toHaveLength(1);
  });
});

describe('the names of ImageNet-22k', () => {
  const all = Array.from({ length: 21_843 }, (_, id) => [id, `name ${id}`] as const);
  const used = all.filter(([id]) => id !== 9205 && id !== 15_027);
  const expected = used.map(([, name]) => name);

  it.each<[string, object]>([
    ['as the converter leaves them: two ids missing', { id2label: Object.fromEntries(used) }],
    ['all 21,843', { id2label: Object.fromEntries(all) }],
    ['21,841 without a gap', { id2label: Object.fromEntries(expected.entries()) }],
  ])('%s', async (_, config) => {
    hub.files.set('model.safetensors', { content: smallClassifier(21_841), lfs: true });
    hub.others.set(TIMM.replace('_in1k', ''), hub.files as Map<string, never>);
    serve('imagenet-22k', config);
    const { names, origin } = await run({ src: 'official:beit_base_patch16_224_pt22k_ft22k' });
    expect(names).toEqual(expected);
    expect(origin).toBe(`imagenet-22k, hf:microsoft/beit-base-patch16-224-pt22k-ft22k@${COMMIT}/config.json`);
  });
});

describe('anybody else’s model', () => {
  it.each(['a file', 'a repository'])(
    '%s of 1,000 classes: nothing is guessed, nobody is asked',
    async (what) => {
      const path = join(folder, 'mine.safetensors');
      await writeFile(path, smallClassifier(1000));
      hub.others.set('me/beit', hub.files as Map<string, never>);
      const { names, source } = await run({ src: what === 'a file' ? path : 'hf:me/beit', version: 1 });
      expect([names, source.labels]).toEqual([undefined, undefined]);
      expect(asked()).toEqual([]);
    },
  );

  it.each<[string, string | undefined, boolean]>([
    ['official', 'imagenet-1k', true],
    ['official:beitv2_large_patch16_224_pt1k_ft21k', 'imagenet-22k', true],
    ['mmpretrain:beit-base-p16_beit-in21k-pre_3rdparty_in1k', 'imagenet-1k', true],
    ['mmpretrain:beit_beit-base-p16_8xb256-amp-coslr-300e_in1k', undefined, true],
    ['hf:timm/beitv2_base_patch16_224.in1k_ft_in22k', 'imagenet-22k', true],
    ['hf:timm/vit_base_patch16_224', undefined, false],
    ['hf:me/beit_base_patch16_224.in22k_ft_in22k', undefined, false],
    [
      'https://github.com/addf400/files/releases/download/v1.0/beit_base_patch16_640_pt22k_ft22ktoade20k.pth',
      'ade20k',
      true,
    ],
    [`https://github.com/addf400/files/releases/download/v1.0/${ROW}.pth`, 'imagenet-1k', true],
    ['https://example.com/beit_base_patch16_640_pt22k_ft22ktoade20k.pth', undefined, false],
    [`./${ROW}.pth`, undefined, false],
  ])('%s: %s', (src, set, published) => {
    const source = parseSource(src);
    expect([publishedSet(source)?.name, isPublished(source)]).toEqual([set, published]);
  });
});

describe('segmentation', () => {
  const model = {
    config: { kind: 'segmentation', classes: 150 },
    provenance: { id: 'ade.pth' },
  } as BeitModel;
  const src =
    'https://github.com/addf400/files/releases/download/v1.0/beit_base_patch16_640_pt22k_ft22ktoade20k.pth';
  const names = Array.from({ length: 150 }, (_, id) => `thing ${id}`);

  it('of the authors’ own release has the names of ADE20K', async () => {
    serve('ade20k', { id2label: Object.fromEntries(names.entries()) });
    const found = await withClassNames(model, { src, env }, () => true);
    expect(found.labels).toEqual(names);
    expect(found.labelsOrigin).toBe(
      `ade20k, hf:microsoft/beit-base-finetuned-ade-640-640@${COMMIT}/config.json`,
    );
    expect((await withClassNames(model, { src: './x.pth', env }, () => true)).labels).toBeUndefined();
    expect(
      (await withClassNames(model, { src: './x.pth', labels: 'ade20k', env }, () => false)).labels,
    ).toEqual(names);
  });
});

describe('--labels with the name of a set', () => {
  let mine: string;
  beforeEach(async () => {
    mine = join(folder, 'mine.safetensors');
    await writeFile(mine, smallClassifier(1000));
  });

  it('for any model with so many classes', async () => {
    const { names, origin } = await run({ src: mine, version: 1, labels: 'imagenet-1k' });
    expect(names).toEqual(NAMES_1K);
    expect(origin).toMatch(/^imagenet-1k, hf:microsoft/);
  });

  it('also where the weights have others', async () => {
    await writeFile(
      join(folder, 'config.json'),
      JSON.stringify({
        architecture: 'beit_base_patch16_224',
        label_names: NAMES_1K.map((name) => `my ${name}`),
      }),
    );
    expect((await run({ src: mine, labels: 'imagenet-1k' })).names).toEqual(NAMES_1K);
    expect((await run({ src: mine, labels: 'none' })).names).toBeUndefined();
  });

  it('of another number of classes: told before anybody is asked', async () => {
    const wrong = run({ src: mine, version: 1, labels: 'imagenet-22k' });
    await expect(wrong).rejects.toThrow(InputError);
    await expect(wrong).rejects.toMatchObject({
      message: 'imagenet-22k has 21,841 class names; mine.safetensors has 1,000 classes',
      next: expect.stringContaining('imagenet-1k, imagenet-22k, ade20k or none'),
    });
    expect(asked()).toEqual([]);
  });

  it('was asked for, so it has to be had', async () => {
    hub.others.clear();
    const failed = run({ src: mine, version: 1, labels: 'imagenet-1k' });
    await expect(failed).rejects.toMatchObject({
      exitCode: 5,
      message: expect.stringMatching(/^the class names of ImageNet-1k cannot be had: /),
      next: expect.stringContaining('imagenet-1k, imagenet-22k, ade20k or none'),
    });
  });

  it('a word that is neither a set nor a file', async () => {
    await expect(run({ src: mine, labels: 'imagenet' })).rejects.toMatchObject({
      exitCode: 3,
      message: 'there is no file imagenet',
      next: expect.stringContaining('imagenet-1k, imagenet-22k, ade20k or none'),
    });
  });

  it('classify: a model without names', async () => {
    await run({ src: mine, version: 1 });
    const best = async (labels?: string) =>
      (await classify({ model: out, images: [star], labels, env, top: 1 })).images[0].predictions[0];
    const { class: id, label } = await best('imagenet-1k');
    expect(label).toBe(NAMES_1K[id]);
    expect((await best()).label).toBeUndefined();
    await expect(best('ade20k')).rejects.toThrow('ade20k has 150 class names; model.onnx has 1,000 classes');
    await run({ src: mine, version: 1, labels: 'imagenet-1k' });
    expect([(await best()).label, (await best('none')).label]).toEqual([NAMES_1K[id], undefined]);
  });

  it('in a manifest it stays a word, a file gets its path', () => {
    const text = (labels: string) => `version: 1\nmodels: [{ name: a, source: official, labels: ${labels} }]`;
    const labels = (word: string) => parseManifest(text(word), join(folder, 'zoo.yaml')).items[0].labels;
    expect([labels('imagenet-1k'), labels('none'), labels('names.txt')]).toEqual([
      'imagenet-1k',
      'none',
      join(folder, 'names.txt'),
    ]);
  });

  it('a file: its name is what the model says of its names', async () => {
    const file = join(folder, 'names.txt');
    await writeFile(file, NAMES_1K.join('\n'));
    const { names, origin, source } = await run({ src: mine, version: 1, labels: file });
    expect([names, origin, source.labels?.origin]).toEqual([NAMES_1K, 'names.txt', 'names.txt']);
    expect((await readFile(out)).includes(Buffer.from(folder))).toBe(false);
  });
});
