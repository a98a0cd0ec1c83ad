/** Every layout and kind through the whole pipeline: what can be converted is verified, what cannot is said. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { applyLayout, invertLayout } from '../../src/convert/layout.js';
import { LAYOUTS } from '../../src/convert/layouts/index.js';
import { openCheckpoint } from '../../src/convert/open.js';
import { convert, verify } from '../../src/index.js';
import { bytesOf, memoryTensor, type Tensor } from '../../src/tensor.js';
import { goldenPath } from '../convert/goldens.js';
import { writeSafetensors } from '../convert/manifest.js';
import { build } from '../convert/recipe.js';

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

describe('a classifier without a class token', () => {
  it('averages all its tokens', async () => {
    const checkpoint = await openCheckpoint(goldenPath('mm_no_cls_token', 'mmpretrain.safetensors'));
    const head = Float32Array.from({ length: 320 }, (_, i) => Math.sin(i));
    const src = join(folder, 'weights.safetensors');
    await writeSafetensors(
      src,
      new Map([
        ...checkpoint.tensors,
        ['head.fc.weight', memoryTensor('F32', [10, 32], bytesOf(head))],
        ['head.fc.bias', memoryTensor('F32', [10], bytesOf(head.slice(0, 10)))],
      ]),
    );
    await checkpoint.close();
    const configPath = join(folder, 'heads.json');
    build(configPath, { json: { num_attention_heads: 4 } });
    const { parity } = await convert({ src, configPath, out: join(folder, 'model.onnx') });
    expect(parity.verdict).toBe('passed');
  });
});
