import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readConfigFile, readSiblingConfig } from '../../src/convert/config-file.js';
import { inspectCheckpoint, loadModel, type LoadOptions } from '../../src/convert/load.js';
import type { BeitModel } from '../../src/model.js';
import { goldenPath } from './goldens.js';
import { TINY, safetensorsBytes } from './recipe.js';

let folder: string;
let count = 0;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'convert-beit-test-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

/** A folder with the tiny model and, if given, a config.json. */
function modelFolder(config?: object): string {
  const path = join(folder, String(count++));
  mkdirSync(path);
  writeFileSync(join(path, 'model.safetensors'), safetensorsBytes(TINY));
  if (config) writeFileSync(join(path, 'config.json'), JSON.stringify(config));
  return path;
}

async function load(config: object | undefined, options?: LoadOptions): Promise<BeitModel> {
  const model = await loadModel(modelFolder(config), options);
  await model.close();
  return model;
}

const CONFIG = {
  // as transformers writes it, with fields that mean nothing here
  architectures: ['BeitForImageClassification'],
  attention_probs_dropout_prob: 0.0,
  drop_path_rate: 0.1,
  hidden_act: 'gelu',
  hidden_size: 4,
  id2label: { 0: 'tench', 1: 'goldfish', 2: 'great white shark' },
  image_size: 4,
  intermediate_size: 8,
  label2id: { tench: 0 },
  layer_norm_eps: 1e-12,
  layer_scale_init_value: 0.1,
  model_type: 'beit',
  num_attention_heads: 2,
  num_channels: 3,
  num_hidden_layers: 2,
  patch_size: 2,
  torch_dtype: 'float32',
  use_absolute_position_embeddings: false,
  use_mean_pooling: true,
  use_relative_position_bias: true,
  use_shared_relative_position_bias: false,
  vocab_size: 8192,
};

const TIMM = {
  architecture: 'beitv2_base_patch16_224',
  num_classes: 3,
  num_features: 768,
  global_pool: 'avg',
  pretrained_cfg: {
    tag: 'in1k_ft_in22k_in1k',
    custom_load: false,
    input_size: [3, 4, 4],
    fixed_input_size: true,
    interpolation: 'bicubic',
    crop_pct: 0.9,
    crop_mode: 'center',
    mean: [0.485, 0.456, 0.406],
    std: [0.229, 0.224, 0.225],
    num_classes: 3,
    pool_size: null,
    first_conv: 'patch_embed.proj',
    classifier: 'head',
  },
};

describe('a transformers config beside the weights', () => {
  it('is read by itself: eps and labels are taken, everything else must agree', async () => {
    const model = await load(CONFIG);
    expect(model.config.layerNormEps).toBe(1e-12);
    expect(model.labels).toEqual(['tench', 'goldfish', 'great white shark']);
    expect(model.notes).toContain('layer_norm_eps 1e-12 from config.json (upstream uses 1e-6)');
  });

  it('gives way to --config, field by field, and says so', async () => {
    const given = join(folder, 'given.json');
    writeFileSync(given, JSON.stringify({ layer_norm_eps: 1e-6 }));
    const model = await load(CONFIG, { configPath: given });
    expect(model.config.layerNormEps).toBe(1e-6);
    expect(model.labels).toHaveLength(3);
    expect(model.notes).toContain('config.json says layerNormEps 1e-12; 0.000001 is given and used');
  });

  it('may have placeholders for labels, which are none', async () => {
    const model = await load({ ...CONFIG, id2label: { 0: 'LABEL_0', 1: 'LABEL_1', 2: 'LABEL_2' } });
    expect(model.labels).toBeUndefined();
  });

  it('may have null fields', async () => {
    expect((await load({ ...CONFIG, image_size: null, id2label: null })).config.imageSize).toEqual([4, 4]);
  });

  it('is found beside a file in the current folder, too', async () => {
    const found = await inspectCheckpoint(join(modelFolder(CONFIG), 'model.safetensors'));
    expect(found.config?.layerNormEps).toBe(1e-12);
  });
});

