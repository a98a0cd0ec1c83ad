/**
 * A model at another image or patch size: the tensors that depend on it are computed when somebody pulls them.
 */
import type { BeitConfig } from '../../beit.js';
import { ShapeError } from '../../errors.js';
import { officialPreprocessing, type Preprocessing } from '../../image.js';
import { padsImages, type BeitModel } from '../../model.js';
import { DEFAULT_RESIZE_METHOD, type ResizeRequest } from '../../resizing.js';
import { bytesOf, describeTensor, elementCount, readFloat64, type Tensor } from '../../tensor.js';
import { resample, type AxisMap, type AxisRule } from './axis.js';
import { resizeKernels } from './kernel.js';
import { requireMethod, type Method } from './methods.js';
import { remainder, resizedConfig } from './sizes.js';

const TABLE = '.relative_position_bias_table';
const POSITIONS = 'backbone.pos_embed';
const KERNEL = 'backbone.patch_embed.projection.weight';
const INDEX = 'relative_position_index';

type Window = readonly [number, number];

/**
 * The same network for another image or patch size. All arithmetic is float64; results are float32, as every upstream
 * stores them (float64 where the source is).
 *
 * @returns the model itself when its size is the wanted one; else one whose resized tensors are `derived` and whose
 *   index buffers of the old window are left out
 * @throws UsageError for a size that is none, or that the method cannot do (it names those that can)
 * @see `methods.ts` for whose arithmetic it is; docs/decisions/0007-resizing.md
 */
export function resizeModel(model: BeitModel, request: ResizeRequest): BeitModel {
  const { config } = model;
  const method = request.method ?? DEFAULT_RESIZE_METHOD;
  const to = resizedConfig(config, request, padsImages(model.provenance.layout));
  if (to === config) {
    const size = `${config.imageSize.join('×')} with patches of ${config.patchSize}`;
    return { ...model, notes: [...model.notes, `the image size is ${size} already: nothing is resized`] };
  }
  const windows = { from: config.window, to: to.window };
  const moved = String(windows.from) !== String(windows.to);
  const names = [...model.tensors.keys()];
  const rule = remembering(
    requireMethod(method, {
      ...windows,
      tables: moved && names.some((name) => name.endsWith(TABLE)),
      positions: moved && names.includes(POSITIONS),
    }),
  );

  const tensors = new Map(model.tensors);
  const derived = new Map(model.derived);
  for (const [name, tensor] of model.tensors) {
    const made = resizedTensor(name, tensor, rule, config, to);
    if (!made) continue;
    tensors.set(name, made);
    const how =
      name === KERNEL
        ? `resized from ${square(config.patchSize)} to ${square(to.patchSize)} pixels (timm)`
        : `resized from ${windows.from.join('×')} to ${windows.to.join('×')} patches (${method})`;
    derived.set(name, how);
  }
  const { imageSize, patchSize, window } = config;
  return {
    ...model,
    config: to,
    tensors,
    derived,
    resized: { method, from: { imageSize, patchSize, window } },
    buffers: moved ? new Map([...model.buffers].filter(([name]) => !name.endsWith(INDEX))) : model.buffers,
    preprocessing: preprocessingAt(model.preprocessing, config, to),
    notes: [...model.notes, ...notes(model, to, method, rule)],
  };
}

/** @returns `undefined` for tensors that do not depend on the size */
function resizedTensor(
  name: string,
  tensor: Tensor,
  rule: Method,
  from: BeitConfig,
  to: BeitConfig,
): Tensor | undefined {
  if (name === KERNEL) {
    if (from.patchSize === to.patchSize) return undefined;
    const shape = [...tensor.shape.slice(0, 2), to.patchSize, to.patchSize];
    return computed(tensor, shape, (kernels) => resizeKernels(kernels, from.patchSize, to.patchSize));
  }
  if (String(from.window) === String(to.window)) return undefined;
  if (name.endsWith(TABLE)) {
    const offsets = ([height, width]: Window): Window => [2 * height - 1, 2 * width - 1];
    const grids = { from: offsets(from.window), to: offsets(to.window) };
    const [rows, heads] = tensor.shape;
    const kept = rows - elementCount(grids.from);
    if (kept < 0) throw misfit(name, tensor, from.window);
    const shape = [elementCount(grids.to) + kept, heads];
    // The last rows (class token to patch, patch to class token, class token to itself) have no place on the grid.
    return computed(tensor, shape, (values) => {
      const end = values.length - kept * heads;
      return [
        resizeGrid(values.subarray(0, end), grids.from, grids.to, heads, rule.table!),
        values.subarray(end),
      ];
    });
  }
  if (name !== POSITIONS) return undefined;
  const width = tensor.shape[2];
  const kept = tensor.shape[1] - elementCount(from.window);
  if (kept < 0) throw misfit(name, tensor, from.window);
  const shape = [1, kept + elementCount(to.window), width];
  // The class token's position comes first.
  return computed(tensor, shape, (values) => [
    values.subarray(0, kept * width),
    resizeGrid(values.subarray(kept * width), from.window, to.window, width, rule.position),
  ]);
}

