/**
 * A config read off the shapes of canonical tensors, and held against what else is claimed.
 */
import { SHARED_TABLE, TABLE, tableRows, type BeitConfig, type Pooling } from './beit.js';
import { inferTraits, type Evidence, type KindHints } from './infer-kind.js';
import { LayoutError, ShapeError, listNames, printable } from './errors.js';
import { describeTensor, elementCount, type StateDict, type Tensor } from './tensor.js';

/** What the shapes cannot tell, or a person's claim that they must agree with. Names: transformers' BEiT config. */
export interface ConfigHints extends KindHints {
  /** where the claims come from, for messages */
  readonly origin?: string;
  readonly imageSize?: readonly [number, number];
  /** `false`: a class token that is there is left out (mmpretrain `with_cls_token`) */
  readonly classToken?: boolean;
  /** images are padded to whole patches (mmpretrain), not cut to them */
  readonly padsImages?: boolean;
  readonly patchSize?: number;
  readonly channels?: number;
  readonly hiddenSize?: number;
  readonly depth?: number;
  readonly heads?: number;
  readonly mlpSize?: number;
  readonly layerScale?: boolean;
  /** `false`: q and v biases that are there are all zero, because the layout cannot be without */
  readonly qkvBias?: boolean;
  readonly absolutePosition?: boolean;
  readonly relativePosition?: boolean;
  readonly sharedRelativePosition?: boolean;
  readonly pooling?: Pooling;
  readonly layerNormEps?: number;
}

export interface InferredConfig {
  readonly config: BeitConfig;
  /** One sentence per thing that was not read from a shape directly. */
  readonly notes: readonly string[];
}

const LAYER = /^backbone\.layers\.(0|[1-9]\d{0,5})\./;

/** Upstream's architectures by width (unilm `beit2/modeling_finetune.py`), for files without any position table. */
const HEADS_BY_WIDTH: ReadonlyMap<number, number> = new Map([
  [544, 16],
  [768, 12],
  [1024, 16],
  [1280, 16],
  [1408, 16],
]);

/**
 * Read the config off the canonical tensors' shapes.
 *
 * @param tensors canonical weights (index buffers apart)
 * @param hints   what shapes cannot tell; a hint that contradicts a shape is an error that names the tensor
 * @param indexWindow `[Wh, Ww]` as an index buffer in the file tells it, when there is one
 * @param nameOf what a canonical tensor is called in the file, for messages
 * @throws LayoutError when a needed tensor is missing or a hint contradicts; ShapeError when shapes disagree
 */
