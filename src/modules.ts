/**
 * Parameters and FLOPs of a BEiT as a tree of modules. The leaves add up to what `complexity` says.
 */
import { inventory, isStatistic, tokenCount, type BeitConfig } from './beit.js';
import { elementCount } from './tensor.js';

export interface ModuleCost {
  readonly name: string;
  /** what it is, in a few words */
  readonly what: string;
  readonly parameters: number;
  /** in the published convention (see `complexity`): the head and additions of biases are not counted */
  readonly flops: number;
  /** equal modules are listed once */
  readonly times?: number;
  readonly children: readonly ModuleCost[];
}

type Leaf = Omit<ModuleCost, 'children'>;

/** Two for every LayerNorm element to find mean and variance, three to use them. */
const NORM_FLOPS = 5;

/** How much the tensors hold whose names fit; what a BatchNorm counted is no parameter. */
type Count = (test: RegExp) => number;

export function moduleTree(config: BeitConfig): ModuleCost {
  const { hiddenSize: E, depth, channels, patchSize, classes, vocabulary, clsPretraining: second } = config;
  const tokens = tokenCount(config);
  const patches = config.window[0] * config.window[1];
  const shapes = [...inventory(config)].filter(([name]) => !isStatistic(name));
  const count: Count = (test) =>
    shapes.filter(([name]) => test.test(name)).reduce((sum, [, shape]) => sum + elementCount(shape), 0);
  const leaf = leafOf(count);
  const norm = (name: string, test: RegExp, rows: number): Leaf =>
    leaf(name, `LayerNorm ${E}`, test, count(test) > 0 ? NORM_FLOPS * rows * E : 0);
  const blocks = (name: string, at: string, times: number): readonly ModuleCost[] =>
    times === 0
      ? []
      : [{ ...blockTree(config, count, at), name, what: `each of ${times} encoder blocks`, times }];
  return branch('model', `${config.imageSize.join('×')} pixels, ${tokens} tokens`, [
    leaf(
      'patch_embed',
      `${channels}×${patchSize}×${patchSize} → ${E}`,
      /^backbone\.patch_embed\./,
      patches * E * channels * patchSize * patchSize,
    ),
    leaf('cls_token', 'class token', /^backbone\.cls_token$/),
    leaf('mask_token', 'in place of hidden patches', /^backbone\.mask_token$/),
    leaf('pos_embed', 'absolute positions', /^backbone\.pos_embed$/),
    leaf('rel_pos_bias', 'table for all blocks', /^backbone\.rel_pos_bias\./),
    ...blocks('layers', 'backbone.layers.0.', depth),
    norm('token norm', /^backbone\.ln1\./, tokens),
    norm('pooled norm', /^backbone\.ln2\./, 1),
    branch('neck', 'second output', [
      ...blocks('patch_aggregation', 'neck.patch_aggregation.0.', second?.layers ?? 0),
      // One norm for both outputs is used twice.
      {
        ...norm('norm', /^neck\.norm\./, tokens),
        ...(second?.sharedHead && { flops: 2 * NORM_FLOPS * tokens * E }),
      },
      norm('cls_pt_norm', /^neck\.cls_pt_norm\./, tokens),
    ]),
    branch('pyramid', 'four sizes of the feature map', [
      leaf('fpn1', 'a quarter of a patch', /^backbone\.fpn1\./),
      leaf('fpn2', 'half a patch', /^backbone\.fpn2\./),
    ]),
    leaf('decode_head', `UPerNet → ${classes}`, /^decode_head\./),
    leaf('auxiliary_head', `for training only → ${classes}`, /^auxiliary_head\./),
    leaf('head', `${E} → ${classes || vocabulary}`, /^head\./),
  ]);
}

function leafOf(count: Count): (name: string, what: string, test: RegExp, flops?: number) => Leaf {
  return (name, what, test, flops = 0) => ({ name, what, parameters: count(test), flops });
}

/** @param at prefix of a block's names; all blocks beside it are its like */
function blockTree(config: BeitConfig, count: Count, at: string): ModuleCost {
  const { hiddenSize: E, mlpSize: M, heads } = config;
  const tokens = tokenCount(config);
  const leaf = leafOf(count);
  const inBlock = (name: string): RegExp => new RegExp(`^${at.replaceAll('.', '\\.')}${name}`);
  const norm = (name: string): Leaf =>
    leaf(name, `LayerNorm ${E}`, inBlock(`${name}\\.`), NORM_FLOPS * tokens * E);
  const attention = branch('attn', `${heads} heads of ${E / heads}`, [
    leaf('qkv', `${E} → ${3 * E}`, inBlock('attn\\.(qkv\\.|[qv]_bias)'), 3 * tokens * E * E),
    leaf('scores', 'q·k for every pair of tokens', /^$/, tokens * tokens * E),
    leaf('relative_position_bias', 'table per block', inBlock('attn\\.relative_position')),
    leaf('average', 'of v by the probabilities', /^$/, tokens * tokens * E),
    leaf('proj', `${E} → ${E}`, inBlock('attn\\.proj\\.'), tokens * E * E),
  ]);
  const mlp = branch('ffn', 'MLP', [
    leaf('fc1', `${E} → ${M}`, inBlock('ffn\\.layers\\.0\\.0'), tokens * E * M),
    leaf('fc2', `${M} → ${E}`, inBlock('ffn\\.layers\\.1'), tokens * M * E),
  ]);
  return branch('block', 'encoder block', [
    norm('ln1'),
    attention,
    leaf('gamma_1', 'LayerScale', inBlock('gamma_1')),
    norm('ln2'),
    mlp,
    leaf('gamma_2', 'LayerScale', inBlock('gamma_2')),
  ]);
}

/** Parts that cost nothing are not there. */
function branch(name: string, what: string, parts: readonly (Leaf | ModuleCost)[]): ModuleCost {
  const children = parts
    .filter(({ parameters, flops }) => parameters > 0 || flops > 0)
    .map((part) => ({ children: [], ...part }));
  const total = (value: (of: ModuleCost) => number): number =>
    children.reduce((sum, child) => sum + value(child) * (child.times ?? 1), 0);
  return { name, what, parameters: total((of) => of.parameters), flops: total((of) => of.flops), children };
}