/**
 * Resize a grid of vectors with a method's rule.
 *
 * @param values `[from[0], from[1], channels]` row-major
 * @returns      `[to[0], to[1], channels]`
 */
export function resizeGrid(
  values: Float64Array,
  from: Window,
  to: Window,
  channels: number,
  rule: AxisRule,
): Float64Array {
  const down = rule(from[0], to[0]);
  const across = from[0] === from[1] && to[0] === to[1] ? down : rule(from[1], to[1]);
  return resample(values, channels, down, across);
}

/** Every layer is resized with the same matrices. */
function remembering({ table, position, ...method }: Method): Method {
  const once = (rule: AxisRule): AxisRule => {
    const made = new Map<string, AxisMap>();
    return (from, to) => {
      const key = `${from} ${to}`;
      const map = made.get(key) ?? rule(from, to);
      made.set(key, map);
      return map;
    };
  };
  return { ...method, position: once(position), ...(table && { table: once(table) }) };
}

/** Values that exist when they are pulled, and are the same every time. */
function computed(
  source: Tensor,
  shape: readonly number[],
  compute: (values: Float64Array) => Iterable<Float64Array>,
): Tensor {
  const double = source.dtype === 'F64';
  return {
    dtype: double ? 'F64' : 'F32',
    shape,
    async *chunks() {
      for (const part of compute(await readFloat64(source))) {
        if (part.length > 0) yield bytesOf(double ? part : Float32Array.from(part));
      }
    },
  };
}

function misfit(name: string, tensor: Tensor, window: Window): ShapeError {
  return new ShapeError(
    `${name} is ${describeTensor(tensor)}, which is too small for ${window.join('×')} patches`,
  );
}

/** Official rule for the new size (short side, crop); filter, mean and std stay the model's own. */
function preprocessingAt(before: Preprocessing, from: BeitConfig, to: BeitConfig): Preprocessing {
  if (String(from.imageSize) === String(to.imageSize)) return before;
  const size = to.imageSize.join('×');
  const official = officialPreprocessing(1, to.imageSize, '');
  return {
    ...before,
    // Who squeezes the whole picture into the input does so at every size.
    resize: typeof before.resize === 'number' ? official.resize : to.imageSize,
    crop: to.imageSize,
    origin: `${before.origin}, brought to ${size}`,
  };
}

function notes(model: BeitModel, to: BeitConfig, method: string, { what }: Method): string[] {
  const { config } = model;
  const out: string[] = [];
  if (String(config.window) !== String(to.window)) {
    const windows = `from ${config.window.join('×')} to ${to.window.join('×')} patches`;
    const { relativePosition, sharedRelativePosition, absolutePosition } = config;
    out.push(
      relativePosition || sharedRelativePosition || absolutePosition
        ? `positions resized ${windows} (${method}: ${what})`
        : `${windows}: this model has no positions to resize`,
    );
  }
  if (config.patchSize !== to.patchSize) {
    out.push(
      `patch kernels resized from ${square(config.patchSize)} to ${square(to.patchSize)} pixels (timm's pseudo-inverse, whatever the method)`,
    );
  }
  if (method === 'transformers' && config.window[0] !== config.window[1]) {
    out.push(
      'transformers itself takes the positions of a non-square model for others; here they are read as they are',
    );
  }
  out.push('a resized model is where fine-tuning begins: published accuracies belong to the original size');
  const lost = remainder(to);
  if (lost !== undefined) out.push(lost);
  return out;
}

function square(side: number): string {
  return `${side}×${side}`;
}