describe('a timm config beside the weights', () => {
  it('tells version, preprocessing and classes', async () => {
    const model = await load(TIMM);
    expect(model.provenance).toMatchObject({
      version: 2,
      versionEvidence: 'config.json names the timm architecture beitv2_base_patch16_224',
    });
    expect(model.preprocessing).toEqual({
      resize: 4,
      crop: [4, 4],
      interpolation: 'bicubic',
      mean: [0.485, 0.456, 0.406],
      std: [0.229, 0.224, 0.225],
      origin: 'config.json (timm beitv2_base_patch16_224)',
    });
  });

  it.each([
    ['v1', { ...TIMM, architecture: 'beit_base_patch16_224' }, { version: 1 }],
    ['labels', { ...TIMM, label_names: ['a', 'b', 'c'] }, { labels: ['a', 'b', 'c'] }],
    [
      'too many labels',
      { ...TIMM, label_names: ['a', 'b', 'c', 'd'] },
      { notes: ['the 4 label_names of config.json are ignored: the model has 3 classes'] },
    ],
    [
      'crop share 0.9 of 224',
      { ...TIMM, pretrained_cfg: { ...TIMM.pretrained_cfg, input_size: [3, 224, 224] } },
      {
        preprocessing: { resize: 248, crop: [224, 224] },
        hints: { imageSize: [224, 224], channels: 3, classes: 3 },
      },
    ],
    [
      'squashing',
      {
        ...TIMM,
        pretrained_cfg: {
          ...TIMM.pretrained_cfg,
          input_size: [3, 384, 384],
          crop_mode: 'squash',
          crop_pct: 1,
        },
      },
      { preprocessing: { resize: [384, 384] } },
    ],
    [
      'an unknown filter',
      { ...TIMM, pretrained_cfg: { ...TIMM.pretrained_cfg, interpolation: 'random' } },
      {
        notes: [expect.stringContaining('preprocessing of config.json is ignored') as string],
      },
    ],
  ])('%s', async (_, config, expected) => {
    expect(await readSiblingConfig(join(modelFolder(config), 'config.json'))).toMatchObject(expected);
  });

  it('wins over the file name, and the contradiction is noted', async () => {
    const path = modelFolder(TIMM);
    const file = join(path, 'beit_base.safetensors');
    writeFileSync(file, safetensorsBytes(TINY));
    const model = await loadModel(file);
    expect(model.provenance.version).toBe(2);
    expect(model.notes).toContain(
      'the file name beit_base.safetensors speaks for v1; v2 is used (config.json names the timm architecture beitv2_base_patch16_224)',
    );
    await model.close();
  });

  it('gives way to what is given', async () => {
    const model = await load(TIMM, { version: 1, versionEvidence: 'the catalog' });
    expect(model.provenance).toMatchObject({ version: 1, versionEvidence: 'the catalog' });
  });
});

describe('any other config.json', () => {
  it.each([
    [{ model_type: 'vit' }, 'config.json beside the weights is ignored: its model_type is "vit"'],
    [
      { architecture: 'resnet50' },
      'config.json beside the weights is ignored: its architecture is "resnet50"',
    ],
    [
      { architecture: 'beit3_base_patch16_224' },
      'config.json beside the weights is ignored: its architecture is "beit3_base_patch16_224"',
    ],
    [
      { a: 1 },
      'config.json beside the weights is ignored: neither a transformers nor a timm config of a BEiT',
    ],
    [
      { model_type: '\u001b[2Jx' },
      'config.json beside the weights is ignored: its model_type is "\\u{1b}[2Jx"',
    ],
  ])('%j is ignored with a note', async (config, note) => {
    expect((await load(config)).notes).toContain(note);
  });

  it('none at all: no note', async () => {
    expect(await readSiblingConfig(join(folder, 'absent', 'config.json'))).toBeUndefined();
    expect((await load(undefined)).notes.join()).not.toContain('config.json');
  });

  it('a malformed one is a note when --config is given', async () => {
    const path = modelFolder();
    writeFileSync(join(path, 'config.json'), '{');
    const given = join(folder, 'given-2.json');
    writeFileSync(given, '\ufeff{"num_attention_heads": 2}');
    const model = await loadModel(path, { configPath: given });
    expect(model.notes).toContainEqual(
      expect.stringContaining('config.json beside the weights is ignored: config.json is not valid JSON'),
    );
    await model.close();
  });
});