export function inferConfig(
  tensors: StateDict,
  hints: ConfigHints = {},
  indexWindow?: readonly [number, number],
  nameOf: (canonical: string) => string = (canonical) => canonical,
): InferredConfig {
  const notes: string[] = [];
  const origin = hints.origin ?? 'the given config';
  const need = (name: string, rank: number): Tensor => {
    const tensor = tensors.get(name);
    if (!tensor) {
      const who = name.startsWith('backbone.') ? 'every BEiT has it' : 'its kind of model has it';
      throw new LayoutError(`${nameOf(name)} is missing; ${who}`, {
        next: 'Run convert-beit inspect on the file to see what it holds.',
      });
    }
    if (tensor.shape.length !== rank) {
      throw new ShapeError(`${nameOf(name)} is ${describeTensor(tensor)}; it needs ${rank} dimensions`);
    }
    return tensor;
  };
  const agree: Evidence['agree'] = <T>(field: string, hint: T | undefined, found: T, subject: string): T => {
    if (hint !== undefined && String(hint) !== String(found)) {
      throw new LayoutError(
        `${subject} says ${field} is ${String(found)}; ${printable(origin)} says ${String(hint)}`,
        { next: 'Correct the config, or use the one that belongs to these weights.' },
      );
    }
    return found;
  };

  const evidence: Evidence = { tensors, nameOf, need, agree };

  const patch = need('backbone.patch_embed.projection.weight', 4);
  const patchName = `${nameOf('backbone.patch_embed.projection.weight')} ${describeTensor(patch)}`;
  const [hiddenSize, channels, patchHeight, patchWidth] = patch.shape;
  if (patchHeight !== patchWidth || elementCount(patch.shape) === 0) {
    throw new ShapeError(`${patchName} is not a square patch kernel [hidden, channels, patch, patch]`);
  }
  agree('hidden_size', hints.hiddenSize, hiddenSize, patchName);
  agree('num_channels', hints.channels, channels, patchName);
  const patchSize = agree('patch_size', hints.patchSize, patchHeight, patchName);

  const layers = new Set<number>();
  for (const name of tensors.keys()) {
    const match = LAYER.exec(name);
    if (match) layers.add(Number(match[1]));
  }
  const depth = layers.size;
  if (depth === 0)
    throw new LayoutError(
      `there is no transformer block (${nameOf('backbone.layers.0.attn.qkv.weight')}, …)`,
    );
  for (let layer = 0; layer < depth; layer++) {
    if (!layers.has(layer)) {
      throw new LayoutError(
        `block ${layer} is missing: the file has blocks ${listNames([...layers].sort((a, b) => a - b).map(String))}`,
      );
    }
  }
  agree('num_hidden_layers', hints.depth, depth, `the number of blocks (${depth})`);

  const fc1 = need('backbone.layers.0.ffn.layers.0.0.weight', 2);
  const mlpSize = agree(
    'intermediate_size',
    hints.mlpSize,
    fc1.shape[0],
    `${nameOf('backbone.layers.0.ffn.layers.0.0.weight')} ${describeTensor(fc1)}`,
  );
  const layerScale = tensors.has('backbone.layers.0.gamma_1');
  agree(
    'LayerScale',
    hints.layerScale,
    layerScale,
    `${nameOf('backbone.layers.0.gamma_1')} (${layerScale ? 'present' : 'absent'})`,
  );
  const qvBias = tensors.has('backbone.layers.0.attn.q_bias') || tensors.has('backbone.layers.0.attn.v_bias');
  const qkvBias = tensors.has('backbone.layers.0.attn.qkv.bias');
  if (qvBias && qkvBias) {
    const [one, other] = ['attn.q_bias', 'attn.qkv.bias'].map((name) => nameOf(`backbone.layers.0.${name}`));
    throw new LayoutError(`${one} and ${other} are both there; a block has one or the other`);
  }
  agree(
    'qkv_bias',
    hints.qkvBias,
    qvBias || qkvBias,
    `${nameOf(`backbone.layers.0.attn.${qkvBias ? 'qkv.bias' : 'q_bias'}`)} (${qvBias || qkvBias ? 'present' : 'absent'})`,
  );

  const absolute = tensors.get('backbone.pos_embed');
  agree(
    'use_absolute_position_embeddings',
    hints.absolutePosition,
    absolute !== undefined,
    `${nameOf('backbone.pos_embed')} (${absolute ? 'present' : 'absent'})`,
  );
  const layerTable = tensors.get(`backbone.layers.0.${TABLE}`);
  const sharedTable = tensors.get(SHARED_TABLE);
  agree(
    'use_relative_position_bias',
    hints.relativePosition,
    layerTable !== undefined,
    `${nameOf(`backbone.layers.0.${TABLE}`)} (${layerTable ? 'present' : 'absent'})`,
  );
  agree(
    'use_shared_relative_position_bias',
    hints.sharedRelativePosition,
    sharedTable !== undefined,
    `${nameOf(SHARED_TABLE)} (${sharedTable ? 'present' : 'absent'})`,
  );
  const table = layerTable ?? sharedTable;
  const tableName = nameOf(layerTable ? `backbone.layers.0.${TABLE}` : SHARED_TABLE);
  if (table && table.shape.length !== 2) {
    throw new ShapeError(`${tableName} is ${describeTensor(table)}; it needs [rows, heads]`);
  }

  const classToken = tensors.has('backbone.cls_token');
  if (table) need('backbone.cls_token', 3);

  const heads = inferHeads(hiddenSize, table, tableName, hints, agree, notes);
  const window = inferWindow({
    table,
    tableName,
    absolute,
    classToken,
    absoluteName: nameOf('backbone.pos_embed'),
    indexWindow,
    patchSize,
    hints,
    origin,
    notes,
  });
  const imageSize: readonly [number, number] = hints.imageSize ?? [
    window[0] * patchSize,
    window[1] * patchSize,
  ];

  const traits = inferTraits(evidence, hints, { hiddenSize, depth }, notes);
  if (traits.kind === 'classification') {
    const { pooling } = traits;
    agree(
      'use_mean_pooling',
      hints.pooling === undefined ? undefined : hints.pooling === 'mean',
      pooling === 'mean',
      nameOf(`backbone.${pooling === 'mean' ? 'ln2' : 'ln1'}.weight`),
    );
  }
  if (hints.layerNormEps !== undefined && hints.layerNormEps !== 1e-6) {
    notes.push(`layer_norm_eps ${hints.layerNormEps} from ${printable(origin)} (upstream uses 1e-6)`);
  }

  return {
    notes,
    config: {
      ...traits,
      imageSize,
      patchSize,
      window,
      channels,
      hiddenSize,
      depth,
      heads,
      mlpSize,
      classToken,
      layerScale,
      qvBias,
      qkvBias,
      absolutePosition: absolute !== undefined,
      relativePosition: layerTable !== undefined,
      sharedRelativePosition: sharedTable !== undefined,
      layerNormEps: hints.layerNormEps ?? 1e-6,
    },
  };
}

