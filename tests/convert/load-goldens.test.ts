import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { complexity, inventory, relativePositionIndex, type BeitConfig } from '../../src/beit.js';
import { invertLayout } from '../../src/convert/layout.js';
import { official } from '../../src/convert/layouts/official.js';
import { inspectCheckpoint, loadModel } from '../../src/convert/load.js';
import { openCheckpoint } from '../../src/convert/open.js';
import { readBytes, type Tensor } from '../../src/tensor.js';
import { GOLDEN_CASES, GOLDEN_HINTS, goldenConfig, goldenPath } from './goldens.js';

// The goldens' own config.json is in upstream's terms: it is no transformers or timm config, so it is ignored.
async function load(name: string, file = 'official.safetensors'): ReturnType<typeof loadModel> {
  return loadModel(goldenPath(name, file), { hints: GOLDEN_HINTS.get(name) });
}

const hex = async (tensor: Tensor): Promise<string> => Buffer.from(await readBytes(tensor)).toString('hex');

describe('every golden classifier in the official layout', () => {
  it('there are all 17 of them', () => {
    expect(GOLDEN_CASES).toHaveLength(17);
  });

  it.each(GOLDEN_CASES)('%s: the config is what upstream was built with', async (name) => {
    const model = await load(name);
    try {
      expect(model.config).toEqual(goldenConfig(name));
      expect([...model.tensors.keys()]).toEqual([...inventory(model.config).keys()]);
      expect(model.provenance).toMatchObject({
        id: 'official.safetensors',
        container: 'safetensors',
        layout: 'official',
        versionEvidence: 'nothing in the file tells v1 from v2',
      });
    } finally {
      await model.close();
    }
  });

  it.each(['v1_cls', 'v2_cls', 'v1_nonsquare'])(
    '%s: the file has index buffers, and they are checked',
    async (name) => {
      const model = await load(name);
      expect(model.buffers.size).toBe(model.config.depth);
      const [index] = model.buffers.values();
      const bytes = await readBytes(index);
      expect(Array.from(new BigInt64Array(bytes.buffer), Number)).toEqual([
        ...relativePositionIndex(model.config.window),
      ]);
      await model.close();
    },
  );
});

describe('the official table (layouts.test.ts holds all of them against upstream’s files)', () => {
  it.each(GOLDEN_CASES)('%s: written back, the names are the file’s own again', async (name) => {
    const model = await load(name);
    const file = await openCheckpoint(goldenPath(name, 'official.safetensors'));
    const back = invertLayout(official, model.tensors);
    const weights = [...file.tensors.keys()].filter((key) => !key.endsWith('relative_position_index'));
    expect([...back.keys()].sort()).toEqual(weights.sort());
    for (const [canonical, source] of model.sourceNames)
      expect(back.get(source)).toBe(model.tensors.get(canonical));
    await Promise.all([model.close(), file.close()]);
  });

  it('the index buffers have canonical names as well', async () => {
    const file = await openCheckpoint(goldenPath('v1_cls', 'mmpretrain.safetensors'));
    const back = invertLayout(official, file.tensors);
    expect(back.has('blocks.2.attn.relative_position_index')).toBe(true);
    expect(back.size).toBe(file.tensors.size);
    await file.close();
  });
});

describe('spreading a shared table', () => {
  it('gives every block the bytes of the one table and keeps the names', async () => {
    const shared = await load('v1_shared_rel');
    const spread = await loadModel(goldenPath('v1_shared_rel', 'official.safetensors'), {
      sharedTable: 'spread',
    });
    try {
      expect(spread.config).toEqual({
        ...shared.config,
        sharedRelativePosition: false,
        relativePosition: true,
      });
      expect([...spread.tensors.keys()]).toEqual([...inventory(spread.config).keys()]);
      const one = await hex(shared.tensors.get('backbone.rel_pos_bias.relative_position_bias_table')!);
      for (let layer = 0; layer < spread.config.depth; layer++) {
        const name = `backbone.layers.${layer}.attn.relative_position_bias_table`;
        expect(await hex(spread.tensors.get(name)!)).toBe(one);
        expect(spread.sourceNames.get(name)).toBe('rel_pos_bias.relative_position_bias_table');
      }
      expect(spread.tensors.has('backbone.rel_pos_bias.relative_position_bias_table')).toBe(false);
      expect(spread.notes).toContainEqual(expect.stringContaining('copied to all 2 blocks'));
    } finally {
      await Promise.all([shared.close(), spread.close()]);
    }
  });

  it('leaves a model with tables of its own alone', async () => {
    const model = await loadModel(goldenPath('v1_cls', 'official.safetensors'), { sharedTable: 'spread' });
    expect(model.config.relativePosition).toBe(true);
    await model.close();
  });
});

