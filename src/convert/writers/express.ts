/**
 * A model under another framework's names: what it can hold, what it needs besides, and what it has no place for.
 */
import { SHARED_TABLE, TABLE, tokenCount, type BeitConfig } from '../../beit.js';
import { LayoutError, UsageError, listNames, printable } from '../../errors.js';
import type { BeitModel } from '../../model.js';
import { zeros } from '../../tensor-rows.js';
import { memoryTensor, type StateDict, type Tensor } from '../../tensor.js';
import { invertLayout, type Layout } from '../layout.js';
import { indexBytes } from '../relative-position.js';
import { obstacles, type Obstacle } from './obstacles.js';

export interface Expressed {
  readonly layout: Layout;
  /** everything to write, in the target's names and the model's order */
  readonly tensors: StateDict;
  /** canonical weights that the file holds; what was added to the model's own is among them */
  readonly weights: StateDict;
  /** index buffers among `tensors`, by canonical name */
  readonly buffers: StateDict;
  /** source names of what was left out on request */
  readonly dropped: readonly string[];
  /** one sentence per thing that is not in the source, or that a loader must be told */
  readonly notes: readonly string[];
}

/**
 * Put a model into a layout. Lazy: no weight is read.
 *
 * @param drop names (the source's or canonical; a `*` at the end stands for any rest) of tensors to leave out
 * @throws LayoutError naming every tensor that the layout cannot express, and why; UsageError for a `drop` that names
 *   no tensor, or one that has a place
 */
export function express(model: BeitModel, layout: Layout, drop: readonly string[] = []): Expressed {
  const { config } = model;
  const found = obstacles(config, model.tensors, layout);
  const { kept, dropped } = leaveOut(model, layout, found, drop);
  const notes = loaderNotes(config, layout);
  if (dropped.length > 0) {
    notes.push(`left out as asked: ${listNames(dropped)}; the file is not the whole model`);
  }
  const weights = new Map<string, Tensor>();
  const buffers = new Map<string, Tensor>();
  const both = new Map<string, Tensor>();
  const index = layout.storesIndex ? indexTensor(config) : undefined;
  for (const [name, tensor] of kept) {
    weights.set(name, tensor);
    both.set(name, tensor);
    if (index && isTable(name)) {
      const buffer = name.replace('relative_position_bias_table', 'relative_position_index');
      buffers.set(buffer, index);
      both.set(buffer, index);
    }
    if (layout.name === 'transformers' && !config.qvBias && name.endsWith('.attn.qkv.weight')) {
      for (const [bias, zero] of zeroBiases(name, tensor)) {
        weights.set(bias, zero);
        both.set(bias, zero);
      }
    }
  }
  return { layout, tensors: invertLayout(layout, both), weights, buffers, dropped, notes };
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

function leaveOut(
  model: BeitModel,
  layout: Layout,
  found: readonly Obstacle[],
  drop: readonly string[],
): { kept: StateDict; dropped: string[] } {
  const nameOf = (canonical: string): string => model.sourceNames.get(canonical) ?? canonical;
  const homeless = new Set(found.filter(({ droppable }) => droppable).flatMap(({ names }) => names));
  const gone = new Set<string>();
  for (const pattern of drop) {
    const fits = (name: string): boolean =>
      pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : name === pattern;
    const meant = [...model.tensors.keys()].filter((name) => fits(name) || fits(nameOf(name)));
    if (meant.length === 0) {
      throw new UsageError(`--drop ${printable(pattern)}: the source has no tensor of that name`, {
        next: 'Names are those that convert-beit inspect shows; a * at the end stands for any rest.',
      });
    }
    const placed = meant.filter((name) => !homeless.has(name));
    if (placed.length > 0) {
      throw new UsageError(
        `--drop ${printable(pattern)}: ${layout.name} has a place for ${listNames(placed.map(nameOf))}`,
        { next: 'Only what the target cannot express can be left out.' },
      );
    }
    for (const name of meant) gone.add(name);
  }
  const open = found
    .map((obstacle) => ({ ...obstacle, names: obstacle.names.filter((name) => !gone.has(name)) }))
    .filter(({ names }) => names.length > 0);
  if (open.length > 0) throw cannotExpress(layout, open, nameOf);
  return {
    kept: new Map([...model.tensors].filter(([name]) => !gone.has(name))),
    dropped: [...gone].map(nameOf),
  };
}

function cannotExpress(
  layout: Layout,
  open: readonly Obstacle[],
  nameOf: (canonical: string) => string,
): LayoutError {
  const reasons = open.map(({ names, why }) => `${listNames(names.map(nameOf))} (${why})`);
  const droppable = open.every((obstacle) => obstacle.droppable);
  return new LayoutError(`${layout.name} cannot express ${reasons.join(', ')}`, {
    next: droppable
      ? `Choose another --to, or leave them out: ${dropOptions(open.flatMap(({ names }) => names.map(nameOf)))}.`
      : 'Choose another --to, or convert to ONNX.',
  });
}

/** `--drop` for these names, as short as a person would write it. */
function dropOptions(names: readonly string[]): string {
  const shown = names.length <= 3 ? names : [...new Set(names.map((name) => `${/^[^.]*/.exec(name)![0]}*`))];
  return shown
    .slice(0, 6)
    .map((name) => `--drop ${/[*\s]/.test(name) ? `'${printable(name)}'` : printable(name)}`)
    .join(' ');
}

/** What the target's own code must be told, because no tensor says it. */
function loaderNotes(config: BeitConfig, layout: Layout): string[] {
  const notes: string[] = [];
  const { imageSize, window, patchSize } = config;
  const covered = [window[0] * patchSize, window[1] * patchSize];
  if (layout.name === 'transformers' && !config.qvBias) {
    notes.push('query and value biases of zeros are added: transformers always has them');
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