describe('--config', () => {
  it.each<[string, object, object]>([
    ['image_size', { image_size: 60 }, { imageSize: [60, 60] }],
    ['image_size of two numbers', { image_size: [32, 40] }, { imageSize: [32, 40] }],
    ['LayerScale', { layer_scale_init_value: 0.1 }, { layerScale: true }],
    ['no LayerScale', { layer_scale_init_value: 0 }, { layerScale: false }],
    ['class pooling', { use_mean_pooling: false }, { pooling: 'class' }],
    ['classes by labels', { id2label: { 0: 'a', 1: 'b' } }, { classes: 2 }],
    ['a whole config', CONFIG, { hiddenSize: 4, depth: 2, heads: 2, mlpSize: 8, patchSize: 2, channels: 3 }],
  ])('%s', async (_, config, hints) => {
    const path = join(folder, `c${count++}.json`);
    writeFileSync(path, JSON.stringify(config));
    expect((await readConfigFile(path)).hints).toMatchObject(hints);
  });

  it('tells what the shapes of v1_indivisible cannot', async () => {
    const path = join(folder, 'sixty.json');
    writeFileSync(
      path,
      JSON.stringify({ image_size: [60, 60], num_attention_heads: 4, layer_norm_eps: 1e-6 }),
    );
    const model = await loadModel(goldenPath('v1_indivisible', 'official.safetensors'), { configPath: path });
    expect(model.config).toMatchObject({ imageSize: [60, 60], window: [4, 4] });
    await model.close();
  });
});

describe('preprocessing', () => {
  it('of an image of another size is left out', async () => {
    const given = {
      resize: 256,
      crop: [224, 224],
      interpolation: 'bicubic',
      mean: [0, 0, 0],
      std: [1, 1, 1],
      origin: 'x',
    } as const;
    const model = await load(undefined, { preprocessing: given, version: 1 });
    expect(model.preprocessing.crop).toEqual([4, 4]);
    expect(model.notes).toContainEqual(expect.stringContaining('the preprocessing of x is left out'));
  });

  it('of a grey model has one channel', async () => {
    const model = await loadModel(goldenPath('v1_gray', 'official.safetensors'));
    expect(model.preprocessing).toMatchObject({ mean: [0.5], std: [0.5] });
    await model.close();
  });

  it('sha256, id and commit go into the provenance', async () => {
    const model = await load(undefined, {
      id: 'hf:a/b/model.safetensors',
      commit: '0'.repeat(40),
      sha256: 'f'.repeat(64),
    });
    expect(model.provenance).toMatchObject({ id: 'hf:a/b/model.safetensors', commit: '0'.repeat(40) });
    expect(model.provenance.files[0].sha256).toBe('f'.repeat(64));
  });
});

it('the prefix module. is stripped and reported, however often it is there', async () => {
  for (const prefix of ['module.', 'module.module.']) {
    const path = join(folder, `prefixed-${prefix.length}.safetensors`);
    writeFileSync(
      path,
      safetensorsBytes(new Map([...TINY].map(([name, tensor]) => [prefix + name, tensor]))),
    );
    const model = await loadModel(path);
    expect(model.provenance.prefix).toBe(prefix);
    expect(model.sourceNames.get('backbone.layers.1.ln1.bias')).toBe(`${prefix}blocks.1.norm1.bias`);
    expect([...model.buffers.keys()][0]).toBe(`${prefix}blocks.0.attn.relative_position_index`);
    await model.close();
  }
});
