/**
 * What a graph's outputs must be, by the float64 reference, and how far float32 arithmetic may be expected to be from
 * it. Formulas are upstream's; nothing of the graph builder is used.
 *
 * The noise of an output follows from the noise of the hidden state it is made of (noise.ts), by what is done to it
 * since: a LayerNorm divides by the token's spread and multiplies by its weight, a matrix multiplies by the norm of its
 * rows. Errors that would average out are not counted on.
 */
import { tokenCount, type BeitConfig } from '../beit.js';
import { ConvertBeitError } from '../errors.js';
import type { FeatureOutput, Task } from '../task.js';
import { readFloat64, type StateDict } from '../tensor.js';
import { UNIT } from './noise.js';
import type { OracleResult } from './oracle.js';
import { runOracle } from './oracle.js';
import type { OracleOptions } from './oracle-types.js';
import { needTensor } from './oracle-vectors.js';
import { segmentAt, type Positions } from './oracle-segment.js';

export interface ExpectedOutput {
  readonly name: string;
  /** row-major, of all images */
  readonly values: Float64Array;
  /** of one image, without the batch */
  readonly shape: readonly number[];
  /** expected rms float32 error of one element */
  readonly noise: number;
  /** `[classes]` at these places only, where the whole would take minutes */
  readonly positions?: Positions;
}

export interface ExpectedInput {
  readonly pixels: Float32Array;
  readonly batch: number;
  /** `[batch, N]`, 1 = hidden */
  readonly mask?: Uint8Array;
}

interface Model {
  readonly config: BeitConfig;
  readonly tensors: StateDict;
}

interface Tokens {
  /** `[batch, T, E]` */
  readonly values: Float64Array;
  readonly noise: number;
}

export async function expectOutputs(
  model: Model,
  task: Task,
  input: ExpectedInput,
  options: OracleOptions = {},
): Promise<readonly ExpectedOutput[]> {
  const result = await runOracle(model, input.pixels, input.batch, {
    ...options,
    mask: input.mask,
    hidden: task.name !== 'classify',
    headless: task.name !== 'classify',
  });
  return await outputsOf(model, task, result, input.batch);
}

/** @param result with the hidden states, unless the task is a classifier's */
export async function outputsOf(
  model: Model,
  task: Task,
  result: OracleResult,
  batch: number,
): Promise<readonly ExpectedOutput[]> {
  switch (task.name) {
    case 'classify': {
      const noise = Math.max(...result.noise.logits);
      return [{ name: 'logits', values: result.logits, shape: [model.config.classes], noise }];
    }
    case 'features':
      return await Promise.all(task.outputs.map((output) => feature(model, output, result, batch)));
    case 'masked-image':
      return await maskedLogits(model, result, batch);
    case 'segment': {
      const { values, shape, positions, relativeNoise } = await segmentAt(model, task, result, batch);
      return [{ name: 'logits', values, shape, positions, noise: relativeNoise * rms(values) }];
    }
  }
}

function stateOf(result: OracleResult, depth: number): Tokens {
  return { values: result.hidden![depth], noise: result.noise.hidden[depth] };
}

async function feature(
  model: Model,
  { name, layer, type, finalNorm }: FeatureOutput,
  result: OracleResult,
  batch: number,
): Promise<ExpectedOutput> {
  const { config } = model;
  const { hiddenSize: E, window } = config;
  const T = tokenCount(config);
  const first = config.classToken ? 1 : 0;
  const state = stateOf(result, layer + 1);
  const tokens = finalNorm ? await layerNorm(model, state, 'backbone.ln1') : state;
  const pick = (count: number, from: (image: number, i: number) => number): Float64Array => {
    const out = new Float64Array(batch * count);
    for (let image = 0; image < batch; image++) {
      for (let i = 0; i < count; i++) out[image * count + i] = tokens.values[image * T * E + from(image, i)];
    }
    return out;
  };
  const N = T - first;
  switch (type) {
    case 'raw':
      return { name, ...tokens, shape: [T, E] };
    case 'cls_token':
      return { name, values: pick(E, (_, i) => i), noise: tokens.noise, shape: [E] };
    case 'featmap':
      return {
        name,
        values: pick(E * N, (_, i) => ((i % N) + first) * E + Math.floor(i / N)),
        noise: tokens.noise,
        shape: [E, ...window],
      };
    case 'avg_featmap': {
      const values = new Float64Array(batch * E);
      for (let image = 0; image < batch; image++) {
        for (let token = first; token < T; token++) {
          for (let c = 0; c < E; c++) {
            values[image * E + c] += tokens.values[(image * T + token) * E + c] / N;
          }
        }
      }
      return {
        name,
        ...(await layerNorm(model, { values, noise: tokens.noise }, 'backbone.ln2')),
        shape: [E],
      };
    }
  }
}

