/**
 * The oracle's work, cut into tasks that any thread may do in any order: no task reads what another of its phase writes.
 */
import { PANEL, multiplyAdd, squaredMultiply } from './kernels.js';
import { gelu, geluSlope } from './erf.js';
import { GELU_ROUNDING, ROUND, UNIT, dotNoise, normRounding, normVariance } from './noise.js';
import { attentionTask } from './oracle-attention.js';
import {
  SLOPE_STEP,
  chunkRange,
  widest,
  type LinearPhase,
  type NormPhase,
  type OracleMemory,
  type Phase,
} from './oracle-memory.js';

export function taskCount(memory: OracleMemory, phase: Phase): number {
  const { batch, heads, normChunks, linearChunks } = memory.geometry;
  switch (phase.kind) {
    case 'norm':
      return batch * normChunks;
    case 'attention':
      return batch * heads;
    case 'linear':
      return Math.ceil(phase.rows / PANEL) * batch * linearChunks;
  }
}

export function runTask(memory: OracleMemory, phase: Phase, task: number): void {
  switch (phase.kind) {
    case 'norm':
      return normTask(memory, phase, task);
    case 'attention':
      return attentionTask(memory, phase, task);
    case 'linear':
      return linearTask(memory, phase, task);
  }
}

/** Take tasks until there are none left. */
export function runTasks(memory: OracleMemory, phase: Phase): void {
  const count = taskCount(memory, phase);
  for (let task = Atomics.add(memory.next, 0, 1); task < count; task = Atomics.add(memory.next, 0, 1)) {
    runTask(memory, phase, task);
  }
}

function normTask(memory: OracleMemory, { weight, bias, eps }: NormPhase, task: number): void {
  const { geometry, x, v, a, r, partial } = memory;
  const { tokens, width, normChunks } = geometry;
  const image = Math.floor(task / normChunks);
  const [from, to] = chunkRange(tokens, normChunks, task % normChunks);
  const sums = partial.subarray(task * (width + 1), (task + 1) * (width + 1));
  sums.fill(0);
  const common = r.subarray(image * width, (image + 1) * width);
  const kappa = dotNoise(width) * UNIT * UNIT + ROUND;

  for (let token = from; token < to; token++) {
    const at = (image * tokens + token) * width;
    let sum = 0;
    for (let c = 0; c < width; c++) sum += x[at + c];
    const mean = sum / width;
    let squares = 0;
    for (let c = 0; c < width; c++) squares += (x[at + c] - mean) ** 2;
    const variance = squares / width;
    const scale = 1 / Math.sqrt(variance + eps);

    let errors = 0;
    let errorsP = 0;
    let errorsPP = 0;
    for (let c = 0; c < width; c++) {
      const p = (x[at + c] - mean) * scale;
      const error = v[at + c] + common[c];
      a[at + c] = p * weight[c] + bias[c];
      errors += error;
      errorsP += error * p;
      errorsPP += error * p * p;
    }
    const rounding = normRounding(width, (variance + mean * mean) * scale * scale) * UNIT * UNIT;
    for (let c = 0; c < width; c++) {
      const p = (x[at + c] - mean) * scale;
      const y = a[at + c];
      const error = normVariance(v[at + c] + common[c], p, errors, errorsP, errorsPP, width);
      sums[c] += weight[c] * weight[c] * (error * scale * scale + rounding * p * p) + kappa * y * y;
    }
    sums[width] += errors;
  }
}

/** A panel of output channels for a chunk of an image's tokens. */
interface Patch {
  readonly image: number;
  readonly chunk: number;
  /** tokens of the image */
  readonly from: number;
  readonly to: number;
  /** output channels of the whole matrix */
  readonly first: number;
  readonly columns: number;
}

function linearTask(memory: OracleMemory, phase: LinearPhase, task: number): void {
  const { geometry } = memory;
  const { batch, tokens, linearChunks } = geometry;
  const { depth, outputs, firstRow, rows, bias } = phase;
  const row = Math.floor(task / (batch * linearChunks)) * PANEL;
  const image = Math.floor(task / linearChunks) % batch;
  const chunk = task % linearChunks;
  const [from, to] = chunkRange(tokens, linearChunks, chunk);
  const columns = Math.min(PANEL, rows - row);
  const first = firstRow + row;
  const slot = memory.slots[phase.slot];
  const weights = phase.weightBytes === 4 ? new Float32Array(slot) : new Float64Array(slot);

  const out = memory[phase.to];
  const token = image * tokens + from;
  const at = token * outputs + first;
  for (let t = 0; t < to - from; t++) {
    for (let n = 0; n < columns; n++) out[at + t * outputs + n] = bias ? bias[first + n] : 0;
  }
  multiplyAdd(
    { data: memory[phase.from], at: token * depth, stride: depth },
    { data: weights, at: row * depth, stride: depth },
    { data: out, at, stride: outputs },
    to - from,
    depth,
    columns,
  );
  if (chunk === 0) {
    const productAt = image * widest(geometry) + first;
    memory.product.fill(0, productAt, productAt + columns);
    squaredMultiply(
      weights,
      row * depth,
      columns,
      depth,
      memory.s,
      image * widest(geometry),
      memory.product,
      productAt,
    );
  }
  const patch = { image, chunk, from, to, first, columns };
  if (phase.then === 'gelu') activate(memory, phase, patch);
  if (phase.then === 'residual') join(memory, phase, patch);
}

/** GELU in place. Sums for the noise estimate to `partial[image, chunk, 2, outputs]`: slopes squared, roundings. */
function activate(memory: OracleMemory, { outputs }: LinearPhase, patch: Patch): void {
  const { geometry, partial, wide } = memory;
  const { tokens, linearChunks } = geometry;
  const kappa = dotNoise(outputs) * UNIT * UNIT + GELU_ROUNDING.result;
  const slopesAt = (patch.image * linearChunks + patch.chunk) * 2 * outputs + patch.first;
  const roundingsAt = slopesAt + outputs;
  partial.fill(0, slopesAt, slopesAt + patch.columns);
  partial.fill(0, roundingsAt, roundingsAt + patch.columns);
  for (let token = patch.from; token < patch.to; token++) {
    const at = (patch.image * tokens + token) * outputs + patch.first;
    const sampled = token % SLOPE_STEP === 0;
    for (let n = 0; n < patch.columns; n++) {
      const z = wide[at + n];
      const h = gelu(z);
      wide[at + n] = h;
      partial[roundingsAt + n] += GELU_ROUNDING.erf * z * z + kappa * h * h;
      if (sampled) {
        const slope = geluSlope(z, h);
        partial[slopesAt + n] += slope * slope;
        partial[roundingsAt + n] += SLOPE_STEP * 2 * ROUND * slope * slope * z * z;
      }
    }
  }
}

/** `x += gamma * o`, and the roundings of output, bias, gamma and sum into the element's own error variance. */
function join(memory: OracleMemory, { gamma, outputs }: LinearPhase, patch: Patch): void {
  const { x, v, o, geometry } = memory;
  const roundings = (gamma ? 3 : 2) * ROUND;
  for (let token = patch.from; token < patch.to; token++) {
    const at = (patch.image * geometry.tokens + token) * outputs;
    for (let n = patch.first; n < patch.first + patch.columns; n++) {
      const branch = (gamma ? gamma[n] : 1) * o[at + n];
      const sum = x[at + n] + branch;
      x[at + n] = sum;
      v[at + n] += roundings * branch * branch + ROUND * sum * sum;
    }
  }
}
