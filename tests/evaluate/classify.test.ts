import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { InputError } from '../../src/errors.js';
import { openClassifier } from '../../src/classifier-file.js';
import { classify, convert } from '../../src/pipeline.js';
import { runCompiled } from '../cli/harness.js';
import { demoModel, fixture, temporaryFolder } from './support.js';

const folder = temporaryFolder();
const star = fixture('demo/star.png');
const heart = fixture('demo/heart.jpg');
let model = '';

/** A copy without our metadata, as another exporter would write it, in a folder of its own. */
function foreign(name: string, beside: Record<string, unknown> = {}): string {
  const own = join(folder, name);
  mkdirSync(own);
  // The metadata's keys are found by nobody any more; lengths stay.
  const bytes = readFileSync(model);
  for (let at = bytes.indexOf('convert_beit.'); at >= 0; at = bytes.indexOf('convert_beit.', at)) {
    bytes.write('xxxxxxx_xxxx.', at, 'latin1');
  }
  writeFileSync(join(own, 'model.onnx'), bytes);
  for (const [file, json] of Object.entries(beside)) writeFileSync(join(own, file), JSON.stringify(json));
  return join(own, 'model.onnx');
}

const PROCESSOR = {
  do_resize: true,
  size: { height: 64, width: 64 },
  resample: 3,
  do_normalize: true,
  image_mean: [0.5, 0.5, 0.5],
  image_std: [0.5, 0.5, 0.5],
};

beforeAll(async () => {
  model = await demoModel(folder);
});