async function maskedLogits(model: Model, result: OracleResult, batch: number): Promise<ExpectedOutput[]> {
  const { config } = model;
  const second = config.clsPretraining;
  const norm = second ? 'neck.norm' : 'backbone.ln1';
  const outputs = [await logitsOf('logits', stateOf(result, config.depth), norm, 'head.cls_head')];
  if (second) {
    if (!result.second) throw new ConvertBeitError('the reference gave no second output');
    const tokens = { values: result.second, noise: result.noise.hidden.at(-1)! };
    const own = !second.sharedHead;
    outputs.push(
      await logitsOf(
        'logits_cls_pt',
        tokens,
        own ? 'neck.cls_pt_norm' : norm,
        own ? 'head.cls_pt_head' : 'head.cls_head',
      ),
    );
  }
  return outputs;

  async function logitsOf(
    name: string,
    tokens: Tokens,
    normName: string,
    head: string,
  ): Promise<ExpectedOutput> {
    const { hiddenSize: E, vocabulary: V } = config;
    const T = tokenCount(config);
    const normed = await layerNorm(model, tokens, normName);
    const matrix = await readFloat64(needTensor(model.tensors, `${head}.weight`));
    const bias = await readFloat64(needTensor(model.tensors, `${head}.bias`));
    const values = new Float64Array(batch * (T - 1) * V);
    let out = 0;
    for (let row = 0; row < batch * T; row++) {
      if (row % T === 0) continue;
      for (let v = 0; v < V; v++) {
        let sum = bias[v];
        for (let c = 0; c < E; c++) sum += matrix[v * E + c] * normed.values[row * E + c];
        values[out++] = sum;
      }
    }
    const gain = rms(matrix) * Math.sqrt(E);
    // The product's own rounding, one half unit an addition, besides what its input brings.
    const noise = Math.hypot(gain * normed.noise, UNIT * gain * rms(normed.values) * Math.sqrt(Math.log2(E)));
    return { name, values, noise, shape: [T - 1, V] };
  }
}

async function layerNorm(model: Model, { values, noise }: Tokens, name: string): Promise<Tokens> {
  const { config, tensors } = model;
  const weight = await readFloat64(needTensor(tensors, `${name}.weight`));
  const bias = await readFloat64(needTensor(tensors, `${name}.bias`));
  const E = config.hiddenSize;
  const out = new Float64Array(values.length);
  let gains = 0;
  for (let at = 0; at < values.length; at += E) {
    let mean = 0;
    for (let c = 0; c < E; c++) mean += values[at + c] / E;
    let variance = 0;
    for (let c = 0; c < E; c++) variance += (values[at + c] - mean) ** 2 / E;
    const scale = 1 / Math.sqrt(variance + config.layerNormEps);
    for (let c = 0; c < E; c++) out[at + c] = (values[at + c] - mean) * scale * weight[c] + bias[c];
    gains += scale ** 2;
  }
  const gain = Math.sqrt((gains * E) / values.length) * rms(weight);
  return { values: out, noise: Math.hypot(gain * noise, 2 * UNIT * rms(out)) };
}

function rms(values: Float64Array): number {
  let sum = 0;
  for (const value of values) sum += value * value;
  return Math.sqrt(sum / values.length);
}
