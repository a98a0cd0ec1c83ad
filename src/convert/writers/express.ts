/**
 * A model under another framework's names: what it can hold, what it needs besides, and what it has no place for.
 */
import { SHARED_TABLE, TABLE, tokenCount, type BeitConfig } from '../../beit.js';
import { LayoutError, UsageError, listNames, printable } from '../../errors.js';
import type { BeitModel } from '../../model.js';
import { splitRows, zeros } from '../../tensor-rows.js';
import { memoryTensor, readFloat64, type StateDict, type Tensor } from '../../tensor.js';
import { invertLayout, type Layout } from '../layout.js';
import { indexBytes } from '../relative-position.js';
import { isQkvBias, normName, obstacles, splitsBias, type Obstacle } from './obstacles.js';

export interface Expressed {
  readonly layout: Layout;
  /** everything to write, in the target's names and the model's order */
  readonly tensors: StateDict;
  /** canonical weights that the file holds; what was added to the model's own is among them */
  readonly weights: StateDict;
  /** index buffers among `tensors`, by canonical name */
  readonly buffers: StateDict;
  /** canonical names of what the model does not have and the layout cannot be without: zeros */
  readonly added: readonly string[];
  /** source names of what was left out on request */
  readonly dropped: readonly string[];
  /** one sentence per thing that is not in the source, or that a loader must be told */
  readonly notes: readonly string[];
}

/**
 * Put a model into a layout. Lazy: no weight is read, but for the biases of k that may not be left out unasked.
 *
 * @param drop names (the source's or canonical; a `*` stands for any part) of tensors to leave out
 * @throws LayoutError naming every tensor that the layout cannot express, and why; UsageError for a `drop` that names
 *   no tensor, or one that has a place
 */
export async function express(
  model: BeitModel,
  layout: Layout,
  drop: readonly string[] = [],
): Promise<Expressed> {
  const { config } = model;
  const keyBiases = splitsBias(layout) ? await nonzeroKeyBiases(model.tensors) : [];
  const found = obstacles(config, model.tensors, layout, keyBiases);
  const gone = leftOut(model, layout, found, drop);
  const notes = loaderNotes(model, layout);
  const dropped = [...gone].map((name) => nameIn(model, name) + (isQkvBias(name) ? ' (its part for k)' : ''));
  if (dropped.length > 0) {
    notes.push(`left out as asked: ${listNames(dropped)}`);
  }
  const weights = new Map<string, Tensor>();
  const buffers = new Map<string, Tensor>();
  const both = new Map<string, Tensor>();
  const index = layout.storesIndex ? indexTensor(config) : undefined;
  for (const [name, tensor] of model.tensors) {
    for (const [place, part] of placed(name, tensor, config, layout)) {
      if (gone.has(place)) continue;
      weights.set(place, part);
      both.set(place, part);
    }
    if (index && isTable(name)) {
      const buffer = name.replace('relative_position_bias_table', 'relative_position_index');
      buffers.set(buffer, index);
      both.set(buffer, index);
    }
  }
  const own = config.qvBias || config.qkvBias;
  const added = own ? [] : [...weights.keys()].filter((name) => /\.attn\.[qv]_bias$/.test(name));
  return { layout, tensors: invertLayout(layout, both), weights, buffers, added, dropped, notes };
}

/** A tensor as the layout's rules take it: nearly always itself. */
function placed(
  name: string,
  tensor: Tensor,
  config: BeitConfig,
  layout: Layout,
): readonly (readonly [string, Tensor])[] {
  if (splitsBias(layout) && isQkvBias(name)) {
    const [q, , v] = splitRows(tensor, 3);
    const at = name.slice(0, -'qkv.bias'.length);
    return [
      [`${at}q_bias`, q],
      [`${at}v_bias`, v],
    ];
  }
  const bare = !config.qvBias && !config.qkvBias && layout.name === 'transformers';
  if (bare && name.endsWith('.attn.qkv.weight')) return [[name, tensor], ...zeroBiases(name, tensor)];
  return [[normName(name, layout), tensor]];
}

async function nonzeroKeyBiases(tensors: StateDict): Promise<string[]> {
  const out: string[] = [];
  for (const [name, tensor] of tensors) {
    if (!isQkvBias(name)) continue;
    const values = await readFloat64(splitRows(tensor, 3)[1]);
    if (values.some((value) => value !== 0)) out.push(name);
  }
  return out;
}

function isTable(canonical: string): boolean {
  return canonical === SHARED_TABLE || canonical.endsWith(`.${TABLE}`);
}

/** The one index that all tables of a model share, in memory once. */
function indexTensor(config: BeitConfig): Tensor | undefined {
  if (!config.relativePosition && !config.sharedRelativePosition) return undefined;
  const tokens = tokenCount(config);
  return memoryTensor('I64', [tokens, tokens], indexBytes(config.window, 8));
}