describe('convert-beit classify', () => {
  it('prints one JSON object with PyTorch’s probabilities', async () => {
    const { code, stdout, stderr } = await runCompiled([
      'classify',
      model,
      star,
      heart,
      '--top',
      '2',
      '--json',
    ]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const answer = JSON.parse(stdout) as {
      ok: boolean;
      images: { image: string; predictions: { label: string; class: number; probability: number }[] }[];
    };
    expect(answer.ok).toBe(true);
    expect(
      answer.images.map(({ image, predictions }) => [image, predictions.length, predictions[0].label]),
    ).toEqual([
      [star, 2, 'star'],
      [heart, 2, 'heart'],
    ]);
    const { samples } = JSON.parse(readFileSync(fixture('demo/expected.json'), 'utf8')) as {
      samples: { file: string; probability: number }[];
    };
    const expected = new Map(samples.map(({ file, probability }) => [file, probability]));
    expect(answer.images[0].predictions[0].probability).toBeCloseTo(expected.get('star.png')!, 5);
    expect(answer.images[1].predictions[0].probability).toBeCloseTo(expected.get('heart.jpg')!, 5);
  });

  it('shows names and bars to a person', async () => {
    const { code, stdout } = await runCompiled(['classify', model, star]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/star\.png\n {2}star +6 +96\.8 % █+\n/);
    expect(stdout.split('\n').filter((line) => line.includes('%'))).toHaveLength(5);
  });

  it.each<[string, () => string[], number, string]>([
    ['a picture that is none', () => [model, star, model], 3, 'is not a picture that can be read'],
    ['a picture that is not there', () => [model, 'absent.png'], 3, 'absent.png: no such picture'],
    ['no pictures', () => [model], 2, "missing required argument 'image'"],
    [
      'another transform’s name',
      () => [model, star, '--preprocess', 'keras'],
      2,
      'Allowed choices are official, timm, transformers, mmpretrain',
    ],
  ])('%s: an error', async (_, args, code, message) => {
    const outcome = await runCompiled(['classify', ...args(), '--json']);
    expect(outcome.code).toBe(code);
    expect(outcome.stderr).toContain(message);
    expect(JSON.parse(outcome.stdout)).toMatchObject({ ok: false, error: { exitCode: code } });
  });
});

describe('how pictures are prepared', () => {
  it('the model’s own metadata tells', async () => {
    const { preprocessing } = await classify({ model, images: [star] });
    expect(preprocessing).toMatchObject({
      resize: 73,
      crop: [64, 64],
      origin: 'official evaluation transform of BEiT v1',
    });
  });

  it('of a foreign model, preprocessor_config.json beside it does', async () => {
    const path = foreign('processor', { 'preprocessor_config.json': PROCESSOR });
    const { preprocessing, images } = await classify({ model: path, images: [star] });
    expect(preprocessing).toMatchObject({
      resize: [64, 64],
      interpolation: 'bicubic',
      origin: 'preprocessor_config.json',
    });
    expect(images[0].predictions[0]).toMatchObject({ class: 6 });
    expect(images[0].predictions[0]).not.toHaveProperty('label');
  });

  it('and a flag beats both', async () => {
    const path = foreign('flag', { 'preprocessor_config.json': PROCESSOR });
    const notes: string[] = [];
    const found = await classify({
      model: path,
      images: [star],
      preprocess: 'timm',
      onNote: (text) => notes.push(text),
    });
    expect(found.preprocessing).toMatchObject({ resize: 71, origin: 'timm evaluation transform of BEiT v1' });
    expect(notes).toEqual([
      'BEiT v1 assumed (mean and std 0.5): nothing tells; --beit-version says otherwise',
    ]);
    const v2 = await classify({ model: path, images: [star], preprocess: 'official', version: 2 });
    expect(v2.preprocessing.mean).toEqual([0.485, 0.456, 0.406]);
  });

  it('nothing: an error that says what to do', async () => {
    const found = classify({ model: foreign('nothing'), images: [star] });
    await expect(found).rejects.toThrow(InputError);
    await expect(found).rejects.toMatchObject({
      message: 'nothing tells how pictures are prepared for model.onnx',
      next: expect.stringContaining('--preprocess') as string,
    });
  });

  it('a file beside it that is of another model: an error', async () => {
    const path = foreign('other', { 'preprocessor_config.json': { ...PROCESSOR, size: 224 } });
    await expect(classify({ model: path, images: [star] })).rejects.toThrow(
      'makes pictures of 224×224 pixels; the model takes 64×64',
    );
  });
});

describe('what classes are called', () => {
  const labels = (options: object, path = model) =>
    openClassifier(path, { preprocess: 'official', version: 1, ...options }).then((found) => found.labels);
  const names = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'];
  const file = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };

  it('by --labels, then by the metadata, then by config.json beside the model', async () => {
    expect(await labels({ labels: file('names.txt', names.join('\n')) })).toEqual(names);
    expect((await labels({}))?.[6]).toBe('star');
    const beside = foreign('config', { 'config.json': { id2label: Object.fromEntries(names.entries()) } });
    expect(await labels({}, beside)).toEqual(names);
    expect(
      await labels(
        {},
        foreign('placeholder', {
          'config.json': { id2label: Object.fromEntries(names.map((_, i) => [i, `LABEL_${i}`])) },
        }),
      ),
    ).toBeUndefined();
  });

  it('a list of another length: an error where it was given, a note where it lies around', async () => {
    const seven = file('seven.txt', names.slice(1).join('\n'));
    await expect(labels({ labels: seven })).rejects.toThrow(
      'seven.txt has 7 class names; demo.onnx has 8 classes',
    );
    const notes: string[] = [];
    const beside = foreign('seven', { 'config.json': { label_names: names.slice(1) } });
    expect(await labels({ onNote: (text: string) => notes.push(text) }, beside)).toBeUndefined();
    expect(notes).toEqual(['config.json beside the model has 7 names for 8 classes: they are left out']);
  });

  it('--labels of convert go into the file; another number of them is an error, and nothing is written', async () => {
    const own = join(folder, 'source');
    mkdirSync(own);
    copyFileSync(fixture('demo/beit_demo_patch8_64.safetensors'), join(own, 'beit.safetensors'));
    copyFileSync(fixture('demo/config.json'), join(own, 'config.json'));
    const out = join(folder, 'named.onnx');
    await convert({
      src: join(own, 'beit.safetensors'),
      out,
      verify: false,
      labels: file('own.json', JSON.stringify(names)),
    });
    expect(await labels({}, out)).toEqual(names);
    const wrong = convert({
      src: join(own, 'beit.safetensors'),
      out: join(folder, 'wrong.onnx'),
      verify: false,
      labels: file('few.json', '["a"]'),
    });
    await expect(wrong).rejects.toThrow('1 class names for a head of 8 classes');
    await expect(openClassifier(join(folder, 'wrong.onnx'))).rejects.toThrow('there is no file');
  });
});
