/**
 * Operators that an optimiser has put in the place of several of BEiT's steps: what is inside them, nobody can see.
 */
import { listNames } from '../../errors.js';
import type { OnnxFile } from '../onnx-file.js';

/** Of the domain com.microsoft, as onnxruntime's transformer optimiser writes them; and what standard opsets have. */
const FUSED: ReadonlySet<string> = new Set(
  'Attention MultiHeadAttention GroupQueryAttention PackedAttention SkipLayerNormalization EmbedLayerNormalization BiasGelu FastGelu BiasAdd SkipGroupNorm FusedMatMul FusedGemm FusedConv QAttention'.split(
    ' ',
  ),
);

/** One sentence, or nothing where no node is of that kind. */
export function fusedBlocks({ nodes }: Pick<OnnxFile, 'nodes'>): string | undefined {
  const counts = new Map<string, number>();
  for (const { type, domain } of nodes) {
    if (!FUSED.has(type)) continue;
    const name = domain === '' ? type : `${domain}.${type}`;
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  if (counts.size === 0) return undefined;
  const found = [...counts].map(([name, count]) => `${count} ${name}`);
  return `An optimiser has fused steps into single nodes (${listNames(found)}): verify the file it was made from with --layers`;
}
