/** The catalog against the figures that others published. */
import { describe, expect, it } from 'vitest';
import { catalog, catalogRow, nearestNames, readableSource } from '../../src/convert/catalog.js';
import { InputError, UsageError } from '../../src/errors.js';

/** parameters, FLOPs: mmpretrain `configs/beit/metafile.yml` (first two rows) and counts of timm models. */
const FIGURES = [
  ['beit_base_patch16_224_pt22k_ft22kto1k', 86_530_984, 17_581_219_584],
  ['beitv2_base_patch16_224_pt1k_ft21kto1k', 86_530_984, 17_581_219_584],
  ['beit_base_patch16_384_pt22k_ft22kto1k', 86_744_104, 55_536_762_624],
  ['beit_large_patch16_224_pt22k_ft22kto1k', 304_430_568, 61_602_108_416],
  ['beit_large_patch16_384_pt22k_ft22kto1k', 304_998_888, 191_207_085_056],
  ['beit_large_patch16_512_pt22k_ft22kto1k', 305_674_728, 362_237_170_688],
  ['beit_base_patch16_224_pt22k_ft22k', 102_557_713, 17_581_219_584],
  ['beit_large_patch16_224_pt22k_ft22k', 325_792_593, 61_602_108_416],
] as const;

describe('catalog', () => {
  it.each(FIGURES)('%s has %i parameters', (name, parameters, flops) => {
    expect(catalogRow(name)).toMatchObject({ parameters, flops });
  });

  it('has the 9 + 8 published classifiers, each name and alias once', () => {
    const rows = catalog();
    expect(rows.filter((row) => row.version === 1)).toHaveLength(9);
    expect(rows.filter((row) => row.version === 2)).toHaveLength(8);
    const names = rows.flatMap((row) => [row.name, ...row.aliases]);
    expect(new Set(names).size).toBe(names.length);
  });

  it.each(catalog().map((row) => [row.name, row] as const))('%s agrees with its own name', (name, row) => {
    const match = /^beit(v2)?_(base|large)_patch16_(\d+)_pt(?:1k|22k)(?:_300e)?_ft(\d+k)(?:to(1k))?$/.exec(
      name,
    )!;
    const [, v2, architecture, size, first, last] = match;
    expect(row.version).toBe(v2 ? 2 : 1);
    expect(row.architecture).toBe(architecture);
    expect(row.imageSize).toBe(Number(size));
    expect(row.classes).toBe((last ?? first) === '1k' ? 1000 : 21841);
    expect(row.sources.at(-1)).toEqual({
      kind: 'url',
      url: expect.stringMatching(
        new RegExp(`^https://github.com/addf400/files/releases/download/[^/]+/${name}\\.pth$`),
      ),
    });
    // timm's tag repeats the story: in22k = pt22k, in1k = pt1k, ft_in22k = ft22k or ft21k, in1k last = 1000 classes.
    const hub = row.sources.find((source) => source.kind === 'hf');
    if (hub) {
      const tag = `${v2 ? 'in1k' : 'in22k'}${first === '1k' ? '_ft_in1k' : '_ft_in22k'}${last ? '_in1k' : ''}`;
      const stem = `beit${v2 ?? ''}_${architecture}_patch16_${size}`;
      expect(hub).toEqual({ kind: 'hf', repo: `timm/${stem}.${tag}`, file: 'model.safetensors' });
      expect(row.sources[0]).toBe(hub);
    } else {
      expect(name).toMatch(v2 ? /300e/ : /22k_ft1k$/);
    }
  });

  it.each([
    ['beit_base_patch16_224_pt22k_ft22kto1k', 256, [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]],
    ['beit_large_patch16_512_pt22k_ft22kto1k', 512, [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]],
    ['beitv2_large_patch16_224_pt1k_ft1k', 256, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]],
  ])('%s: the official transform', (name, resize, mean, std) => {
    const { imageSize, preprocessing } = catalogRow(name);
    expect(preprocessing).toMatchObject({
      resize,
      mean,
      std,
      interpolation: 'bicubic',
      crop: [imageSize, imageSize],
    });
  });

  it.each([
    [undefined, 'beit_base_patch16_224_pt22k_ft22kto1k'],
    ['beit_base_patch16_224.in22k_ft_in22k_in1k', 'beit_base_patch16_224_pt22k_ft22kto1k'],
    ['beit-large-patch16-512', 'beit_large_patch16_512_pt22k_ft22kto1k'],
    ['beitv2_base_patch16_224.in1k_ft_in1k', 'beitv2_base_patch16_224_pt1k_ft1k'],
  ])('%s is %s', (asked, name) => {
    expect(catalogRow(asked).name).toBe(name);
  });

  it.each([
    ['beit_base_patch16_224_pt22k_ft22to1k', 'beit_base_patch16_224_pt22k_ft22kto1k'],
    ['beit_base_patch16_384', 'beit_base_patch16_384_pt22k_ft22kto1k'],
    ['large_512', 'beit_large_patch16_512_pt22k_ft22kto1k'],
    ['BEIT_LARGE_PATCH16_384_PT22K_FT22KTO1K', 'beit_large_patch16_384_pt22k_ft22kto1k'],
    ['beitv2_large_patch16_224_pt1k_ft21kto1k.pth', 'beitv2_large_patch16_224_pt1k_ft21kto1k'],
  ])('"%s" is unknown; %s is suggested first', (asked, name) => {
    expect(nearestNames(asked)[0]).toBe(name);
    expect(() => catalogRow(asked)).toThrow(
      expect.objectContaining({
        constructor: UsageError,
        next: expect.stringContaining(`Nearest: ${name},`),
      }),
    );
  });

  it('says where a checkpoint without safetensors is', () => {
    const row = catalogRow('beit_large_patch16_224_pt22k_ft1k');
    const url =
      'https://github.com/addf400/files/releases/download/v1.0/beit_large_patch16_224_pt22k_ft1k.pth';
    expect(() => readableSource(row)).toThrow(InputError);
    expect(() => readableSource(row)).toThrow(url);
    expect(() => readableSource(row)).toThrow(
      expect.objectContaining({ next: expect.stringMatching(/\.pth file cannot be read yet.*--src <path>/) }),
    );
  });
});
