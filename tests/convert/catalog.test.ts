/** The catalog against the figures that others published. */
import { describe, expect, it } from 'vitest';
import { catalog, catalogRow, nearestNames } from '../../src/convert/catalog.js';
import { digestInName } from '../../src/convert/sources/url-cache.js';
import { UsageError } from '../../src/errors.js';

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
});

describe("mmpretrain's catalog", () => {
  const rows = catalog('mmpretrain');

  it('has the published classifiers and pre-trainings, each name and alias once', () => {
    expect(rows.map(({ version, task }) => `${version} ${task}`).sort()).toEqual([
      ...['1 classification', '1 classification', '1 pre-training'],
      ...['2 classification', '2 classification', '2 pre-training'],
    ]);
    const names = rows.flatMap((row) => [row.name, ...row.aliases]);
    expect(new Set(names).size).toBe(names.length);
  });

  // addresses: mmpretrain `configs/beit/metafile.yml` and `configs/beitv2/metafile.yml`
  it.each([
    [
      'beit-base-p16_beit-in21k-pre_3rdparty_in1k',
      'mmclassification/v0/beit/beit-base_3rdparty_in1k_20221114-c0a4df23.pth',
    ],
    [
      'beit-base-p16_beitv2-in21k-pre_3rdparty_in1k',
      'mmclassification/v0/beit/beitv2-base_3rdparty_in1k_20221114-73e11905.pth',
    ],
    [
      'beit-base-p16_beitv2-pre_8xb128-coslr-100e_in1k',
      'mmselfsup/1.x/beitv2/beitv2_vit-base-p16_8xb256-amp-coslr-300e_in1k/vit-base-p16_ft-8xb128-coslr-100e_in1k/vit-base-p16_ft-8xb128-coslr-100e_in1k_20221212-d1c0789e.pth',
    ],
    [
      'beit_beit-base-p16_8xb256-amp-coslr-300e_in1k',
      'mmselfsup/1.x/beit/beit_vit-base-p16_8xb256-amp-coslr-300e_in1k/beit_vit-base-p16_8xb256-amp-coslr-300e_in1k_20221128-ab79e626.pth',
    ],
  ])('%s is at its published address, under its file name too', (name, path) => {
    const row = catalogRow(name, 'mmpretrain');
    expect(row.sources).toEqual([{ kind: 'url', url: `https://download.openmmlab.com/${path}` }]);
    const stem = path.split('/').at(-1)!.replace('.pth', '');
    expect(catalogRow(stem, 'mmpretrain')).toBe(row);
    expect(digestInName(`${stem}.pth`)).toBe(stem.slice(-8));
  });

  it('classifiers have figures, pre-trainings have none', () => {
    expect(rows.filter((row) => row.task === 'classification').map((row) => row.parameters)).toEqual(
      new Array(4).fill(86_530_984),
    );
    for (const row of rows.filter((one) => one.task === 'pre-training')) {
      expect(row).toMatchObject({ classes: 0, preprocessing: { mean: [0.485, 0.456, 0.406] } });
      expect(row.parameters).toBeUndefined();
    }
  });

  it('an unknown name is told with the nearest', () => {
    expect(() => catalogRow('beitv2-base_3rdparty', 'mmpretrain')).toThrow(
      expect.objectContaining({
        constructor: UsageError,
        next: expect.stringMatching(/^Nearest: beit-base-p16_beitv2-in21k-pre_3rdparty_in1k,/),
      }),
    );
  });
});
