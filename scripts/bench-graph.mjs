// What the written graphs cost to run: `npm run bench -- graph`.
//
//   npm run bench -- graph                       base at 224, all precisions, batch 1 and 8, 1 and 2 threads
//   npm run bench -- graph --python PATH         also timm's torch.onnx.export, made and measured in the same run
//   … --python PATH --peers timm,transformers,official --unilm CLONE     and those of others (official: of microsoft/unilm)
//   … --python PATH --quantized quantized,q4                            and those quantised as files on the hub are
//   npm run bench -- graph --only fp32,int8      these precisions only; the bound and peers are always there
//   npm run bench -- graph --rounds 5 --batches 1 --threads 2
//   npm run bench -- graph --threads=             conversion and loading only
//
// One run, interleaved: every round runs every model once, beginning with another one each time (what a model costs depends on
// what ran before it), and ratios are taken round by round; medians are printed.
// `bound` is a graph of only the matrix products of the architecture, made by our graph builder: nobody's float32 graph can
// be much faster. Processor time is of all threads: it says more than the clock where other programs are running. Without Python the peers' numbers are those that were recorded, as ratios to that bound.
import { spawnSync } from 'node:child_process';
import { createReadStream, existsSync, linkSync, mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import * as ort from 'onnxruntime-node';
import { loadModel } from '../dist/convert/load.js';
import { GraphBuilder, int } from '../dist/export/graph.js';
import { layoutOnnx } from '../dist/export/onnx.js';
import { PRECISIONS } from '../dist/precision.js';
import { writePieces } from '../dist/sink.js';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { values: args } = parseArgs({
  args: process.argv.slice(2).filter((arg) => arg !== 'graph'),
  options: {
    rounds: { type: 'string', default: '7' },
    batches: { type: 'string', default: '1,8' },
    threads: { type: 'string', default: '1,2' },
    python: { type: 'string' },
    peers: { type: 'string', default: 'timm' },
    unilm: { type: 'string' },
    quantized: { type: 'string' },
    only: { type: 'string' },
  },
});
const list = (text) => (text === '' ? [] : text.split(',').map(Number));
const precisions = args.only?.split(',') ?? [...PRECISIONS.keys()];

/** Peers' latency at batch 1, 2 threads, against timm's float32 export = 1 (recorded; `/docs/precisions.md`). */
const RECORDED = { bound: 0.95, fp32: 1, fp16: 1.1, int8: 0.37, quantized: 0.69, q4: 1.12 };

const cache = join(tmpdir(), 'convert-beit-bench');
mkdirSync(cache, { recursive: true });
const work = mkdtempSync(join(cache, 'graph-'));
const cli = join(root, 'dist', 'cli', 'main.js');
const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
const number = (value, digits = 2) => value.toFixed(digits).padStart(8);

function run(command, argv) {
  const start = performance.now();
  const { status, stdout, stderr } = spawnSync(command, argv, { encoding: 'utf8', maxBuffer: 1 << 28 });
  if (status !== 0) throw new Error(`${command} ${argv.join(' ')}\n${stderr}`);
  return { ms: performance.now() - start, stdout };
}

/** Only the products, on the same weights: patch, qkv, scores, mix, proj, fc1, fc2, head. */
async function writeBound(source, path) {
  const model = await loadModel(source);
  const { hiddenSize: E, heads: H, depth } = model.config;
  const g = new GraphBuilder(17);
  const weight = (name) => g.initializer(name, model.tensors.get(name));
  const product = (x, name) => g.op('Gemm', [x, weight(name)], { transB: int(1) });
  const patches = g.input('patches', ['patches', E]);
  let tokens = g.input('tokens', ['rows', E]);
  let query = g.input('query', ['batch', H, 'tokens', E / H]);
  const key = g.input('key', ['batch', H, E / H, 'tokens']);
  const value = g.input('value', ['batch', H, 'tokens', E / H]);
  const kernel = g.op('Reshape', [weight('backbone.patch_embed.projection.weight'), g.int64([E, -1])]);
  const embedded = g.op('Gemm', [patches, kernel], { transB: int(1) });
  for (let layer = 0; layer < depth; layer++) {
    const at = `backbone.layers.${layer}.`;
    const qkv = product(tokens, `${at}attn.qkv.weight`);
    query = g.op('MatMul', [g.op('MatMul', [query, key]), value]);
    const part = g.op('Slice', [qkv, g.int64([0]), g.int64([E]), g.int64([1])]);
    const out = product(part, `${at}attn.proj.weight`);
    tokens = product(product(out, `${at}ffn.layers.0.0.weight`), `${at}ffn.layers.1.weight`);
  }
  g.output(product(tokens, 'head.fc.weight'), 'logits', ['rows', model.config.classes]);
  g.output(query, 'mixed', ['batch', H, 'tokens', E / H]);
  g.output(embedded, 'embedded', ['patches', E]);
  await writePieces(path, (await layoutOnnx(g.build('bound'), { producerVersion: '0', metadata: [] })).model);
  await model.close();
}

const random = (dims) =>
  new ort.Tensor(
    'float32',
    Float32Array.from({ length: dims.reduce((a, b) => a * b) }, () => Math.random() - 0.5),
    dims,
  );

function feeds(name, batch) {
  if (name !== 'bound') return { pixel_values: random([batch, 3, 224, 224]) };
  return {
    patches: random([batch * 196, 768]),
    tokens: random([batch * 197, 768]),
    query: random([batch, 12, 197, 64]),
    key: random([batch, 12, 64, 197]),
    value: random([batch, 12, 197, 64]),
  };
}

/** Loads a model in a process of its own; prints milliseconds and peak memory. */
const LOADER = `
const ort = require('onnxruntime-node');
const start = performance.now();
ort.InferenceSession.create(process.argv[1], { intraOpNumThreads: 2, logSeverityLevel: 3 }).then(() => {
  const ms = performance.now() - start;
  // maxRSS of a child begins with what its parent had: Linux counts anew only in VmHWM.
  let peak = process.resourceUsage().maxRSS / 1024;
  try { peak = /VmHWM:\\s+(\\d+)/.exec(require('fs').readFileSync('/proc/self/status', 'utf8'))[1] / 1024; } catch {}
  console.log(JSON.stringify({ ms, peak }));
  process.exit(0);
});`;

try {
  const source = join(cache, 'base.safetensors');
  if (!existsSync(source))
    run(process.execPath, [join(root, 'scripts/make-checkpoint.mjs'), '--arch', 'base', '--out', source]);
  // A linked model needs the checkpoint in its own folder.
  const beside = join(work, 'base.safetensors');
  linkSync(source, beside);
  // The first conversion is to find the checkpoint in memory, as the others do.
  for await (const chunk of createReadStream(source)) void chunk;
  const models = new Map();
  const made = [];
  const convert = (name, file, ...extra) => {
    const path = join(work, file);
    const { ms, stdout } = run(process.execPath, [
      ...[cli, '--src', beside, '--out', path, '--no-verify', '--json'],
      ...extra,
    ]);
    models.set(name, path);
    made.push({ name, ms, peak: JSON.parse(stdout).peakMemoryBytes / 2 ** 20 });
  };
  for (const name of precisions) convert(name, `${name}.onnx`, '--dtype', name);
  convert('fp32 --external-data', 'external.onnx', '--external-data');
  convert('fp32 --link', 'linked.onnx', '--link');
  if (!args.only) {
    convert('all seven at once', 'all.onnx', '--dtype', precisions.join(','));
    models.delete('all seven at once');
  }
  models.set('bound', join(work, 'bound.onnx'));
  await writeBound(source, models.get('bound'));
  const peers = args.python ? args.peers.split(',') : [];
  for (const peer of peers) {
    const path = join(work, `${peer}.onnx`);
    const { ms, stdout } = run(args.python, [
      ...[join(root, 'scripts/crosscheck/peer_export.py'), '--model', peer, '--out', path],
      ...(args.unilm ? ['--unilm', args.unilm] : []),
    ]);
    models.set(peer, path);
    made.push({ name: peer, ms, peak: JSON.parse(stdout.trim().split('\n').at(-1)).peakMiB });
    for (const form of args.quantized?.split(',') ?? []) {
      const name = `${peer} ${form}`;
      const out = join(work, `${peer}_${form}.onnx`);
      const script = join(root, 'scripts/crosscheck/peer_quantize.py');
      const { ms } = run(args.python, [script, path, '--to', form, '--out', out]);
      models.set(name, out);
      made.push({ name, ms, peak: NaN });
    }
  }
  const reference = peers[0] ?? 'bound';

  console.log(`load average ${loadavg()[0].toFixed(1)} at the start; ratios to ${reference}`);
  console.log(
    `\nconversion, --no-verify --json, and peers’ exports, once each\n  ${'what'.padEnd(24)}       ms  peak MiB`,
  );
  for (const { name, ms, peak } of made)
    console.log(`  ${name.padEnd(24)} ${number(ms, 0)} ${number(peak, 0)}`);

  for (const threads of list(args.threads)) {
    const sessions = new Map();
    for (const [name, path] of models) {
      // The same graph and weights as fp32: only loading differs.
      if (name.startsWith('fp32 ')) continue;
      const options = { intraOpNumThreads: threads, logSeverityLevel: 3 };
      sessions.set(name, await ort.InferenceSession.create(path, options));
    }
    for (const batch of list(args.batches)) {
      const times = new Map([...sessions.keys()].map((name) => [name, []]));
      const work = new Map([...sessions.keys()].map((name) => [name, []]));
      const rounds = Math.max(3, Math.round(Number(args.rounds) / Math.sqrt(batch)));
      const order = [...sessions];
      for (let round = -1; round < rounds; round++) {
        order.push(order.shift());
        for (const [name, session] of order) {
          const feed = feeds(name, batch);
          // The other sessions' threads go to sleep first.
          await new Promise((resolve) => setTimeout(resolve, 20));
          const cpu = process.cpuUsage();
          const start = performance.now();
          await session.run(feed);
          const time = performance.now() - start;
          const { user, system } = process.cpuUsage(cpu);
          if (round < 0) continue;
          times.get(name).push(time);
          work.get(name).push((user + system) / 1e3);
        }
      }
      const ratio = (of, name, base) => median(of.get(name).map((time, i) => time / of.get(base)[i]));
      console.log(
        `\nlatency, batch ${batch}, ${threads} thread(s), ${rounds} rounds, load average ${loadavg()[0].toFixed(1)}`,
      );
      console.log(
        `  ${'what'.padEnd(24)}       ms  ÷ ${reference}  ÷ bound  processor ms  ÷ ${reference}  ÷ bound`,
      );
      for (const [name, each] of times) {
        console.log(
          `  ${name.padEnd(24)} ${number(median(each), 1)} ${number(ratio(times, name, reference))} ${number(ratio(times, name, 'bound'))}      ${number(median(work.get(name)), 0)} ${number(ratio(work, name, reference))} ${number(ratio(work, name, 'bound'))}`,
        );
      }
    }
    for (const session of sessions.values()) await session.release();
  }

  const loads = new Map([...models.keys()].map((name) => [name, []]));
  const loadRounds = Math.max(3, Math.round(Number(args.rounds) / 3));
  const turn = [...models];
  for (let round = 0; round < loadRounds; round++) {
    turn.push(turn.shift());
    for (const [name, path] of turn)
      loads.get(name).push(JSON.parse(run(process.execPath, ['-e', LOADER, path]).stdout));
  }
  const single = peers[0] ?? (models.has('fp32') ? 'fp32' : 'bound');
  console.log(
    `\nsession load, 2 threads, ${loadRounds} rounds in fresh processes, load average ${loadavg()[0].toFixed(1)}`,
  );
  console.log(`  ${'what'.padEnd(24)}       ms   ÷ ${single}  peak MiB  file MB`);
  for (const [name, each] of loads) {
    const ratio = median(each.map(({ ms }, i) => ms / loads.get(single)[i].ms));
    const data = `${models.get(name)}_data`;
    const bytes = statSync(models.get(name)).size + (existsSync(data) ? statSync(data).size : 0);
    console.log(
      `  ${name.padEnd(24)} ${number(median(each.map(({ ms }) => ms)), 0)} ${number(ratio)} ${number(median(each.map(({ peak }) => peak)), 0)}  ${number(bytes / 1e6, 1)}`,
    );
  }
  if (!args.python) {
    console.log('\nrecorded for peers (timm float32 = 1), batch 1, 2 threads:');
    for (const [name, value] of Object.entries(RECORDED))
      console.log(`  ${name.padEnd(24)} ${number(value)} ${number(value / RECORDED.bound)} ÷ bound`);
  }
} finally {
  rmSync(work, { recursive: true, force: true });
}
