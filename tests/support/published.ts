/** A classifier under unilm's names that fits a published row (224 pixels, patches of 16) and is small. */
const WIDTH = 8;
const HEADS = 2;
const SIDE = 14;

/** The safetensors file. */
export function smallClassifier(classes: number): Buffer {
  const shapes: Record<string, number[]> = {
    cls_token: [1, 1, WIDTH],
    'patch_embed.proj.weight': [WIDTH, 3, 16, 16],
    'patch_embed.proj.bias': [WIDTH],
    'blocks.0.gamma_1': [WIDTH],
    'blocks.0.gamma_2': [WIDTH],
    'blocks.0.norm1.weight': [WIDTH],
    'blocks.0.norm1.bias': [WIDTH],
    'blocks.0.attn.q_bias': [WIDTH],
    'blocks.0.attn.v_bias': [WIDTH],
    'blocks.0.attn.relative_position_bias_table': [(2 * SIDE - 1) ** 2 + 3, HEADS],
    'blocks.0.attn.qkv.weight': [3 * WIDTH, WIDTH],
    'blocks.0.attn.proj.weight': [WIDTH, WIDTH],
    'blocks.0.attn.proj.bias': [WIDTH],
    'blocks.0.norm2.weight': [WIDTH],
    'blocks.0.norm2.bias': [WIDTH],
    'blocks.0.mlp.fc1.weight': [4 * WIDTH, WIDTH],
    'blocks.0.mlp.fc1.bias': [4 * WIDTH],
    'blocks.0.mlp.fc2.weight': [WIDTH, 4 * WIDTH],
    'blocks.0.mlp.fc2.bias': [WIDTH],
    'fc_norm.weight': [WIDTH],
    'fc_norm.bias': [WIDTH],
    'head.weight': [classes, WIDTH],
    'head.bias': [classes],
  };
  const header: Record<string, object> = {};
  let end = 0;
  for (const [name, shape] of Object.entries(shapes)) {
    const bytes = 4 * shape.reduce((a, b) => a * b, 1);
    header[name] = { dtype: 'F32', shape, data_offsets: [end, (end += bytes)] };
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  // Any numbers do that are neither equal nor large.
  const weights = Float32Array.from({ length: end / 4 }, (_, i) => Math.sin(i * 12.9898) / 2);
  return Buffer.concat([length, json, Buffer.from(weights.buffer)]);
}
