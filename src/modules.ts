/**
 * Parameters and FLOPs of a BEiT as a tree of modules. The leaves add up to what `complexity` says.
 */
import { inventory, tokenCount, type BeitConfig } from './beit.js';
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

export function moduleTree(config: BeitConfig): ModuleCost {
  const { hiddenSize: E, mlpSize: M, depth, channels, patchSize, heads, classes } = config;
  const tokens = tokenCount(config);
  const patches = config.window[0] * config.window[1];
  const shapes = [...inventory(config)];
  const count = (test: RegExp): number =>
    shapes.filter(([name]) => test.test(name)).reduce((sum, [, shape]) => sum + elementCount(shape), 0);
  const leaf = (name: string, what: string, test: RegExp, flops = 0): Leaf => ({
    name,
    what,
    parameters: count(test),
    flops,
  });
  const inBlock = (name: string): RegExp => new RegExp(`^backbone\\.layers\\.0\\.${name}`);
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
  const block = branch('block', 'encoder block', [
    norm('ln1'),
    attention,
    leaf('gamma_1', 'LayerScale', inBlock('gamma_1')),
    norm('ln2'),
    mlp,
    leaf('gamma_2', 'LayerScale', inBlock('gamma_2')),
  ]);
  const normTokens = config.pooling === 'mean' ? 1 : tokens;
  return branch('model', `${config.imageSize.join('×')} pixels, ${tokens} tokens`, [
    leaf(
      'patch_embed',
      `${channels}×${patchSize}×${patchSize} → ${E}`,
      /^backbone\.patch_embed\./,
      patches * E * channels * patchSize * patchSize,
    ),
    leaf('cls_token', 'class token', /^backbone\.cls_token$/),
    leaf('pos_embed', 'absolute positions', /^backbone\.pos_embed$/),
    leaf('rel_pos_bias', 'table for all blocks', /^backbone\.rel_pos_bias\./),
    { ...block, name: 'layers', what: `each of ${depth} encoder blocks`, times: depth },
    leaf('final norm', `LayerNorm ${E}`, /^backbone\.ln[12]\./, NORM_FLOPS * normTokens * E),
    leaf('head', `${E} → ${classes}`, /^head\./),
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