function inferHeads(
  hiddenSize: number,
  table: Tensor | undefined,
  tableName: string,
  hints: ConfigHints,
  agree: (field: string, hint: number | undefined, found: number, subject: string) => number,
  notes: string[],
): number {
  let heads: number;
  if (table) {
    heads = agree(
      'num_attention_heads',
      hints.heads,
      table.shape[1],
      `${tableName} ${describeTensor(table)}`,
    );
  } else if (hints.heads !== undefined) {
    heads = hints.heads;
  } else {
    const known = HEADS_BY_WIDTH.get(hiddenSize);
    if (known === undefined) {
      throw new LayoutError(
        `the number of heads cannot be read off: there is no position table, and no published BEiT is ${hiddenSize} wide`,
        { next: 'Give it: --config file.json with {"num_attention_heads": …}.' },
      );
    }
    heads = known;
    notes.push(
      `${heads} heads assumed: upstream's architecture of width ${hiddenSize}; no table in the file tells`,
    );
  }
  if (heads < 1 || hiddenSize % heads !== 0) {
    throw new ShapeError(`${heads} heads do not divide the width ${hiddenSize}`);
  }
  return heads;
}

function inferWindow(of: {
  table: Tensor | undefined;
  tableName: string;
  absolute: Tensor | undefined;
  classToken: boolean;
  absoluteName: string;
  indexWindow: readonly [number, number] | undefined;
  patchSize: number;
  hints: ConfigHints;
  origin: string;
  notes: string[];
}): readonly [number, number] {
  const { table, tableName, absolute, absoluteName, indexWindow, patchSize, hints } = of;
  const first = of.classToken ? 1 : 0;
  const patches = absolute ? absolute.shape[1] - first : undefined;
  const fits = ([h, w]: readonly [number, number]): boolean =>
    (!table || tableRows([h, w]) === table.shape[0]) && (patches === undefined || h * w === patches);

  if (hints.imageSize) {
    const whole = hints.padsImages ? Math.ceil : Math.floor;
    const given = hints.imageSize.map((side) => whole(side / patchSize)) as [number, number];
    if (given[0] < 1 || given[1] < 1) {
      throw new LayoutError(
        `an image of ${hints.imageSize.join('×')} has no whole patch of ${patchSize} pixels`,
      );
    }
    if (indexWindow && String(indexWindow) !== String(given)) {
      throw new LayoutError(
        `relative_position_index belongs to a window of ${indexWindow.join('×')} patches; ${printable(of.origin)} says image_size ${hints.imageSize.join('×')}, a window of ${given.join('×')}`,
      );
    }
    if (!fits(given)) {
      const subject = table && tableRows(given) !== table.shape[0] ? tableName : absoluteName;
      const tensor = subject === tableName ? table! : absolute!;
      const needed =
        subject === tableName ? `${tableRows(given)} rows` : `${given[0] * given[1] + first} tokens`;
      throw new LayoutError(
        `${subject} is ${describeTensor(tensor)}; ${printable(of.origin)} says image_size ${hints.imageSize.join('×')}, which needs ${needed}`,
        { next: 'Give the image size these weights were trained with.' },
      );
    }
    return given;
  }
  if (indexWindow) {
    if (!fits(indexWindow)) {
      throw new LayoutError(
        `relative_position_index belongs to a window of ${indexWindow.join('×')} patches, which does not fit ${table ? `${tableName} ${describeTensor(table)}` : absoluteName}`,
      );
    }
    return indexWindow;
  }
  const subject = table ? `${tableName} ${describeTensor(table)}` : absoluteName;
  const side = table
    ? (Math.sqrt(table.shape[0] - 3) + 1) / 2
    : patches !== undefined
      ? Math.sqrt(patches)
      : Number.NaN;
  if (!table && patches === undefined) {
    throw new LayoutError(
      'the image size cannot be read off: the file has no position table and no pos_embed',
      {
        next: 'Give it: --config file.json with {"image_size": [height, width]}.',
      },
    );
  }
  if (!Number.isInteger(side) || side < 1 || !fits([side, side])) {
    throw new LayoutError(`${subject} fits no square window, and no index buffer tells another`, {
      next: 'Give the image size: --config file.json with {"image_size": [height, width]}.',
    });
  }
  of.notes.push(`a square window of ${side}×${side} patches assumed: no index buffer in the file tells`);
  return [side, side];
}
