/**
 * Does the file hold exactly the tensors that its config needs? Missing, extra, misshapen: each is an error, in the
 * file's own names.
 */
import { inventory, isStatistic, type BeitConfig, type Kind } from '../beit.js';
import { dtype } from '../dtype.js';
import { FormatError, LayoutError, ShapeError, listNames, printable } from '../errors.js';
import { describeTensor, type Tensor } from '../tensor.js';
import { grouped } from './checkpoint.js';
import { sourceNameOf, type AppliedLayout } from './layout.js';

/** Several of a file's tensors may be one here; their names stand side by side. */
const LONGEST_NAME = 400;
const LAYER = /^(backbone\.layers\.)(\d+)(\..*)$/;
/** The tensor whose rows are the classes. */
const HEADS: ReadonlyMap<Kind, string> = new Map<Kind, string>([
  ['classification', 'head.fc.weight'],
  ['pre-training', 'head.cls_head.weight'],
  ['segmentation', 'decode_head.conv_seg.weight'],
]);
/** 128×128 patches: beyond it the position index alone takes gigabytes. */
const MAX_PATCHES = 16_384;

/**
 * Check a file's canonical tensors against a config, both ways.
 *
 * @returns the tensors in the inventory's order
 * @throws LayoutError for missing or extra tensors, ShapeError for shapes, FormatError for dtypes that aren't weights
 */
export function checkInventory(applied: AppliedLayout, config: BeitConfig): Map<string, Tensor> {
  checkSizes(applied, config);
  const nameOf = (canonical: string): string =>
    printable(
      applied.sourceNames.get(canonical) ?? sourceNameOf(applied.table, canonical, applied.prefix),
      LONGEST_NAME,
    );
  const needed = inventory(config);

  const missing = [...needed.keys()].filter((name) => !applied.tensors.has(name));
  if (missing.length > 0) throw missingTensors(missing, nameOf, needed.size);
  const extra = [...applied.tensors.keys()].filter((name) => !needed.has(name));
  if (extra.length > 0) throw extraTensors(extra, nameOf, config);

  const tensors = new Map<string, Tensor>();
  for (const [canonical, shape] of needed) {
    const tensor = applied.tensors.get(canonical)!;
    if (String(tensor.shape) !== String(shape)) throw wrongShape(applied, canonical, shape, config, nameOf);
    if (!dtype(tensor.dtype).weight && !isStatistic(canonical)) {
      throw new FormatError(
        `${nameOf(canonical)} is ${describeTensor(tensor)}, which is no floating-point weight`,
        {
          next: 'Weights may be F32, F16, BF16 or F64.',
        },
      );
    }
    tensors.set(canonical, tensor);
  }
  return tensors;
}

/** Shapes may have zeros, and a small table may promise an enormous window. */
function checkSizes({ table, prefix }: AppliedLayout, config: BeitConfig): void {
  const nameOf = (canonical: string): string => sourceNameOf(table, canonical, prefix);
  const head = HEADS.get(config.kind);
  if (head !== undefined && config.classes + config.vocabulary < 1)
    throw new ShapeError(`${nameOf(head)} has no rows: a model of 0 classes`);
  if (config.mlpSize < 1) {
    throw new ShapeError(
      `${nameOf('backbone.layers.0.ffn.layers.0.0.weight')} has no rows: an MLP of width 0`,
    );
  }
  const patches = config.window[0] * config.window[1];
  if (patches > MAX_PATCHES) {
    throw new LayoutError(
      `a window of ${config.window.join('×')} patches has ${grouped(patches)}; up to ${grouped(MAX_PATCHES)} are converted`,
    );
  }
}

function missingTensors(
  missing: readonly string[],
  nameOf: (canonical: string) => string,
  needed: number,
): LayoutError {
  const [first] = missing;
  const match = LAYER.exec(first);
  const counterpart =
    match && Number(match[2]) > 0 ? `. Block 0 has ${nameOf(`backbone.layers.0${match[3]}`)}` : '';
  return new LayoutError(
    missing.length === 1
      ? `${nameOf(first)} is missing; a model of this config needs it${counterpart}`
      : `${grouped(missing.length)} of ${grouped(needed)} tensors are missing: ${listNames(missing.map(nameOf))}${counterpart}`,
    { next: 'Get the whole checkpoint: it may be cut off, a part of a model, or stripped.' },
  );
}

function extraTensors(
  extra: readonly string[],
  nameOf: (canonical: string) => string,
  config: BeitConfig,
): LayoutError {
  const [first] = extra;
  const names = listNames(extra.map(nameOf));
  const verb = extra.length === 1 ? 'has no place' : 'have no place';
  const kind = /\.(layers|patch_aggregation)\.\d/.test(first) ? '' : `. This is a ${config.kind} model`;
  const match = LAYER.exec(first);
  const block =
    match && Number(match[2]) > 0 ? `. Block 0 has no ${nameOf(`backbone.layers.0${match[3]}`)}` : '';
  return new LayoutError(`${names} ${verb} in a model of this config${kind}${block}`, {
    next: 'Nothing is left out silently: get the original checkpoint, or remove what does not belong to it.',
  });
}

function wrongShape(
  applied: AppliedLayout,
  canonical: string,
  shape: readonly number[],
  config: BeitConfig,
  nameOf: (canonical: string) => string,
): ShapeError {
  const tensor = applied.tensors.get(canonical)!;
  const match = LAYER.exec(canonical);
  const layer = Number(match?.[2] ?? 0);
  const first = match && applied.tensors.get(`backbone.layers.0${match[3]}`);
  const mixed =
    layer > 0 && first && String(first.shape) === String(shape)
      ? `. Block 0 has ${traits(canonical, config)}: the file mixes two models`
      : isGated(canonical, tensor, config)
        ? '. A gated MLP (SwiGLU), as EVA-02 has: the file is no BEiT'
        : '';
  return new ShapeError(
    `${nameOf(canonical)} is ${describeTensor(tensor)}; this config (${traits(canonical, config)}) needs [${shape.join(', ')}]${mixed}`,
  );
}

/** fc1 makes value and gate side by side, fc2 takes only their product. */
function isGated(canonical: string, tensor: Tensor, config: BeitConfig): boolean {
  const [rows, columns] = tensor.shape;
  return (
    canonical.endsWith('.ffn.layers.1.weight') && rows === config.hiddenSize && 2 * columns === config.mlpSize
  );
}

/** The part of the config that decides a tensor's shape. */
function traits(canonical: string, config: BeitConfig): string {
  if (canonical.endsWith('relative_position_bias_table')) {
    return `window ${config.window.join('×')}, ${config.heads} heads`;
  }
  if (canonical === 'backbone.pos_embed')
    return `window ${config.window.join('×')}, dim ${config.hiddenSize}`;
  if (canonical.includes('.ffn.')) return `dim ${config.hiddenSize}, MLP ${config.mlpSize}`;
  if (canonical.startsWith('head.cls_')) {
    return `dim ${config.hiddenSize}, vocabulary ${config.vocabulary}`;
  }
  if (canonical.startsWith('head.')) return `dim ${config.hiddenSize}, ${config.classes} classes`;
  return `dim ${config.hiddenSize}`;
}
