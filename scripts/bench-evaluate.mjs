// How fast `convert-beit evaluate` is against a loop that only runs the model on tensors that are ready, and whether its
// memory grows with the number of pictures. Build first: npm run build
//
//   node scripts/bench-evaluate.mjs [--checkpoint base.safetensors] [--images 64] [--batch 8] [--rounds 3]
//
// Both sides use onnxruntime-node with the same threads and batches. They take turns, so that a drift of the machine's
// speed touches both; ratios are taken round by round and their median counts. The loop's session is warm and its tensors
// are made before the clock starts; evaluate's clock runs from the first picture decoded to the last line written.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import sharp from 'sharp';
import { makeShapes } from './make-shapes.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { values: args } = parseArgs({
  options: {
    checkpoint: { type: 'string' },
    images: { type: 'string', default: '64' },
    batch: { type: 'string', default: '8' },
    rounds: { type: 'string', default: '3' },
    loop: { type: 'string' },
  },
});
const batch = Number(args.batch);
const images = Number(args.images);
const cli = join(root, 'dist', 'cli', 'main.js');
const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
const MiB = (bytes) => `${(bytes / 2 ** 20).toFixed(0)} MiB`;

if (args.loop) {
  await loop(args.loop);
  process.exit(0);
}

/** The other side, in a process of its own: images per second of the runtime alone. */
async function loop(model) {
  const { default: ort } = await import('onnxruntime-node');
  const session = await ort.InferenceSession.create(model, { intraOpNumThreads: availableParallelism() });
  const stride = 3 * 224 * 224;
  const data = Float32Array.from({ length: batch * stride }, (_, i) => Math.sin(i * 0.37));
  const tensor = new ort.Tensor('float32', data, [batch, 3, 224, 224]);
  await session.run({ pixel_values: tensor });
  const started = performance.now();
  for (let done = 0; done < images; done += batch) await session.run({ pixel_values: tensor });
  console.log(JSON.stringify({ imagesPerSecond: (images * 1000) / (performance.now() - started) }));
}

function run(argv) {
  const result = spawnSync(process.execPath, argv, { encoding: 'utf8', maxBuffer: 1 << 28 });
  if (result.status !== 0) throw new Error(`${argv.join(' ')}\n${result.stderr || result.error}`);
  return result.stdout;
}

const cache = join(tmpdir(), 'convert-beit-bench');
mkdirSync(cache, { recursive: true });
const work = mkdtempSync(join(cache, 'evaluate-'));
try {
  const checkpoint = args.checkpoint ?? join(cache, 'base.safetensors');
  if (!existsSync(checkpoint)) {
    run([join(root, 'scripts', 'make-checkpoint.mjs'), '--arch', 'base', '--out', checkpoint]);
  }
  const model = join(work, 'base.onnx');
  run([cli, '--src', checkpoint, '--out', model, '--no-verify', '--quiet', '--beit-version', '1']);

  // Photographs of the usual size: noise on slow waves, so that the JPEG has something to decode.
  const photos = join(work, 'photos');
  mkdirSync(photos);
  for (let i = 0; i < images; i++) {
    const [width, height] = [500, 375];
    const pixels = Buffer.alloc(width * height * 3);
    for (let p = 0, state = i + 1; p < pixels.length; p++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      pixels[p] = 128 + 80 * Math.sin(p / (700 + 31 * i)) + (state >>> 27);
    }
    const jpeg = await sharp(pixels, { raw: { width, height, channels: 3 } })
      .jpeg({ quality: 90 })
      .toBuffer();
    writeFileSync(join(photos, `${String(i).padStart(4, '0')}.jpg`), jpeg);
  }

  console.log(`base, ${images} photographs of 500×375, batch ${batch}, ${availableParallelism()} threads`);
  const rows = [];
  for (let round = 0; round < Number(args.rounds); round++) {
    const ready = JSON.parse(
      run([fileURLToPath(import.meta.url), '--loop', model, '--images', args.images, '--batch', args.batch]),
    );
    const whole = JSON.parse(
      run([
        cli,
        'evaluate',
        model,
        photos,
        '--batch',
        args.batch,
        '--json',
        '--quiet',
        '--results',
        join(work, `${round}.jsonl`),
      ]),
    );
    rows.push({ loop: ready.imagesPerSecond, evaluate: whole.run.imagesPerSecond });
    const { loop: a, evaluate: b } = rows.at(-1);
    console.log(`  ready tensors ${a.toFixed(2)}/s, evaluate ${b.toFixed(2)}/s, ratio ${(b / a).toFixed(3)}`);
  }
  console.log(
    `  median ratio ${median(rows.map(({ loop: a, evaluate: b }) => b / a)).toFixed(3)} (wanted: 0.9 or more)`,
  );

  const demo = join(work, 'demo.onnx');
  run([
    cli,
    '--src',
    join(root, 'fixtures', 'demo', 'beit_demo_patch8_64.safetensors'),
    '--out',
    demo,
    '--no-verify',
    '--quiet',
  ]);
  console.log(
    'memory over the number of pictures (demo model), peak of the program + peak of the runtime process',
  );
  for (const count of [250, 500, 1000, 2000, 4000]) {
    const folder = join(work, `shapes-${count}`);
    await makeShapes(folder, count);
    const { run: figures, peakMemoryBytes } = JSON.parse(
      run([cli, 'evaluate', demo, folder, '--json', '--quiet']),
    );
    console.log(
      `  ${String(count).padStart(5)}: ${MiB(peakMemoryBytes)} + ${MiB(figures.runtimePeakMemoryBytes)}, ${figures.imagesPerSecond.toFixed(0)} pictures/s`,
    );
    rmSync(folder, { recursive: true });
  }
} finally {
  rmSync(work, { recursive: true, force: true });
}
