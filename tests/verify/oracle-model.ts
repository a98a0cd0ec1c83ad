/** Seeded models for the oracle, of any size, and what the tests compare with. */
import { inventory, type BeitConfig } from '../../src/beit.js';
import type { DtypeName } from '../../src/dtype.js';
import { bytesOf, elementCount, memoryTensor, type StateDict, type Tensor } from '../../src/tensor.js';

/** Standard normal numbers, the same for the same seed on every machine. */
export function gaussian(seed: number): () => number {
  let state = seed >>> 0;
  const uniform = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
  return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}

export const SMALL: BeitConfig = {
  imageSize: [20, 29],
  patchSize: 4,
  window: [5, 7],
  channels: 3,
  hiddenSize: 96,
  depth: 2,
  heads: 3,
  mlpSize: 201,
  kind: 'classification',
  classes: 11,
  vocabulary: 0,
  classToken: true,
  maskToken: false,
  layerScale: true,
  qvBias: true,
  qkvBias: false,
  absolutePosition: true,
  relativePosition: true,
  sharedRelativePosition: true,
  pooling: 'mean',
  tokenNorm: false,
  pooledNorm: true,
  layerNormEps: 1e-6,
};

/** float32 values for every tensor of the config, stored as `dtype` (F32, or the same values widened to F64). */
export function randomModel(
  config: BeitConfig,
  dtype: 'F32' | 'F64' = 'F32',
): { config: BeitConfig; tensors: StateDict } {
  const next = gaussian(7);
  const tensors = new Map<string, Tensor>();
  for (const [name, shape] of inventory(config)) {
    const around = /(ln\d|gamma_\d)\.?(weight)?$/.test(name) ? 1 : 0;
    const scale = shape.length > 1 ? 1 / Math.sqrt(elementCount(shape.slice(1))) : 0.3;
    const values = Float32Array.from({ length: elementCount(shape) }, () => around + scale * next());
    tensors.set(name, tensorOf(dtype, shape, dtype === 'F32' ? values : Float64Array.from(values)));
  }
  return { config, tensors };
}

export function tensorOf(dtype: DtypeName, shape: readonly number[], values: ArrayBufferView): Tensor {
  return memoryTensor(dtype, shape, bytesOf(values));
}

export function randomInput(config: BeitConfig, batch: number): Float32Array {
  const next = gaussian(99);
  const { channels, imageSize } = config;
  return Float32Array.from({ length: batch * channels * imageSize[0] * imageSize[1] }, () => next());
}

export function rms(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i] ** 2;
  return Math.sqrt(sum / values.length);
}

export function difference(a: ArrayLike<number>, b: ArrayLike<number>): Float64Array {
  if (a.length !== b.length) throw new RangeError(`${a.length} and ${b.length} values`);
  return Float64Array.from(a, (value, i) => value - b[i]);
}

export function largest(values: ArrayLike<number>): number {
  let most = 0;
  // NaN must not disappear in a comparison.
  for (let i = 0; i < values.length; i++) most = values[i] === 0 ? most : Math.max(most, Math.abs(values[i]));
  return most;
}

let running = 0;
process.on('worker', (worker) => {
  running += 1;
  worker.once('exit', () => (running -= 1));
});

/** Worker threads started since this module was loaded that have not ended. */
export function runningWorkers(): number {
  return running;
}
