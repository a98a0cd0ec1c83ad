// Loads an ONNX file in onnxruntime-web (the WebAssembly build that browsers get) and compares its logits with
// onnxruntime-node's on the same generated inputs, in a batch of two.
//
//   npm run build && node scripts/crosscheck/ort-web.mjs model.onnx [more.onnx …]
//
// Ends with 1 if a file does not load or the two differ by more than float32 rounding explains.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';

const dist = (file) => new URL(`../../dist/verify/${file}`, import.meta.url).href;
const { openOnnxFile } = await import(dist('onnx-file.js'));
const { sampleInput } = await import(dist('inputs.js'));
const { runOnnx } = await import(dist('runtime.js'));

// onnxruntime-web comes with @huggingface/transformers.
const require = createRequire(import.meta.url);
const ort = await import(pathToFileURL(require.resolve('onnxruntime-web')).href).then((m) => m.default ?? m);
ort.env.logLevel = 'error';
ort.env.wasm.numThreads = 1;

// Both round to float32 in every step, in different order: some 10 units of 2^-24 of the largest logit each.
const ALLOWED = 64 * 2 ** -24;
// Lower precisions round activations too: where two builds round to different sides, whole steps differ.
const ALLOWED_IN = { fp16: 4e-3, q8: 0.02, int8: 0.02, uint8: 0.02, q4: 0.05, q4f16: 0.05 };

const files = process.argv.slice(2);
if (files.length === 0) {
  console.error('usage: ort-web.mjs model.onnx [more.onnx …]');
  process.exit(2);
}
for (const path of files) {
  const file = await openOnnxFile(path);
  const [, channels, height, width] = file.inputs[0].shape;
  const external = new Set([...file.initializers.values()].flatMap((each) => each.file ?? []));
  const dtype = file.metadata.get('convert_beit.dtype') ?? 'fp32';
  await file.close();

  const images = [0, 1].map((index) => sampleInput({ channels, imageSize: [height, width] }, 0, index));
  const inputs = new Float32Array(2 * images[0].length);
  images.forEach((image, i) => inputs.set(image, i * image.length));

  const session = await ort.InferenceSession.create(new Uint8Array(readFileSync(path)), {
    executionProviders: ['wasm'],
    externalData: [...external].map((name) => ({
      path: name,
      data: new Uint8Array(readFileSync(join(dirname(path), name))),
    })),
  });
  const tensor = new ort.Tensor('float32', inputs, [2, channels, height, width]);
  let time = performance.now();
  const { logits: web } = await session.run({ pixel_values: tensor });
  time = performance.now() - time;
  await session.release();
  const node = (await runOnnx(path, { inputs, shape: [channels, height, width] })).outputs.get('logits');

  const difference = Math.max(...web.data.map((value, i) => Math.abs(value - node.data[i])));
  const largest = Math.max(...node.data.map(Math.abs));
  const fine =
    String(web.dims) === String(node.dims) && difference <= (ALLOWED_IN[dtype] ?? ALLOWED) * largest;
  console.log(
    `${fine ? 'ok    ' : 'FAILED'}  ${basename(path)}  logits [${web.dims.join(', ')}]  max difference ${difference.toExponential(1)} of ${largest.toFixed(2)}, ${dtype}, ${time.toFixed(0)} ms`,
  );
  if (!fine) process.exitCode = 1;
}