/** transformers' query and value always have a bias; zeros compute the same. */
function zeroBiases(qkvWeight: string, { dtype, shape }: Tensor): [string, Tensor][] {
  const at = qkvWeight.slice(0, -'qkv.weight'.length);
  const zero = zeros({ dtype, shape: [shape[1]] });
  return [
    [`${at}q_bias`, zero],
    [`${at}v_bias`, zero],
  ];
}

/** Canonical names that are left out as asked; everything else that stands in the way is an error. */
function leftOut(
  model: BeitModel,
  layout: Layout,
  found: readonly Obstacle[],
  drop: readonly string[],
): Set<string> {
  const nameOf = (canonical: string): string => nameIn(model, canonical);
  const homeless = new Set(found.filter(({ droppable }) => droppable).flatMap(({ names }) => names));
  const gone = new Set<string>();
  for (const pattern of drop) {
    const fits = matcher(pattern);
    const meant = [...model.tensors.keys()].filter((name) => fits(name) || fits(nameOf(name)));
    if (meant.length === 0) {
      throw new UsageError(`--drop ${printable(pattern)}: the source has no tensor of that name`, {
        next: 'Names are those that convert-beit inspect shows; a * stands for any part of them.',
      });
    }
    const placeable = meant.filter((name) => !homeless.has(name));
    if (placeable.length > 0) {
      throw new UsageError(
        `--drop ${printable(pattern)}: ${layout.name} has a place for ${listNames(placeable.map(nameOf))}`,
        { next: 'Only what the target cannot express can be left out.' },
      );
    }
    for (const name of meant) gone.add(name);
  }
  const open = found
    .map((obstacle) => ({ ...obstacle, names: obstacle.names.filter((name) => !gone.has(name)) }))
    .filter(({ names }) => names.length > 0);
  if (open.length > 0) throw cannotExpress(model, layout, open);
  return gone;
}

function nameIn(model: BeitModel, canonical: string): string {
  return model.sourceNames.get(canonical) ?? canonical;
}

/** `*` stands for any part of a name, everything else for itself. */
function matcher(pattern: string): (name: string) => boolean {
  const literal = pattern.split('*').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  const expression = new RegExp(`^${literal.join('.*')}$`, 's');
  return (name) => expression.test(name);
}

function cannotExpress(model: BeitModel, layout: Layout, open: readonly Obstacle[]): LayoutError {
  const reasons = open.map(
    ({ names, why }) => `${listNames(names.map((name) => nameIn(model, name)))} (${why})`,
  );
  const droppable = open.every((obstacle) => obstacle.droppable);
  const options = dropOptions(
    model,
    open.flatMap(({ names }) => names),
  );
  return new LayoutError(`${layout.name} cannot express ${reasons.join(', ')}`, {
    next: droppable
      ? `Choose another --to, or leave it out: ${options}.`
      : 'Choose another --to, or convert to ONNX.',
  });
}

/** `--drop` for these canonical names, as short as a person would write it. */
function dropOptions(model: BeitModel, canonical: readonly string[]): string {
  const names = canonical.map((name) => nameIn(model, name));
  const every = new Set(names);
  const root = (name: string): string => /^[^.]*/.exec(name)![0];
  const others = new Set([...model.sourceNames.values()].filter((name) => !every.has(name)).map(root));
  const patterns = names.map((name) =>
    others.has(root(name)) ? name.replace(/\.\d+\./g, '.*.') : `${root(name)}*`,
  );
  const shown = names.length <= 2 ? names : [...new Set(patterns)];
  return shown
    .slice(0, 6)
    .map((name) => `--drop ${/[*\s]/.test(name) ? `'${printable(name)}'` : printable(name)}`)
    .join(' ');
}

/** What the target's own code must be told, because no tensor says it. */
function loaderNotes({ config, provenance }: BeitModel, layout: Layout): string[] {
  const notes: string[] = [];
  const { imageSize, window, patchSize } = config;
  const covered = [window[0] * patchSize, window[1] * patchSize];
  if (layout.name === 'transformers' && !config.qvBias && !config.qkvBias) {
    notes.push('query and value biases of zeros are added: transformers always has them');
  }
  if (config.kind === 'segmentation' && layout.name !== provenance.layout) {
    notes.push(
      'the official code feeds its pyramid with the tokens after block i of out_indices, transformers with those that enter block i - 1: the same weights segment differently',
    );
  }
  if (layout.name !== 'transformers' && config.layerNormEps !== 1e-6) {
    notes.push(
      `the source computes with a LayerNorm eps of ${config.layerNormEps}; ${layout.name} uses 1e-6 unless told`,
    );
  }
  if (layout.name === 'mmpretrain' && String(covered) !== String(imageSize)) {
    notes.push(
      `mmpretrain pads an image to whole patches; build its model with img_size ${covered.join('×')}, which these ${window.join('×')} patches cover`,
    );
  }
  if (
    layout.name === 'timm' &&
    window[0] !== window[1] &&
    (config.relativePosition || config.sharedRelativePosition)
  ) {
    notes.push(
      'timm’s checkpoint filter takes every window for a square one: load the file with load_state_dict instead',
    );
  }
  return notes;
}
