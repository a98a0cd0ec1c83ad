/**
 * All layouts against upstream's own files, in every direction, bit for bit. The digests in `fixtures/layouts` are of
 * files that upstream's code wrote, so a table that swaps two tensors both ways is caught.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  applyLayout,
  claim,
  detectLayout,
  invertLayout,
  wrapperPrefix,
  type AppliedLayout,
} from '../../src/convert/layout.js';
import { LAYOUTS } from '../../src/convert/layouts/index.js';
import { inspectCheckpoint, loadModel, type LoadOptions } from '../../src/convert/load.js';
import { openCheckpoint } from '../../src/convert/open.js';
import { bytesOf, memoryTensor, type StateDict } from '../../src/tensor.js';
import { goldenPath } from './goldens.js';
import {
  UPSTREAM,
  MANIFESTS,
  digestOf,
  hollow,
  manifest,
  rowsOf,
  writeSafetensors,
  type LayoutRows,
} from './manifest.js';

const layoutOf = (name: string) => LAYOUTS.find((layout) => layout.name === name)!;

/** Weights and, where the layout's files have them, index buffers, all under canonical names. */
function canonical(applied: AppliedLayout, withIndex: boolean): StateDict {
  const all = new Map(applied.tensors);
  if (!withIndex) return all;
  for (const [name, source] of applied.bufferNames) all.set(name, applied.buffers.get(source)!);
  return all;
}

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'convert-beit-layouts-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

const DIRECTIONS = UPSTREAM.flatMap(([name, file, layouts]) =>
  layouts.map((target) => [name, file, target] as const),
);

describe('tables against upstream’s files', () => {
  it.each(DIRECTIONS)(
    '%s/%s → %s: names, dtypes, shapes and bytes are upstream’s',
    async (name, file, to) => {
      const checkpoint = await openCheckpoint(goldenPath(name, `${file}.safetensors`));
      const from = detectLayout(LAYOUTS, checkpoint.tensors).layout;
      const applied = applyLayout(from, checkpoint.tensors);
      const target = layoutOf(to);
      const written = invertLayout(target, canonical(applied, target.storesIndex));
      expect(await rowsOf(written)).toEqual(manifest(name).get(to));
      await checkpoint.close();
    },
  );

  it.each(DIRECTIONS)('%s: %s → %s and read again: the same canonical bytes', async (name, file, to) => {
    const checkpoint = await openCheckpoint(goldenPath(name, `${file}.safetensors`));
    const applied = applyLayout(detectLayout(LAYOUTS, checkpoint.tensors).layout, checkpoint.tensors);
    const target = layoutOf(to);
    // What was just written is upstream's file, bit for bit (the test above): reading it is reading upstream's.
    const path = join(folder, `${name}-${to}.safetensors`);
    await writeSafetensors(path, invertLayout(target, canonical(applied, target.storesIndex)));
    const again = await openCheckpoint(path);
    const found = detectLayout(LAYOUTS, again.tensors).layout;
    expect(found.name).toBe(to === 'timm' ? 'official' : to);
    const back = applyLayout(target, again.tensors);
    expect(await rowsOf(back.tensors)).toEqual(await rowsOf(applied.tensors));
    expect([...back.buffers.keys()].length).toBe(target.storesIndex ? applied.buffers.size : 0);
    await Promise.all([checkpoint.close(), again.close()]);
  });

  it('a qkv matrix is q, k, v from top to bottom, in the file’s own words', async () => {
    const rows = manifest('v1_cls');
    const checkpoint = await openCheckpoint(goldenPath('v1_cls', 'official.safetensors'));
    const hf = invertLayout(
      layoutOf('transformers'),
      applyLayout(layoutOf('official'), checkpoint.tensors).tensors,
    );
    for (const part of ['query', 'key', 'value']) {
      const name = `beit.encoder.layer.2.attention.attention.${part}.weight`;
      expect(await digestOf(hf.get(name)!)).toBe(rows.get('transformers')!.get(name)![2]);
    }
    await checkpoint.close();
  });
});

describe('names in a table', () => {
  const [table] = layoutOf('official').tables;
  const norm = { rule: { canonical: ['backbone.layers.{layer}.ln1.weight'] }, position: 0, layer: '11' };

  it.each([
    ['blocks.11.norm1.weight', norm],
    ['cls_token', { rule: { canonical: ['backbone.cls_token'] }, layer: undefined }],
  ])('%s', (name, expected) => {
    expect(claim(table, name)).toMatchObject(expected);
  });

  it.each([
    ...['blocks.{layer}.norm1.weight', 'blocks.011.norm1.weight', 'blocks.1e1.norm1.weight'],
    ...['blocks..norm1.weight', 'blocks.1.2.norm1.weight', 'constructor', '', `${'0.'.repeat(500_000)}0`],
  ])('%.40s is nobody’s', (name) => {
    expect(claim(table, name)).toBeUndefined();
  });
});

