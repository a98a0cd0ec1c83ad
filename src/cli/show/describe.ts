/**
 * One line each for the things both a conversion and an inspection talk about.
 */
import type { BeitConfig, Kind } from '../../beit.js';
import { formatBytes } from '../../bytes.js';
import { printable } from '../../errors.js';
import type { Preprocessing } from '../../preprocessing.js';
import type { LabelsSummary, PortSummary } from '../../pipeline.js';
import { formatCount, formatInteger } from '../text.js';

/** Upstream's architectures (unilm `beit/modeling_finetune.py`) by width, depth, heads. */
const ARCHITECTURES: ReadonlyMap<string, string> = new Map([
  ['768 12 12', 'base'],
  ['1024 24 16', 'large'],
]);

/** `base, 224×224, patch 16, 12 blocks × 768, 12 heads, 1,000 classes`. */
export function describeConfig(config: BeitConfig): string {
  const architecture = ARCHITECTURES.get(`${config.hiddenSize} ${config.depth} ${config.heads}`);
  return [
    ...(architecture === undefined ? [] : [architecture]),
    config.imageSize.join('×'),
    `patch ${config.patchSize}`,
    plural(config.depth, 'block') + ` × ${config.hiddenSize}`,
    plural(config.heads, 'head'),
    ...(config.classes > 0 ? [plural(config.classes, 'class', 'classes')] : []),
    ...(config.vocabulary > 0 ? [plural(config.vocabulary, 'visual word')] : []),
    ...(config.channels === 3 ? [] : [plural(config.channels, 'channel')]),
  ].join(', ');
}

const KINDS: Readonly<Record<Kind, string>> = {
  classification: 'classifier',
  'pre-training': 'pre-training model (masked image modelling)',
  backbone: 'backbone without a head',
  segmentation: 'semantic segmentation model',
};

/** `pre-training model (masked image modelling), second output of 2 blocks after block 9 with the same head`. */
export function describeKind(kind: Kind, config: BeitConfig | undefined): string {
  const { clsPretraining: second, segmentation, maskToken = false } = config ?? {};
  return [
    KINDS[kind],
    ...(second
      ? [
          `second output of ${plural(second.layers, 'block')} on the patches after block ${second.earlyLayer}, ${second.sharedHead ? 'the same head' : 'a head of its own'}`,
        ]
      : []),
    ...(segmentation
      ? [segmentation.auxiliaryChannels > 0 ? 'with an auxiliary head' : 'without an auxiliary head']
      : []),
    ...(maskToken && kind !== 'pre-training' ? ['with a mask token (unused)'] : []),
  ].join(', ');
}

/** What is particular about the blocks: positions, LayerScale, q/v bias, pooling, eps. */
export function describeBlocks(config: BeitConfig): string {
  const positions = [
    ...(config.absolutePosition ? ['absolute positions'] : []),
    ...(config.relativePosition ? ['a relative position table per block'] : []),
    ...(config.sharedRelativePosition ? ['one relative position table for all blocks'] : []),
  ];
  return [
    positions.length > 0 ? positions.join(' and ') : 'no positions',
    config.layerScale ? 'LayerScale' : 'no LayerScale',
    config.qkvBias ? 'q, k and v bias' : config.qvBias ? 'q and v bias' : 'no q and v bias',
    `MLP ${config.mlpSize}`,
    ...(config.classToken ? [] : ['no class token']),
    describePooling(config),
    `eps ${formatEps(config.layerNormEps)}`,
  ].join(', ');
}

function describePooling({ kind, pooling, tokenNorm, pooledNorm }: BeitConfig): string {
  if (kind === 'segmentation') return 'no final norm';
  if (kind === 'pre-training') return 'norm of all tokens';
  if (tokenNorm && pooledNorm) return 'norm of all tokens, mean pooling, norm';
  if (!tokenNorm && !pooledNorm) return 'no final norm';
  return pooling === 'mean' ? 'mean pooling' : 'class token pooling';
}

/** `1e-6`, as configs and papers write it. */
function formatEps(eps: number): string {
  return eps.toExponential().replace('e+', 'e');
}

export function describePreprocessing(preprocessing: Preprocessing): string {
  const { resize, crop, interpolation, mean, std, origin } = preprocessing;
  const size = typeof resize === 'number' ? `short side to ${resize}` : `to ${resize.join('×')}`;
  return `resize ${size} (${interpolation}), crop ${crop.join('×')}, mean ${mean.join(' ')}, std ${std.join(' ')} (${printable(origin)})`;
}

/** `1,000 class names: imagenet-1k, hf:…`. */
export function describeLabels({ count, origin }: Pick<LabelsSummary, 'count' | 'origin'>): string {
  return `${plural(count, 'class name')}: ${printable(origin, 300)}`;
}

export function describeCost(cost: { readonly parameters: number; readonly flops: number }): string {
  return `${formatCount(cost.parameters)} parameters, ${formatCount(cost.flops)} FLOPs`;
}

export function describeCostExactly(cost: { readonly parameters: number; readonly flops: number }): string {
  return `${formatInteger(cost.parameters)} parameters, ${formatInteger(cost.flops)} FLOPs`;
}

/** `BEiT v1 (catalog row …)`, or that nothing tells. */
export function describeVersion(version: 1 | 2 | undefined, evidence: string): string {
  const subject = version === undefined ? 'BEiT v1 or v2' : `BEiT v${version}`;
  return evidence === '' ? subject : `${subject}: ${printable(evidence, 300)}`;
}

/** `pixel_values f32[batch, 3, 224, 224]`. */
export function describePort(port: PortSummary): string {
  const type = port.dtype.replace('float', 'f');
  return `${printable(port.name)} ${type}[${port.shape.map((side) => printable(String(side))).join(', ')}]`;
}

/** `model.safetensors, 346.2 MB`. */
export function describeFile(name: string, bytes: number): string {
  return `${printable(name, 200)}, ${formatBytes(bytes)}`;
}

function plural(count: number, one: string, many = `${one}s`): string {
  return `${formatInteger(count)} ${count === 1 ? one : many}`;
}
