import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { complexity } from '../../src/beit.js';
import { knownConfig } from '../../src/release/known-config.js';
import { planRelease } from '../../src/release/release.js';

const ZOO = fileURLToPath(new URL('../../scripts/zoo-official.yaml', import.meta.url));
const V1 = 'https://github.com/addf400/files/releases/download/v1.0/';
const V2 = 'https://github.com/addf400/files/releases/download/BEiT-v2/';

describe('the plan of the official zoo', () => {
  it('has every published file with names, sizes and sources, without network', async () => {
    const items = await planRelease({ manifest: ZOO });
    expect(items).toHaveLength(30);
    for (const item of items) {
      expect(item.bytes, item.name).toBeGreaterThan(500e6);
      expect(item.parameters, item.name).toBeGreaterThan(80e6);
      expect(item.seconds, item.name).toBeGreaterThan(1);
      expect(item.source, item.name).toMatch(/^(?:official:beit|https:\/\/github\.com\/addf400\/)/);
      expect(item.files.map(({ path }) => path)).toEqual(
        item.dtypes.map(
          (dtype) => `onnx/model${{ fp32: '', fp16: '_fp16', q8: '_quantized', q4: '_q4' }[dtype]!}.onnx`,
        ),
      );
    }
  });

  // Counted in PyTorch, on the official code's own models.
  it.each([
    ['v1 base', `${V1}beit_base_patch16_224_pt22k.pth`, 91_965_776],
    ['v1 large', `${V1}beit_large_patch16_224_pt22k.pth`, 311_534_016],
    ['v2 base, with its second output', `${V2}beitv2_base_patch16_224_pt1k.pth`, 106_143_056],
    ['v2 large', `${V2}beitv2_large_patch16_224_pt1k_300e.pth`, 336_728_512],
  ])('parameters of pre-training: %s', (_, source, parameters) => {
    const config = knownConfig({ name: 'x', source, task: 'masked-image' });
    expect(complexity(config!).parameters).toBe(parameters);
  });

  it.each([
    ['v1 was fine-tuned at 640', `${V1}beit_base_patch16_640_pt22k_ft22ktoade20k.pth`, 640],
    ['v2 at 512, whatever its name says', `${V2}beitv2_base_patch16_224_pt1k_ftade20k.pth`, 512],
  ])('segmentation: %s', (_, source, side) => {
    expect(knownConfig({ name: 'x', source, task: 'segment' })?.imageSize).toEqual([side, side]);
  });

  it('nothing is made up about other files', () => {
    expect(
      knownConfig({ name: 'x', source: 'https://example.org/model.pth', task: 'segment' }),
    ).toBeUndefined();
  });
});
