/**
 * Biases that are there only because a layout cannot be without them.
 */
import { LayoutError, printable } from '../errors.js';
import { describeTensor, type Tensor } from '../tensor.js';
import type { AppliedLayout } from './layout.js';

const BIAS = /^backbone\.layers\.\d+\.attn\.[qv]_bias$/;

/**
 * Leave the q and v biases out, as a config with `"qkv_bias": false` asks: transformers has them always, and a model
 * without them is written there with zeros.
 *
 * @returns `applied` without them
 * @throws LayoutError if one of them is not zero
 */
export async function withoutZeroBiases(applied: AppliedLayout, origin: string): Promise<AppliedLayout> {
  const tensors = new Map(applied.tensors);
  const sourceNames = new Map(applied.sourceNames);
  for (const [name, tensor] of applied.tensors) {
    if (!BIAS.test(name)) continue;
    if (!(await isZero(tensor))) {
      throw new LayoutError(
        `${printable(sourceNames.get(name) ?? name)} ${describeTensor(tensor)} is not zero; ${printable(origin)} says qkv_bias is false`,
        { next: 'Correct the config, or use the one that belongs to these weights.' },
      );
    }
    tensors.delete(name);
    sourceNames.delete(name);
  }
  return { ...applied, tensors, sourceNames };
}

/** All bits zero: nothing is lost when it is left out and zeros are written again. */
export async function isZero(tensor: Tensor): Promise<boolean> {
  for await (const chunk of tensor.chunks()) if (chunk.some((byte) => byte !== 0)) return false;
  return true;
}
