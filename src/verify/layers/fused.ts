/**
 * Operators that an optimiser has put in the place of several of BEiT's steps: what is inside them, nobody can see.
 */
import { listNames } from '../../errors.js';
import type { OnnxFile, OnnxNode } from '../onnx-file.js';

/** From q, k and v (or what they are made of) to the average of v. */
export const ATTENTION: ReadonlySet<string> = new Set(
  'Attention MultiHeadAttention GroupQueryAttention PackedAttention PackedMultiHeadAttention QAttention'.split(
    ' ',
  ),
);
/** Of the domain com.microsoft, as onnxruntime's transformer optimiser writes them; and what standard opsets have. */
const FUSED: ReadonlySet<string> = new Set([
  ...ATTENTION,
  ...'SkipLayerNormalization EmbedLayerNormalization BiasGelu FastGelu BiasAdd SkipGroupNorm FusedMatMul FusedGemm FusedConv'.split(
    ' ',
  ),
]);

export function qualified({ type, domain }: Pick<OnnxNode, 'type' | 'domain'>): string {
  return domain === '' ? type : `${domain}.${type}`;
}

/** One sentence, or nothing where no node is of that kind. */
export function fusedBlocks({ nodes }: Pick<OnnxFile, 'nodes'>): string | undefined {
  const counts = new Map<string, number>();
  for (const node of nodes) {
    if (!FUSED.has(node.type)) continue;
    const name = qualified(node);
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  if (counts.size === 0) return undefined;
  const found = [...counts].map(([name, count]) => `${count} ${name}`);
  return `An optimiser has fused steps into single nodes (${listNames(found)}): verify the file it was made from with --layers`;
}

/** What attention that is one node keeps to itself, one sentence. */
export function fusedAttention(blocks: readonly { readonly attention?: string }[]): string | undefined {
  const inside = blocks.flatMap(({ attention }) => (attention === undefined ? [] : [attention]));
  if (inside.length === 0) return undefined;
  const where =
    inside.length === blocks.length ? 'every block' : `${inside.length} of ${blocks.length} blocks`;
  return `attention is one ${[...new Set(inside)].join(' or ')} node in ${where}: its scores and probabilities cannot be seen, what comes out of it was compared`;
}
