// Speed and memory of the float64 reference: npm run build && node scripts/bench-oracle.mjs
//
//   node scripts/bench-oracle.mjs                       BEiT-base at 224, one image, weights made up on the fly
//   node scripts/bench-oracle.mjs --arch large --batch 2 --threads 1 --rounds 5
//   node scripts/bench-oracle.mjs --checkpoint FILE     a real file, read from disk
//   node scripts/bench-oracle.mjs --kernel              only the matrix product, one thread, as layers call it
//
// Printed per round: wall time, processor time of all threads, multiply-adds per second of either, peak memory of the
// process so far. Other processes on the machine show as processor time that is larger than threads x quiet time.
import { parseArgs } from 'node:util';
import { complexity, inventory } from '../dist/beit.js';
import { loadModel } from '../dist/convert/load.js';
import { elementCount } from '../dist/tensor.js';
import { PANEL, multiplyAdd } from '../dist/verify/kernels.js';
import { runOracle } from '../dist/verify/oracle.js';

const { values: args } = parseArgs({
  options: {
    arch: { type: 'string', default: 'base' },
    batch: { type: 'string', default: '1' },
    threads: { type: 'string' },
    rounds: { type: 'string', default: '3' },
    checkpoint: { type: 'string' },
    kernel: { type: 'boolean', default: false },
  },
});
const rounds = Number(args.rounds);
const batch = Number(args.batch);

function measure(multiplyAdds, work) {
  const cpu = process.cpuUsage();
  const start = performance.now();
  const report = () => {
    const wall = (performance.now() - start) / 1e3;
    const { user, system } = process.cpuUsage(cpu);
    const used = (user + system) / 1e6;
    const rate = (seconds) => `${(multiplyAdds / seconds / 1e9).toFixed(2)} G/s`;
    const memory = (process.resourceUsage().maxRSS / 1024).toFixed(0);
    console.log(
      `${wall.toFixed(2)} s wall (${rate(wall)}), ${used.toFixed(2)} s processor (${rate(used)}), peak ${memory} MiB`,
    );
  };
  const result = work();
  return result instanceof Promise ? result.then(report) : report();
}

if (args.kernel) {
  for (const [rows, depth, columns] of [
    [197, 768, 3072],
    [197, 3072, 768],
    [197, 64, 197],
  ]) {
    const fill = (array) => array.map(() => Math.random() - 0.5);
    const a = { data: fill(new Float64Array(new SharedArrayBuffer(rows * depth * 8))), at: 0, stride: depth };
    const weights = fill(new Float32Array(new SharedArrayBuffer(depth * columns * 4)));
    const c = new Float64Array(new SharedArrayBuffer(rows * columns * 8));
    const repeat = Math.ceil(1e9 / (rows * depth * columns));
    console.log(`[${rows}, ${depth}] x [${depth}, ${columns}], ${repeat} times`);
    for (let round = 0; round < rounds; round++) {
      measure(repeat * rows * depth * columns, () => {
        for (let i = 0; i < repeat; i++) {
          for (let n = 0; n < columns; n += PANEL) {
            const b = { data: weights, at: n * depth, stride: depth };
            multiplyAdd(a, b, { data: c, at: n, stride: columns }, rows, depth, Math.min(PANEL, columns - n));
          }
        }
      });
    }
  }
} else {
  const model = args.checkpoint ? await loadModel(args.checkpoint, {}) : madeUp(args.arch);
  const { channels, imageSize } = model.config;
  const input = Float32Array.from({ length: batch * channels * imageSize[0] * imageSize[1] }, (_, i) =>
    Math.sin(i * i),
  );
  for (let round = 0; round < rounds; round++) {
    const threads = args.threads === undefined ? undefined : Number(args.threads);
    await measure(batch * complexity(model.config).flops, () => runOracle(model, input, batch, { threads }));
  }
  await model.close?.();
}

/** A model whose tensors all repeat one block of small numbers: nothing is read, and memory is the oracle's own. */
function madeUp(arch) {
  const [hiddenSize, depth, heads] = { base: [768, 12, 12], large: [1024, 24, 16] }[arch];
  const config = {
    imageSize: [224, 224],
    patchSize: 16,
    window: [14, 14],
    channels: 3,
    hiddenSize,
    depth,
    heads,
    mlpSize: 4 * hiddenSize,
    classes: 1000,
    layerScale: true,
    qvBias: true,
    absolutePosition: false,
    relativePosition: true,
    sharedRelativePosition: false,
    pooling: 'mean',
    layerNormEps: 1e-6,
  };
  const block = new Uint8Array(
    Float32Array.from({ length: 1 << 18 }, () => 0.06 * (Math.random() - 0.5)).buffer,
  );
  const tensor = (shape) => ({
    dtype: 'F32',
    shape,
    async *chunks() {
      for (let left = elementCount(shape) * 4; left > 0; left -= block.length) {
        yield block.subarray(0, Math.min(left, block.length));
      }
    },
  });
  return { config, tensors: new Map([...inventory(config)].map(([name, shape]) => [name, tensor(shape)])) };
}
