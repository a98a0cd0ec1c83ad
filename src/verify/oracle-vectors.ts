/**
 * Everything of a model that is no matrix, in float64.
 */
import type { BeitConfig } from '../beit.js';
import { LayoutError } from '../errors.js';
import { readFloat64, type StateDict, type Tensor } from '../tensor.js';

export function needTensor(tensors: StateDict, name: string): Tensor {
  const tensor = tensors.get(name);
  if (!tensor) throw new LayoutError(`${name} is missing; a model of this config has it`);
  return tensor;
}

/** Everything of a block that is no matrix. */
export interface BlockVectors {
  readonly gamma1: Float64Array | undefined;
  readonly gamma2: Float64Array | undefined;
  readonly ln1: readonly [Float64Array, Float64Array];
  readonly ln2: readonly [Float64Array, Float64Array];
  /** [q_bias, 0, v_bias], or the one bias of all three */
  readonly qkvBias: Float64Array | undefined;
  readonly table: Float64Array | undefined;
  readonly projBias: Float64Array;
  readonly fc1Bias: Float64Array;
  readonly fc2Bias: Float64Array;
}

export function readVector(tensors: StateDict, name: string): Promise<Float64Array> {
  return readFloat64(needTensor(tensors, name));
}

export async function readOptional(
  tensors: StateDict,
  name: string,
  present: boolean,
): Promise<Float64Array | undefined> {
  return present ? await readVector(tensors, name) : undefined;
}

/** @param at prefix of the block's names: `backbone.layers.0.` */
export async function readBlockVectors(
  tensors: StateDict,
  config: BeitConfig,
  at: string,
): Promise<BlockVectors> {
  const read = (name: string): Promise<Float64Array> => readVector(tensors, at + name);
  const optional = async (name: string, present: boolean): Promise<Float64Array | undefined> =>
    present ? await read(name) : undefined;
  const qkvBias = async (): Promise<Float64Array> => {
    const bias = new Float64Array(3 * config.hiddenSize);
    bias.set(await read('attn.q_bias'), 0);
    bias.set(await read('attn.v_bias'), 2 * config.hiddenSize);
    return bias;
  };
  return {
    gamma1: await optional('gamma_1', config.layerScale),
    gamma2: await optional('gamma_2', config.layerScale),
    ln1: [await read('ln1.weight'), await read('ln1.bias')],
    ln2: [await read('ln2.weight'), await read('ln2.bias')],
    qkvBias: config.qkvBias ? await read('attn.qkv.bias') : config.qvBias ? await qkvBias() : undefined,
    table: await optional('attn.relative_position_bias_table', config.relativePosition),
    projBias: await read('attn.proj.bias'),
    fc1Bias: await read('ffn.layers.0.0.bias'),
    fc2Bias: await read('ffn.layers.1.bias'),
  };
}
