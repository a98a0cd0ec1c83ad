/**
 * Graphs that take images of any size: what may be asked for, how a file says so, and which sizes it is checked at.
 */
import type { BeitConfig } from './beit.js';
import { UsageError } from './errors.js';
import type { ResizeMethod } from './resizing.js';
import { taskOutputs, type Task, type TaskName } from './task.js';

/** Methods of resizing that ONNX has operators for: uniform grids, linear or cubic with a = -0.75. */
export const DYNAMIC_METHODS = ['transformers', 'timm-simple'] as const;
export type DynamicMethod = (typeof DYNAMIC_METHODS)[number];

const OBSTACLES: Readonly<Record<Exclude<ResizeMethod, DynamicMethod>, string>> = {
  unilm: 'its unevenly spaced spline is solved anew for every size, which no ONNX operator does',
  timm: 'its uneven spacing is searched for anew for every size, which no ONNX operator does',
  beit2: 'it leaves the positions alone at one size and moves all of them at every other',
};

/** Metadata key: the method that resizes positions inside the graph. */
export const DYNAMIC_KEY = 'convert_beit.dynamic_size';

export interface DynamicPort {
  readonly name: string;
  /** without the batch; a name is a size that depends on the image */
  readonly shape: readonly (number | string)[];
}

export function dynamicInput({ channels }: BeitConfig): DynamicPort {
  return { name: 'pixel_values', shape: [channels, 'height', 'width'] };
}

/** `taskOutputs` where the image decides. */
export function dynamicOutputs(config: BeitConfig, task: Task): readonly DynamicPort[] {
  return taskOutputs(config, task).map(({ name, shape }, i) => {
    const type = task.name === 'features' ? task.outputs[i].type : undefined;
    if (type === 'raw') return { name, shape: ['tokens', ...shape.slice(1)] };
    return { name, shape: type === 'featmap' ? [shape[0], 'rows', 'columns'] : shape };
  });
}

export interface DynamicRequest {
  readonly dynamicSize?: boolean;
  readonly resize?: ResizeMethod;
  readonly imageSize?: readonly [number, number];
  readonly patchSize?: number;
}

/**
 * What was asked for, as far as it does not depend on the checkpoint.
 *
 * @returns `undefined` for a graph of one size
 * @throws UsageError for what cannot be, naming what can
 */
export function dynamicMethod(request: DynamicRequest): DynamicMethod | undefined {
  if (!request.dynamicSize) return undefined;
  const method = request.resize ?? 'transformers';
  const known = DYNAMIC_METHODS.find((name) => name === method);
  if (!known) {
    throw new UsageError(
      `--dynamic-size cannot resize positions as ${method} does: ${OBSTACLES[method as keyof typeof OBSTACLES]}`,
      {
        next: `Use --dynamic-size with --resize transformers or --resize timm-simple, or --resize ${method} with --img-size.`,
      },
    );
  }
  if (request.imageSize || request.patchSize !== undefined) {
    throw new UsageError(
      `--dynamic-size takes images of every size: ${request.imageSize ? '--img-size' : '--patch-size'} would resize the model first`,
      {
        next: request.imageSize
          ? 'Use one of them.'
          : 'Use one of them, or write the weights with --patch-size first and convert those.',
      },
    );
  }
  return known;
}

/** @throws UsageError for a model or task that cannot have images of any size */
export function requireDynamic(config: BeitConfig, task: TaskName, method: DynamicMethod): void {
  if (task !== 'classify' && task !== 'features') {
    throw new UsageError(`--dynamic-size is for --task classify and features, not for --task ${task}`, {
      next: 'Use --img-size for another size.',
    });
  }
  const { window } = config;
  const positions = config.relativePosition || config.sharedRelativePosition || config.absolutePosition;
  if (method === 'timm-simple' && positions && window[0] !== window[1]) {
    throw new UsageError(
      `timm-simple takes every source for square; this model has ${window.join('×')} patches`,
      { next: 'Use --dynamic-size with --resize transformers.' },
    );
  }
}

/** What a file says of itself: a claim, which verification finds true or not. */
export function statedMethod(metadata: ReadonlyMap<string, string>): DynamicMethod | undefined {
  return DYNAMIC_METHODS.find((name) => name === metadata.get(DYNAMIC_KEY));
}

/** From here on larger images take the reference longer than anybody waits. */
const MANY_PATCHES = 1024;

/**
 * Image sizes besides its own that a file is checked at, `[height, width]` in pixels: smaller; wide, with pixels that no
 * patch covers; larger.
 */
export function otherSizes({ window, patchSize }: BeitConfig): (readonly [number, number])[] {
  const [rows, columns] = window;
  const half = (side: number): number => Math.ceil(side / 2);
  const change = rows * columns < MANY_PATCHES ? 2 : -2;
  const rest = patchSize - 1;
  const sizes = [
    [half(rows) * patchSize, half(columns) * patchSize],
    [half(rows) * patchSize + rest, (columns + 3) * patchSize + Math.floor(rest / 2)],
    [Math.max(1, rows + change) * patchSize, Math.max(1, columns + change) * patchSize],
  ] as const;
  return sizes.filter(([height, width]) => height !== rows * patchSize || width !== columns * patchSize);
}
