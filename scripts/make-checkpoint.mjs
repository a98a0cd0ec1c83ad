// Writes a full-size official-layout checkpoint with random weights: seeded, streamed, the same bytes everywhere.
//
//   node scripts/make-checkpoint.mjs --arch base --out base.safetensors [--img 224] [--classes 1000] [--seed 0]
//
// Magnitudes are those of trained models as far as they matter for rounding: matrices N(0, 0.02..0.04), LayerScale
// around its published initial values, LayerNorm scales around 1, position tables N(0, 0.7), biases N(0, 0.05), and
// two channels of every LayerNorm that are ten times larger (trained transformers have such outlier channels).
// Index buffers are included, as in the published files.
import { closeSync, openSync, writeSync } from 'node:fs';
import { parseArgs } from 'node:util';

const { values: args } = parseArgs({
  options: {
    arch: { type: 'string', default: 'base' },
    img: { type: 'string', default: '224' },
    classes: { type: 'string', default: '1000' },
    seed: { type: 'string', default: '0' },
    out: { type: 'string' },
  },
});
const ARCHS = {
  base: { E: 768, depth: 12, heads: 12, gamma: 0.1 },
  large: { E: 1024, depth: 24, heads: 16, gamma: 0.05 },
};
const arch = Object.hasOwn(ARCHS, args.arch) ? ARCHS[args.arch] : undefined;
if (!arch || !args.out) {
  console.error(
    'usage: make-checkpoint.mjs --arch base|large --out FILE [--img 224] [--classes 1000] [--seed 0]',
  );
  process.exit(2);
}
const { E, depth, heads, gamma } = arch;
const P = 16;
const M = 4 * E;
const window = Number(args.img) / P;
const tokens = window * window + 1;
const rows = (2 * window - 1) ** 2 + 3;
const classes = Number(args.classes);

/** name, shape, mean, std; or an index buffer */
const tensors = [];
const add = (name, shape, mean, std) => tensors.push({ name, dtype: 'F32', shape, mean, std });
add('cls_token', [1, 1, E], 0, 0.5);
add('patch_embed.proj.weight', [E, 3, P, P], 0, 0.03);
add('patch_embed.proj.bias', [E], 0, 0.1);
for (let i = 0; i < depth; i++) {
  const at = `blocks.${i}.`;
  add(`${at}gamma_1`, [E], gamma, gamma / 4);
  add(`${at}gamma_2`, [E], gamma, gamma / 4);
  add(`${at}norm1.weight`, [E], 1, 0.2);
  add(`${at}norm1.bias`, [E], 0, 0.05);
  add(`${at}attn.q_bias`, [E], 0, 0.3);
  add(`${at}attn.v_bias`, [E], 0, 0.05);
  add(`${at}attn.relative_position_bias_table`, [rows, heads], 0, 0.7);
  tensors.push({ name: `${at}attn.relative_position_index`, dtype: 'I64', shape: [tokens, tokens] });
  add(`${at}attn.qkv.weight`, [3 * E, E], 0, 0.04);
  add(`${at}attn.proj.weight`, [E, E], 0, 0.04);
  add(`${at}attn.proj.bias`, [E], 0, 0.05);
  add(`${at}norm2.weight`, [E], 1, 0.2);
  add(`${at}norm2.bias`, [E], 0, 0.05);
  add(`${at}mlp.fc1.weight`, [M, E], 0, 0.04);
  add(`${at}mlp.fc1.bias`, [M], -0.2, 0.1);
  add(`${at}mlp.fc2.weight`, [E, M], 0, 0.04);
  add(`${at}mlp.fc2.bias`, [E], 0, 0.05);
}
add('fc_norm.weight', [E], 1, 0.2);
add('fc_norm.bias', [E], 0, 0.05);
add('head.weight', [classes, E], 0, 0.03);
add('head.bias', [classes], 0, 0.05);

const header = {};
let end = 0;
for (const { name, dtype, shape } of tensors) {
  const bytes = shape.reduce((a, b) => a * b, 1) * (dtype === 'I64' ? 8 : 4);
  header[name] = { dtype, shape, data_offsets: [end, end + bytes] };
  end += bytes;
}
const json = Buffer.from(JSON.stringify(header));
const padded = Buffer.concat([json, Buffer.alloc((8 - (json.length % 8)) % 8, ' ')]);
const length = Buffer.alloc(8);
length.writeBigUInt64LE(BigInt(padded.length));

// xoshiro128** (Blackman and Vigna, 2018), seeded by splitmix32.
const state = new Uint32Array(4);
let mix = Number(args.seed) >>> 0;
for (let i = 0; i < 4; i++) {
  mix = (mix + 0x9e3779b9) >>> 0;
  let z = mix;
  z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
  z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
  state[i] = (z ^ (z >>> 16)) >>> 0;
}
let [a, b, c, d] = state;
function uniform() {
  const r = Math.imul(b, 5);
  const out = Math.imul((r << 7) | (r >>> 25), 9) >>> 0;
  const t = b << 9;
  c ^= a;
  d ^= b;
  b ^= c;
  a ^= d;
  c ^= t;
  d = (d << 11) | (d >>> 21);
  return out * 2 ** -32;
}
// The sum of four uniforms: close to normal, variance 1/3, no logarithm, the same bits on every platform.
const normal = () => (uniform() + uniform() + uniform() + uniform() - 2) * 1.7320508075688772;

const file = openSync(args.out, 'w');
writeSync(file, length);
writeSync(file, padded);
const chunk = new Float32Array(1 << 20);
for (const { name, dtype, shape, mean, std } of tensors) {
  if (dtype === 'I64') {
    writeSync(file, new Uint8Array(indexBuffer().buffer));
    continue;
  }
  const count = shape.reduce((x, y) => x * y, 1);
  const outlier = /norm\d?\.weight$/.test(name);
  for (let at = 0; at < count; at += chunk.length) {
    const n = Math.min(chunk.length, count - at);
    for (let i = 0; i < n; i++) chunk[i] = mean + std * normal();
    if (outlier) for (const channel of [7, Math.floor(E / 3)]) chunk[channel] *= 10;
    writeSync(file, new Uint8Array(chunk.buffer, 0, n * 4));
  }
}
closeSync(file);
console.log(`${args.out}: ${tensors.length} tensors, ${8 + padded.length + end} bytes`);

function indexBuffer() {
  const index = new BigInt64Array(tokens * tokens);
  for (let q = 0; q < tokens; q++) {
    for (let k = 0; k < tokens; k++) {
      let value;
      if (q === 0 && k === 0) value = rows - 1;
      else if (q === 0) value = rows - 3;
      else if (k === 0) value = rows - 2;
      else {
        const dy = Math.floor((q - 1) / window) - Math.floor((k - 1) / window) + window - 1;
        const dx = ((q - 1) % window) - ((k - 1) % window) + window - 1;
        value = dy * (2 * window - 1) + dx;
      }
      index[q * tokens + k] = BigInt(value);
    }
  }
  return index;
}
