/** Every layout and kind through the whole pipeline: what can be converted is verified, what cannot is said. */
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { applyLayout, invertLayout } from '../../src/convert/layout.js';
import { LAYOUTS } from '../../src/convert/layouts/index.js';
import { openCheckpoint } from '../../src/convert/open.js';
import { InputError, convert, inspect, verify } from '../../src/index.js';
import { memoryTensor, type Tensor } from '../../src/tensor.js';
import { goldenPath } from '../convert/goldens.js';
import { hollow, manifest, writeSafetensors } from '../convert/manifest.js';
import { build, type Recipe } from '../convert/recipe.js';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'convert-beit-kinds-'));
});
afterEach(() => rm(folder, { recursive: true }));

/** `name` in another layout, with tensors added under canonical names. */
async function inLayout(name: string, layout: string, added: ReadonlyMap<string, Tensor>): Promise<string> {
  const source = await openCheckpoint(goldenPath(name, 'official.safetensors'));
  const tensors = new Map([...applyLayout(LAYOUTS[0], source.tensors).tensors, ...added]);
  const path = join(folder, `${layout}.safetensors`);
  await writeSafetensors(
    path,
    invertLayout(
      LAYOUTS.find((each) => each.name === layout)!,
      tensors,
    ),
  );
  await source.close();
  return path;
}

describe('classifiers', () => {
  const mask = new Map([['backbone.mask_token', memoryTensor('F32', [1, 1, 32], new Uint8Array(128))]]);

  it.each([
    ['timm', 'v1_cls', new Map(), 'official'],
    ['transformers', 'v1_cls', new Map(), 'transformers'],
    ['transformers', 'v1_cls_pool', new Map(), 'transformers'],
    ['transformers', 'v1_shared_rel', new Map(), 'transformers'],
    ['transformers', 'v1_shared_rel', mask, 'transformers'],
    ['mmpretrain', 'v1_cls_pool', new Map(), 'mmpretrain'],
  ])('in the %s layout: %s is converted and verified', async (layout, name, added, told) => {
    const src = await inLayout(name, layout, added);
    const out = join(folder, 'model.onnx');
    const result = await convert({ src, out, samples: 1 });
    expect(result.parity.verdict).toBe('passed');
    expect(result.source.layout).toBe(told);
    const again = await verify({ src, model: out, samples: 1, layout });
    expect(again.parity.verdict).toBe('passed');
    expect(again.source.layout).toBe(layout);
  });

  it('two norms are verified as well', async () => {
    const path = join(folder, 'both.safetensors');
    const checkpoint = await openCheckpoint(goldenPath('mm_out_types', 'mmpretrain.safetensors'));
    const head = await openCheckpoint(goldenPath('v1_cls', 'mmpretrain.safetensors'));
    const tensors = new Map(checkpoint.tensors);
    for (const name of ['head.fc.weight', 'head.fc.bias']) tensors.set(name, head.tensors.get(name)!);
    await writeSafetensors(path, tensors);
    await Promise.all([checkpoint.close(), head.close()]);
    const result = await convert({ src: path, out: join(folder, 'model.onnx'), samples: 2 });
    expect(result.source.config).toMatchObject({ tokenNorm: true, pooledNorm: true, pooling: 'mean' });
    expect(result.parity.verdict).toBe('passed');
  });
});

describe('what is no classifier', () => {
  const TRAINED: Recipe = { tiny: { of: 'pre-training' } };
  it.each<[string, Recipe, string]>([
    ['pre-training', TRAINED, 'weights.safetensors is a pre-training model: it has no classifier'],
    ['a backbone', { tiny: { drop: ['head.'] } }, 'weights.safetensors is a backbone: it has no classifier'],
    [
      'segmentation',
      { tiny: { of: 'segmentation' } },
      'weights.safetensors is a segmentation model: it labels pixels, not images',
    ],
  ])('%s: one sentence, nothing written', async (_, recipe, message) => {
    const src = join(folder, 'weights.safetensors');
    build(src, recipe);
    const out = join(folder, 'model.onnx');
    const error: unknown = await convert({ src, out }).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(InputError);
    expect(error).toMatchObject({ message, exitCode: 3 });
    expect(existsSync(out)).toBe(false);
    expect((await inspect({ src })).problem).toBeUndefined();
  });

  it('a classifier without a class token', async () => {
    const rows = new Map(manifest('mm_no_cls_token').get('mmpretrain')!);
    rows.set('head.fc.weight', ['F32', [10, 32], '']);
    rows.set('head.fc.bias', ['F32', [10], '']);
    const src = join(folder, 'weights.safetensors');
    await writeSafetensors(src, hollow(rows));
    const configPath = join(folder, 'heads.json');
    build(configPath, { json: { num_attention_heads: 4 } });
    await expect(convert({ src, configPath, out: join(folder, 'model.onnx') })).rejects.toThrow(
      'weights.safetensors has no class token (mmpretrain with_cls_token=False)',
    );
  });
});
