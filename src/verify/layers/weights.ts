/**
 * The source's tensors of one block in float64, and those of its neighbours where a mistake may have taken them.
 */
import type { BeitConfig } from '../../beit.js';
import { readFloat64, type StateDict } from '../../tensor.js';
import { readBlockVectors, readOptional, type BlockVectors } from '../oracle-vectors.js';
import type { Values } from './arithmetic.js';

export interface BlockWeights extends BlockVectors {
  readonly layer: number;
  /** `[3E, E]` */
  readonly qkv: Values;
  readonly proj: Values;
  readonly fc1: Values;
  readonly fc2: Values;
  /** the table of all blocks */
  readonly shared: Values | undefined;
}

export class Weights {
  constructor(
    readonly config: BeitConfig,
    readonly tensors: StateDict,
  ) {}

  /** `backbone.layers.3.` */
  static prefix(layer: number): string {
    return `backbone.layers.${layer}.`;
  }

  async block(layer: number): Promise<BlockWeights> {
    const matrix = (name: string): Promise<Values> => this.tensor(`${Weights.prefix(layer)}${name}.weight`);
    return {
      ...(await readBlockVectors(this.tensors, this.config, Weights.prefix(layer))),
      layer,
      qkv: await matrix('attn.qkv'),
      proj: await matrix('attn.proj'),
      fc1: await matrix('ffn.layers.0.0'),
      fc2: await matrix('ffn.layers.1'),
      shared: await readOptional(
        this.tensors,
        'backbone.rel_pos_bias.relative_position_bias_table',
        this.config.sharedRelativePosition,
      ),
    };
  }

  /** @throws TypeError for a name that this model has not: a bug here */
  async tensor(name: string): Promise<Values> {
    const found = this.tensors.get(name);
    if (!found) throw new TypeError(`no tensor ${name}`);
    return await readFloat64(found);
  }

  has(name: string): boolean {
    return this.tensors.has(name);
  }

  /** The same tensor in the other blocks, nearest first. */
  others(layer: number, name: string): { layer: number; name: string; read: () => Promise<Values> }[] {
    return Array.from({ length: this.config.depth }, (_, other) => other)
      .filter((other) => other !== layer && this.has(`${Weights.prefix(other)}${name}`))
      .sort((a, b) => Math.abs(a - layer) - Math.abs(b - layer))
      .map((other) => {
        const full = `${Weights.prefix(other)}${name}`;
        return { layer: other, name: full, read: () => this.tensor(full) };
      });
  }
}
