/**
 * The source's tensors of one block in float64, and those of its neighbours where a mistake may have taken them.
 */
import type { BeitConfig } from '../../beit.js';
import { readFloat64, type StateDict } from '../../tensor.js';
import { readBlockVectors, readOptional, type BlockVectors } from '../oracle-vectors.js';
import type { Values } from './arithmetic.js';
import type { Narrowing } from './narrowing.js';

export interface BlockWeights extends BlockVectors {
  /** of the block's names: `backbone.layers.3.` */
  readonly at: string;
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
    /** of a file that has weights in fewer bits */
    readonly narrowing?: Narrowing,
  ) {}

  /** `backbone.layers.3.` */
  static prefix(layer: number): string {
    return `backbone.layers.${layer}.`;
  }

  /** Of a block of BEiT v2's second output. */
  static neckPrefix(block: number): string {
    return `neck.patch_aggregation.${block}.`;
  }

  async block(at: string): Promise<BlockWeights> {
    const matrix = (name: string): Promise<Values> => this.tensor(`${at}${name}.weight`);
    return {
      ...(await readBlockVectors(this.tensors, this.config, at)),
      at,
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
  others(at: string, name: string): { where: string; name: string; read: () => Promise<Values> }[] {
    const { depth, clsPretraining } = this.config;
    const blocks = [
      ...Array.from({ length: depth }, (_, i) => ({ at: Weights.prefix(i), where: `layer ${i}` })),
      ...Array.from({ length: clsPretraining?.layers ?? 0 }, (_, i) => ({
        at: Weights.neckPrefix(i),
        where: `block ${i} of the second output`,
      })),
    ];
    const own = blocks.findIndex((block) => block.at === at);
    return blocks
      .map((block, i) => ({ ...block, distance: Math.abs(i - own) }))
      .filter((block) => block.distance > 0 && this.has(`${block.at}${name}`))
      .sort((a, b) => a.distance - b.distance)
      .map((block) => {
        const full = `${block.at}${name}`;
        return { where: block.where, name: full, read: () => this.tensor(full) };
      });
  }
}
