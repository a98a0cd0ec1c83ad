import { describe, expect, it } from 'vitest';
import { complexity, inventory, isStatistic, type BeitConfig } from '../src/beit.js';
import { catalog } from '../src/convert/catalog.js';
import { loadModel } from '../src/convert/load.js';
import { moduleTree, type ModuleCost } from '../src/modules.js';
import { groupOf, tensorStatistics, weightStatistics } from '../src/statistics.js';
import { bytesOf, elementCount, memoryTensor, type Tensor } from '../src/tensor.js';
import { GOLDEN_CASES, goldenConfig, goldenPath } from './convert/goldens.js';
import { TASK_CASES } from './support/tasks.js';

const tensor = (...values: number[]): Tensor =>
  memoryTensor('F32', [values.length], bytesOf(Float32Array.from(values)));

describe('tensorStatistics', () => {
  it.each([
    [
      'plain numbers',
      [1, 2, 3, 6],
      { min: 1, max: 6, mean: 3, std: Math.sqrt(3.5), nan: 0, infinite: 0, zeros: 0 },
    ],
    ['one number', [-4], { min: -4, max: -4, mean: -4, std: 0, nan: 0, infinite: 0, zeros: 0 }],
    [
      'NaN and infinities are counted, not summed',
      [NaN, Infinity, -Infinity, 0, 2],
      { min: 0, max: 2, mean: 1, std: 1, nan: 1, infinite: 2, zeros: 1 },
    ],
    ['nothing finite', [NaN], { min: 0, max: 0, mean: 0, std: 0, nan: 1, infinite: 0, zeros: 0 }],
  ])('%s', async (_, values, expected) => {
    expect(await tensorStatistics(tensor(...values))).toEqual({ elements: values.length, ...expected });
  });

  it('a far mean does not swallow the spread', async () => {
    const values = Float32Array.from({ length: 100_000 }, (_, i) => 4096 + (i % 2) / 1024);
    const { mean, std } = await tensorStatistics(tensor(...values.subarray(0, 50_000)));
    expect(mean).toBeCloseTo(4096 + 1 / 2048, 9);
    expect(std).toBeCloseTo(1 / 2048, 9);
  });

  it('half precision is widened', async () => {
    const half = memoryTensor('F16', [2], bytesOf(Uint16Array.of(0x3c00, 0xc000)));
    expect(await tensorStatistics(half)).toMatchObject({ min: -2, max: 1, mean: -0.5 });
  });
});

describe('weightStatistics', () => {
  const named = (entries: Record<string, Tensor>) => new Map(Object.entries(entries));

  it('joins the tensors of a place', async () => {
    const { groups } = await weightStatistics(
      named({
        'backbone.cls_token': tensor(1),
        'backbone.layers.0.gamma_1': tensor(1, 3),
        'backbone.layers.0.ln1.weight': tensor(5, 7),
      }),
    );
    expect([...groups.keys()]).toEqual(['embedding', 'block 0']);
    expect(groups.get('block 0')).toMatchObject({ elements: 4, min: 1, max: 7, mean: 4, std: Math.sqrt(5) });
  });

  it.each([
    ['backbone.layers.3.attn.qkv.weight', 'block 3'],
    ['backbone.ln2.weight', 'head'],
    ['head.fc.bias', 'head'],
    ['backbone.pos_embed', 'embedding'],
  ])('%s belongs to %s', (name, group) => {
    expect(groupOf(name)).toBe(group);
  });

  it.each([
    ['NaN', 'head.fc.weight', [NaN, 1, 2], 'head.fc.weight: holds NaN'],
    ['infinities', 'head.fc.bias', [Infinity, 1, 2], 'head.fc.bias: holds infinities'],
    [
      'a zero table',
      'backbone.layers.0.attn.relative_position_bias_table',
      [0, 0],
      'is all zero: positions that were never loaded',
    ],
    [
      'equal gammas',
      'backbone.layers.1.gamma_2',
      [0.1, 0.1, 0.1],
      'backbone.layers.1.gamma_2: all values are equal: LayerScale as it is initialised',
    ],
    [
      'a norm as initialised',
      'backbone.layers.1.ln1.weight',
      [1, 1],
      'all values are 1: a norm as it is initialised',
    ],
    ['beyond float16', 'head.fc.weight', [1, 70_000], 'beyond 65,504: float16 cannot hold it'],
    [
      'near the end of float16',
      'head.fc.weight',
      [1, -2000],
      'beyond 1,000: activations in float16 may overflow',
    ],
    ['a constant matrix', 'head.fc.weight', [0.5, 0.5], 'head.fc.weight: all values are equal'],
    ['a zero matrix', 'head.fc.weight', [0, 0], 'head.fc.weight: is all zero'],
  ])('says what is unusual: %s', async (_, name, values, sentence) => {
    const { unusual } = await weightStatistics(named({ [name]: tensor(...values) }));
    expect(unusual).toHaveLength(1);
    expect(unusual[0]).toContain(sentence);
  });

  it('ordinary weights are not unusual, nor is a zero bias', async () => {
    const usual = {
      'head.fc.weight': tensor(0.1, -0.2),
      'head.fc.bias': tensor(0, 0),
      'backbone.layers.0.gamma_1': tensor(0.1, 0.2),
    };
    expect((await weightStatistics(named(usual))).unusual).toEqual([]);
  });
});

describe('moduleTree', () => {
  const sum = (node: ModuleCost, value: (of: ModuleCost) => number): number =>
    node.children.length === 0
      ? value(node)
      : node.children.reduce((total, child) => total + sum(child, value) * (child.times ?? 1), 0);

  const CONFIGS = [
    ...GOLDEN_CASES.map((name) => [name, goldenConfig(name)] as const),
    ...catalog().flatMap(({ name, config }) => (config ? [[name, config] as const] : [])),
  ];

  it.each(CONFIGS)('%s: leaves and branches add up to what complexity says', (_, config) => {
    addsUp(config);
  });

  it.each(TASK_CASES.map((each) => [each.name, each] as const))('also of other kinds: %s', async (_, of) => {
    const model = await loadModel(goldenPath(of.folder, `${of.file}.safetensors`), { hints: of.hints });
    addsUp(model.config);
    await model.close();
  });

  it('a segmentation model has its pyramid and heads, and no norm that is not there', async () => {
    const model = await loadModel(goldenPath('segmentation', 'hf.safetensors'));
    const names = moduleTree(model.config).children.map(({ name }) => name);
    expect(names).toEqual(['patch_embed', 'cls_token', 'layers', 'pyramid', 'decode_head', 'auxiliary_head']);
    await model.close();
  });

  function addsUp(config: BeitConfig): void {
    const tree = moduleTree(config);
    const { parameters, flops } = complexity(config);
    expect({ parameters: tree.parameters, flops: tree.flops }).toEqual({ parameters, flops });
    const shapes = [...inventory(config)].filter(([name]) => !isStatistic(name));
    expect(sum(tree, (of) => of.parameters)).toBe(
      shapes.reduce((total, [, shape]) => total + elementCount(shape), 0),
    );
    expect(sum(tree, (of) => of.flops)).toBe(flops);
  }
});