describe('what a file is', () => {
  const eps = { layerNormEps: 1e-12 };
  const heads4 = { heads: 4 };
  const early = { earlyLayer: 2 };
  const trained = { kind: 'pre-training', vocabulary: 50, classes: 0, maskToken: true } as const;
  const backbone = { kind: 'backbone', classes: 0, vocabulary: 0, maskToken: false } as const;
  const classifier = { kind: 'classification', classes: 10, vocabulary: 0, maskToken: false } as const;

  it.each<[string, string, LoadOptions['hints'], object]>([
    ['v1_cls', 'official', {}, classifier],
    ['v1_cls', 'transformers', eps, { ...classifier, layerNormEps: 1e-12 }],
    ['v1_cls', 'mmpretrain', {}, classifier],
    ['v1_cls', 'timm', {}, classifier],
    [
      'v1_cls_pool',
      'transformers',
      {},
      { ...classifier, tokenNorm: true, pooledNorm: false, pooling: 'class' },
    ],
    ['mim_v1', 'official', {}, { ...trained, sharedRelativePosition: true, tokenNorm: true }],
    ['mim_v1', 'transformers', {}, { ...trained, sharedRelativePosition: true, tokenNorm: true }],
    ['mim_v1', 'mmpretrain', {}, { ...trained, sharedRelativePosition: true, tokenNorm: true }],
    ['mim_v1_abs', 'official', heads4, { ...trained, absolutePosition: true, layerScale: false }],
    ['mim_v2', 'official', {}, { ...trained, tokenNorm: true }],
    [
      'mim_v2_cls_pt',
      'official',
      early,
      { ...trained, tokenNorm: false, clsPretraining: { earlyLayer: 2, layers: 2, sharedHead: true } },
    ],
    [
      'mim_v2_cls_pt',
      'mmpretrain',
      early,
      { ...trained, tokenNorm: false, clsPretraining: { earlyLayer: 2, layers: 2, sharedHead: true } },
    ],
    [
      'mim_v2_cls_pt_sep',
      'official',
      { earlyLayer: 1 },
      { ...trained, tokenNorm: false, clsPretraining: { earlyLayer: 1, layers: 1, sharedHead: false } },
    ],
    ['mm_bias_true', 'mmpretrain', {}, { ...backbone, qkvBias: true, qvBias: false, pooledNorm: true }],
    ['mm_corner_pad', 'mmpretrain', {}, { ...backbone, relativePosition: true, pooledNorm: true }],
    ['mm_drop_cls_token', 'mmpretrain', heads4, { ...backbone, classToken: true, absolutePosition: true }],
    ['mm_dynamic_pos_embed', 'mmpretrain', heads4, { ...backbone, window: [8, 8], absolutePosition: true }],
    ['mm_no_cls_token', 'mmpretrain', heads4, { ...backbone, classToken: false, window: [8, 8] }],
    ['mm_out_types', 'mmpretrain', {}, { ...backbone, tokenNorm: true, pooledNorm: true, depth: 3 }],
    ['mmcls_seed_outputs', 'mmpretrain, seed', {}, { ...backbone, tokenNorm: true, pooledNorm: true }],
    [
      'segmentation',
      'official',
      {},
      { kind: 'segmentation', classes: 5, segmentation: { poolScales: [1, 2, 3, 6], auxiliaryChannels: 4 } },
    ],
  ])('%s in the %s layout', async (name, layout, hints, expected) => {
    const rows = manifest(name).get(layout)!;
    const path = join(folder, `${name}-${layout.replace(/\W+/g, '')}-hollow.safetensors`);
    await writeSafetensors(path, hollow(rows));
    const model = await loadModel(path, {
      hints,
      checkBuffers: false,
      ...(layout === 'timm' && { layout }),
    });
    expect(model.config).toMatchObject(expected);
    expect(model.provenance.layout).toBe(layout.replace(', seed', ''));
    expect(model.tensors.size + model.buffers.size).toBe(withoutSplits(rows));
    await model.close();
  });

  it('a transformers folder: everything from its own config.json', async () => {
    const model = await loadModel(goldenPath('segmentation', 'hf.safetensors'));
    expect(model.config).toMatchObject({
      kind: 'segmentation',
      layerNormEps: 1e-12,
      segmentation: { auxiliaryChannels: 4, outIndices: [2, 3, 4, 5] },
    });
    expect(model.notes).toContain('layer_norm_eps 1e-12 from config.json (upstream uses 1e-6)');
    expect(model.notes.join()).not.toContain('assumed, as in the official code');
    await model.close();
  });

  it.each(['mim_v2_cls_pt', 'mim_v2_cls_pt_sep'])('%s: what is needed is said', async (name) => {
    const path = join(folder, `${name}-unknown.safetensors`);
    await writeSafetensors(path, hollow(manifest(name).get('official')!));
    await expect(loadModel(path, { checkBuffers: false })).rejects.toMatchObject({
      message:
        'no tensor tells after which block the patch tokens of the second output (cls_pt_layers.0.attn.qkv.weight, …) are taken',
      next: 'Give it: --config file.json with {"early_layers": …} (published: 9 of 12 blocks, 21 of 24).',
    });
    const config = join(folder, `${name}.json`);
    writeFileSync(config, '{"early_layers": 2}');
    const model = await loadModel(path, { checkBuffers: false, configPath: config });
    expect(model.config.clsPretraining?.earlyLayer).toBe(2);
    await model.close();
  });
});

