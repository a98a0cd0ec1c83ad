/** A checkpoint as large as a published one: BEiT-base 224 with its names, zeros for weights, real index buffers. */
import { relativePositionIndex } from '../../src/beit.js';

const WIDTH = 768;
const SIDE = 14;
const INDEX_ROWS = SIDE * SIDE + 1;

type Entry = [name: string, shape: number[], dtype?: 'I64'];

function entries(): Entry[] {
  const linear = (name: string, outputs: number, inputs: number): Entry[] => [
    [`${name}.weight`, [outputs, inputs]],
    [`${name}.bias`, [outputs]],
  ];
  const vector = (name: string): Entry => [name, [WIDTH]];
  const norm = (name: string): Entry[] => [vector(`${name}.weight`), vector(`${name}.bias`)];
  const blocks = Array.from({ length: 12 }, (_, i) => {
    const at = (name: string): string => `blocks.${i}.${name}`;
    return [
      vector(at('gamma_1')),
      vector(at('gamma_2')),
      ...norm(at('norm1')),
      vector(at('attn.q_bias')),
      vector(at('attn.v_bias')),
      [at('attn.relative_position_bias_table'), [(2 * SIDE - 1) ** 2 + 3, 12]],
      [at('attn.relative_position_index'), [INDEX_ROWS, INDEX_ROWS], 'I64'],
      [at('attn.qkv.weight'), [3 * WIDTH, WIDTH]],
      ...linear(at('attn.proj'), WIDTH, WIDTH),
      ...norm(at('norm2')),
      ...linear(at('mlp.fc1'), 4 * WIDTH, WIDTH),
      ...linear(at('mlp.fc2'), WIDTH, 4 * WIDTH),
    ] as Entry[];
  });
  return [
    ['cls_token', [1, 1, WIDTH]],
    ['patch_embed.proj.weight', [WIDTH, 3, 16, 16]],
    vector('patch_embed.proj.bias'),
    ...blocks.flat(),
    ...norm('fc_norm'),
    ...linear('head', 1000, WIDTH),
  ];
}

/**
 * The file as the few pieces that are not zero.
 * @see https://huggingface.co/docs/safetensors/index
 */
export function largeCheckpoint(): { size: number; pieces: { at: number; bytes: Buffer }[] } {
  const header = new Map<string, object>();
  const buffers: number[] = [];
  let offset = 0;
  for (const [name, shape, dtype = 'F32'] of entries()) {
    const end = offset + shape.reduce((a, b) => a * b, 1) * (dtype === 'I64' ? 8 : 4);
    header.set(name, { dtype, shape, data_offsets: [offset, end] });
    if (dtype === 'I64') buffers.push(offset);
    offset = end;
  }
  const json = Buffer.from(JSON.stringify(Object.fromEntries(header)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  const data = 8 + json.length;
  const index = BigInt64Array.from(relativePositionIndex([SIDE, SIDE]), BigInt);
  return {
    size: data + offset,
    pieces: [
      { at: 0, bytes: Buffer.concat([length, json]) },
      ...buffers.map((at) => ({ at: data + at, bytes: Buffer.from(index.buffer) })),
    ],
  };
}