describe('published figures', () => {
  const base = { hiddenSize: 768, depth: 12, heads: 12, mlpSize: 3072 };
  const large = { hiddenSize: 1024, depth: 24, heads: 16, mlpSize: 4096 };
  const config = (arch: typeof base, side: number, classes: number): BeitConfig => ({
    ...arch,
    imageSize: [side, side],
    patchSize: 16,
    window: [side / 16, side / 16],
    channels: 3,
    kind: 'classification',
    classes,
    vocabulary: 0,
    classToken: true,
    maskToken: false,
    layerScale: true,
    qvBias: true,
    qkvBias: false,
    absolutePosition: false,
    relativePosition: true,
    sharedRelativePosition: false,
    pooling: 'mean',
    tokenNorm: false,
    pooledNorm: true,
    layerNormEps: 1e-6,
  });
  // mmpretrain `configs/beit/metafile.yml`; the others by the same rule, checked against timm's model cards
  it.each([
    ['base 224', config(base, 224, 1000), 86_530_984, 17_581_219_584],
    ['base 384', config(base, 384, 1000), 86_744_104, 55_536_762_624],
    ['large 224', config(large, 224, 1000), 304_430_568, 61_602_108_416],
    ['large 384', config(large, 384, 1000), 304_998_888, 191_207_085_056],
    ['large 512', config(large, 512, 1000), 305_674_728, 362_237_170_688],
    ['base 224, 21,841 classes', config(base, 224, 21_841), 102_557_713, 17_581_219_584],
    ['large 224, 21,841 classes', config(large, 224, 21_841), 325_792_593, 61_602_108_416],
  ])('%s', (_, beit, parameters, flops) => {
    expect(complexity(beit)).toEqual({ parameters, flops });
  });

  const trained = (arch: typeof base, clsPretraining?: BeitConfig['clsPretraining']): BeitConfig => ({
    ...config(arch, 224, 0),
    kind: 'pre-training',
    vocabulary: 8192,
    maskToken: true,
    relativePosition: false,
    sharedRelativePosition: true,
    pooling: 'class',
    tokenNorm: clsPretraining === undefined,
    pooledNorm: false,
    ...(clsPretraining && { clsPretraining }),
  });
  // unilm `beit/modeling_pretrain.py`, `beit2/modeling_pretrain.py`: tensors and parameters of the models as built
  it.each([
    ['v1 base', trained(base), 91_965_776, 189],
    ['v1 large', trained(large), 311_534_016, 369],
    ['v2 base', trained(base, { earlyLayer: 9, layers: 2, sharedHead: true }), 106_143_056, 219],
    ['v2 large', trained(large, { earlyLayer: 21, layers: 2, sharedHead: true }), 336_728_512, 399],
  ])('pre-training, %s', (_, beit, parameters, tensors) => {
    expect(complexity(beit).parameters).toBe(parameters);
    expect(inventory(beit).size).toBe(tensors);
  });
});

describe('inspect', () => {
  it('shows everything about v1_cls without reading a weight', async () => {
    const found = await inspectCheckpoint(goldenPath('v1_cls', 'official.safetensors'));
    expect(found.problem).toBeUndefined();
    expect(found).toMatchObject({
      container: 'safetensors',
      layout: 'official',
      versionEvidence: 'nothing in the file tells v1 from v2',
      config: goldenConfig('v1_cls'),
      metadata: [['format', 'pt']],
      files: [
        {
          name: 'official.safetensors',
          bytes: readFileSync(goldenPath('v1_cls', 'official.safetensors')).length,
        },
      ],
    });
    expect(found.parameters).toBe(found.weightElements);
    expect(found.tensors).toHaveLength(58);
    expect(found.tensors.find((tensor) => tensor.source === 'blocks.0.norm1.bias')).toEqual({
      source: 'blocks.0.norm1.bias',
      canonical: 'backbone.layers.0.ln1.bias',
      dtype: 'F32',
      shape: [32],
      bytes: 128,
      role: 'weight',
    });
    expect(found.tensors.filter((tensor) => tensor.role === 'buffer')).toHaveLength(3);
  });

  it('lists a file that does not fit a forced layout and says why it is not converted', async () => {
    const found = await inspectCheckpoint(goldenPath('v1_cls', 'mmpretrain.safetensors'), {
      layout: 'transformers',
    });
    expect(found.config).toBeUndefined();
    expect(found.layout).toBeUndefined();
    expect(found.problem).toMatchObject({
      kind: 'LayoutError',
      message:
        'mmpretrain.safetensors has the tensor names of the mmpretrain layout, not of the transformers layout',
      next: 'Leave --layout out, or give --layout mmpretrain.',
    });
    expect(found.tensors).toHaveLength(58);
    expect(found.tensors.every((tensor) => tensor.role === 'unknown')).toBe(true);
    expect(found.weightElements).toBe(complexity(goldenConfig('v1_cls')).parameters);
  });
});

describe('what the name says', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'convert-beit-test-'));
  });
  afterAll(() => {
    rmSync(folder, { recursive: true });
  });

  it.each([
    ['beit_base_patch16_224_pt22k_ft22kto1k.safetensors', 1],
    ['beitv2_base_patch16_224_pt1k_ft21kto1k.safetensors', 2],
    ['BEiT-v2-large.safetensors', 2],
    ['beit2.safetensors', 2],
    ['my-beit-base.safetensors', 1],
    ['model.safetensors', undefined],
    ['notbeitatall.safetensors', undefined],
  ])('%s: v%s', async (name, version) => {
    const path = join(folder, name);
    const { copyFile } = await import('node:fs/promises');
    await copyFile(goldenPath('v1_patch16', 'official.safetensors'), path);
    const model = await loadModel(path);
    expect(model.provenance.version).toBe(version);
    expect(model.preprocessing.mean[0]).toBe(version === 2 ? 0.485 : 0.5);
    expect(model.provenance.versionEvidence).toBe(
      version ? `the file name ${name}` : 'nothing in the file tells v1 from v2',
    );
    await model.close();
  });
});