/** Three matrices of a transformers file are one here. */
function withoutSplits(rows: LayoutRows): number {
  return [...rows.keys()].filter((name) => !/attention\.attention\.(key|value)\.weight$/.test(name)).length;
}

describe('what a layout cannot say by itself', () => {
  /** v2_no_qkv_bias as transformers must hold it: with biases of zeros. */
  async function withZeroBiases(path: string, poke?: number): Promise<StateDict> {
    const checkpoint = await openCheckpoint(goldenPath('v2_no_qkv_bias', 'official.safetensors'));
    const { tensors } = applyLayout(layoutOf('official'), checkpoint.tensors);
    const added = new Map(tensors);
    for (let layer = 0; layer < 2; layer++) {
      for (const bias of ['q_bias', 'v_bias']) {
        const values = new Float32Array(32);
        if (poke !== undefined && layer === 1 && bias === 'v_bias') values[31] = poke;
        added.set(`backbone.layers.${layer}.attn.${bias}`, memoryTensor('F32', [32], bytesOf(values)));
      }
    }
    await writeSafetensors(path, invertLayout(layoutOf('transformers'), added));
    const rows = new Map(tensors);
    await checkpoint.close();
    return rows;
  }

  it('zero biases stay unless the config says that there are none', async () => {
    const path = join(folder, 'zeros.safetensors');
    await withZeroBiases(path);
    const kept = await loadModel(path);
    expect(kept.config.qvBias).toBe(true);
    await kept.close();

    const config = join(folder, 'no-bias.json');
    writeFileSync(config, '{"model_type": "beit", "qkv_bias": false}');
    const model = await loadModel(path, { configPath: config });
    expect(model.config.qvBias).toBe(false);
    expect([...invertLayout(layoutOf('official'), model.tensors).keys()].sort()).toEqual(
      await officialNames('v2_no_qkv_bias'),
    );
    await model.close();
  });

  async function officialNames(name: string): Promise<string[]> {
    const { tensors, close } = await openCheckpoint(goldenPath(name, 'official.safetensors'));
    await close();
    return [...tensors.keys()].sort();
  }

  it.each([
    ['a number', 1e-30],
    ['minus zero', -0],
  ])('a bias that is not zero is not dropped: %s', async (_, poke) => {
    const path = join(folder, 'nonzero.safetensors');
    await withZeroBiases(path, poke);
    await expect(loadModel(path, { hints: { qkvBias: false } })).rejects.toThrow(
      'beit.encoder.layer.1.attention.attention.value.bias f32[32] is not zero; the given config says qkv_bias is false',
    );
  });

  it('timm’s config beside the weights makes the names timm’s', async () => {
    const beside = join(folder, 'timm');
    mkdirSync(beside);
    const source = await openCheckpoint(goldenPath('v1_cls', 'official.safetensors'));
    await writeSafetensors(join(beside, 'model.safetensors'), source.tensors);
    await source.close();
    writeFileSync(join(beside, 'config.json'), '{"architecture": "beit_base_patch16_224"}');
    const model = await loadModel(beside);
    expect(model.provenance.layout).toBe('timm');
    await model.close();
    const forced = await loadModel(beside, { layout: 'official' });
    expect(forced.provenance.layout).toBe('official');
    await forced.close();
  });

  it('the target generator of a training run is left out, and said', async () => {
    const rows = new Map(manifest('mim_v1').get('mmpretrain')!);
    rows.set('target_generator.encoder.blocks.0.norm1.weight', ['F32', [4], '']);
    rows.set('target_generator.quantize.embedding.weight', ['F32', [4, 4], '']);
    const path = join(folder, 'trained.safetensors');
    await writeSafetensors(path, hollow(rows));
    const model = await loadModel(path, { checkBuffers: false });
    expect(model.notes).toContain(
      'left out: the target generator of the training run (a tokenizer), 2 tensors (target_generator.encoder.blocks.0.norm1.weight, target_generator.quantize.embedding.weight)',
    );
    expect([...model.tensors.keys(), ...model.sourceNames.values()].join()).not.toContain('target_generator');
    const found = await inspectCheckpoint(path);
    expect(found.tensors.filter(({ role }) => role === 'left out')).toHaveLength(2);
    await model.close();
  });

  it('a bare mmpretrain backbone has no prefix', async () => {
    const rows = new Map(
      [...manifest('mm_out_types').get('mmpretrain')!].map(([name, row]) => [
        name.replace('backbone.', ''),
        row,
      ]),
    );
    const path = join(folder, 'bare.safetensors');
    await writeSafetensors(path, hollow(rows));
    const model = await loadModel(path);
    expect(model.provenance.layout).toBe('mmpretrain');
    expect(model.config).toMatchObject({ kind: 'backbone', tokenNorm: true, pooledNorm: true });
    expect(model.sourceNames.get('backbone.ln1.weight')).toBe('ln1.weight');
    await model.close();
  });

  it('transformers and a picture that is not square: said', async () => {
    const source = await openCheckpoint(goldenPath('v1_nonsquare', 'official.safetensors'));
    const path = join(folder, 'nonsquare.safetensors');
    const { tensors } = applyLayout(layoutOf('official'), source.tensors);
    await writeSafetensors(path, invertLayout(layoutOf('transformers'), tensors));
    await source.close();
    const model = await loadModel(path, { hints: { imageSize: [24, 40], layerNormEps: 1e-6 } });
    expect(model.notes.join('\n')).toContain('the image is not square: transformers itself swaps the sides');
    await model.close();
  });

  it('a classifier that was fine-tuned with transformers may still have its mask token', async () => {
    const source = await openCheckpoint(goldenPath('v1_shared_rel', 'official.safetensors'));
    const path = join(folder, 'masked.safetensors');
    const tensors = new Map(applyLayout(layoutOf('official'), source.tensors).tensors);
    tensors.set('backbone.mask_token', memoryTensor('F32', [1, 1, 32], new Uint8Array(128)));
    await writeSafetensors(path, invertLayout(layoutOf('transformers'), tensors));
    await source.close();
    const model = await loadModel(path);
    expect(model.config).toMatchObject({ kind: 'classification', maskToken: true });
    await model.close();
  });
});

describe('inspect', () => {
  const KINDS = new Map([
    ['v1_', 'classification'],
    ['mim', 'pre-training'],
    ['mm_', 'backbone'],
    ['mmc', 'backbone'],
    ['seg', 'segmentation'],
  ]);
  const FILES = MANIFESTS.flatMap((name) =>
    [...manifest(name)].map(([layout, rows]) => [name, layout, rows] as const),
  );

  it.each(FILES)('%s, %s: kind and layout', async (name, layout, rows) => {
    const path = join(folder, `${name}-${layout.replace(/\W+/g, '')}-seen.safetensors`);
    await writeSafetensors(path, hollow(rows));
    const found = await inspectCheckpoint(path, { checkBuffers: false });
    expect(found.kind).toBe(KINDS.get(name.slice(0, 3)));
    // timm and the official code have the same names
    expect(found.layout).toBe(layout === 'timm' ? 'official' : layout.replace(', seed', ''));
    expect(found.tensors.filter(({ role }) => role === 'unknown')).toEqual([]);
  });
});

it.each([
  ['DataParallel, twice', ['module.module.cls_token', 'module.module.norm.weight'], 'module.module.'],
  ['a Lightning module', ['model.cls_token', 'model.norm.weight'], 'model.'],
  ['torch.compile in a Lightning module', ['model._orig_mod.cls_token'], 'model._orig_mod.'],
  ['not on every name', ['model.cls_token', 'norm.weight'], ''],
  ['no names', [], ''],
])('the prefix of wrappers: %s', (_, names, prefix) => {
  expect(wrapperPrefix(names)).toBe(prefix);
});
