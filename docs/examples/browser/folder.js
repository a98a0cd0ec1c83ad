/**
 * A folder that `convert-beit --out beit/` wrote, read over HTTP, and one of its models opened in onnxruntime-web.
 */
import { readSteps } from './picture.js';

/** Precisions and their files, as transformers.js names them. */
const FILES = {
  fp32: 'model.onnx',
  fp16: 'model_fp16.onnx',
  q8: 'model_quantized.onnx',
  int8: 'model_int8.onnx',
  uint8: 'model_uint8.onnx',
  q4: 'model_q4.onnx',
  q4f16: 'model_q4f16.onnx',
};

/** The small build for processors, and the one that has WebGPU too. Bundlers find both in the npm package. */
const RUNTIMES = {
  wasm: () => import('onnxruntime-web/wasm'),
  webgpu: () => import('onnxruntime-web/webgpu'),
};

/** What the small files say. `address` may be relative to the page, or on another server that allows it (CORS). */
export async function openFolder(address) {
  const base = new URL(address.replace(/\/*$/, '/'), document.baseURI);
  const [config, preprocessor, sums] = await Promise.all([
    get(base, 'config.json').then((response) => response.json()),
    get(base, 'preprocessor_config.json').then((response) => response.json()),
    get(base, 'SHA256SUMS').then((response) => response.text()),
  ]);
  const digests = new Map(
    [...sums.matchAll(/^(\w{64}) {2}(.+)$/gm)].map(([, digest, name]) => [name, digest]),
  );
  const precisions = Object.keys(FILES).filter((name) => digests.has(`onnx/${FILES[name]}`));
  if (precisions.length === 0) throw new Error(`${base.href} has no onnx/model.onnx and no other precision.`);
  return {
    base,
    name: base.pathname.split('/').at(-2),
    digests,
    precisions,
    preferred: config['transformers.js_config']?.dtype,
    steps: readSteps(preprocessor),
    label: (index) => config.id2label?.[index] ?? `class ${index}`,
  };
}

/**
 * @param device `wasm` or `webgpu`
 * @param onProgress called with the bytes that are there and, where known, how many there will be
 * @returns `classify(pixels)`: the probability of every class; `release()` when done
 */
export async function openModel(folder, precision, device, onProgress) {
  if (device === 'webgpu') await requireGpu(precision);
  const ort = await RUNTIMES[device]().catch((cause) => {
    throw new Error(`onnxruntime-web is not where the import map of index.html says. ${cause.message}`);
  });
  const name = FILES[precision];
  const graph = await download(folder, `onnx/${name}`, onProgress);
  const data = `${name}_data`;
  const weights = folder.digests.has(`onnx/${data}`) && (await download(folder, `onnx/${data}`, onProgress));
  const session = await ort.InferenceSession.create(graph, {
    executionProviders: [device],
    // Errors only; which nodes run where is for developers.
    logSeverityLevel: 3,
    externalData: weights ? [{ path: data, data: weights }] : [],
  });
  if (!session.outputNames.includes('logits')) {
    const outputs = session.outputNames.join(', ');
    await session.release();
    throw new Error(`${folder.name} gives ${outputs}, no logits: it is no classifier.`);
  }
  return {
    threads: device === 'wasm' ? ort.env.wasm.numThreads : undefined,
    async classify(pixels) {
      const input = new ort.Tensor('float32', pixels, [1, 3, ...folder.steps.crop]);
      const { logits } = await session.run({ pixel_values: input });
      return softmax(logits.data);
    },
    release: () => session.release(),
  };
}

async function requireGpu(precision) {
  const adapter = await navigator.gpu?.requestAdapter();
  if (!adapter) throw new Error('This browser has no WebGPU here. Choose WebAssembly.');
  if (/16$/.test(precision) && !adapter.features.has('shader-f16')) {
    throw new Error(`WebGPU has no float16 on this device, and ${precision} needs it. Choose fp32 or q4.`);
  }
}

function softmax(logits) {
  const most = logits.reduce((a, b) => Math.max(a, b));
  const powers = Array.from(logits, (value) => Math.exp(value - most));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

async function get(base, name) {
  const url = new URL(name, base).href;
  const response = await fetch(url).catch(() => {
    throw new Error(`${url} cannot be reached. Is its server running, and does it allow this page (CORS)?`);
  });
  if (!response.ok) {
    throw new Error(
      `${url}: the server answers ${response.status}. Give the address of a folder that convert-beit wrote.`,
    );
  }
  return response;
}

/** A file of the folder, checked against SHA256SUMS where the browser can (https and localhost). */
async function download({ base, digests }, name, onProgress) {
  const response = await get(base, name);
  // Of a body that travels compressed, the stated length is another one.
  const packed = response.headers.has('content-encoding');
  const total = packed ? undefined : Number(response.headers.get('content-length')) || undefined;
  let done = 0;
  const counted = new TransformStream({
    transform(chunk, controller) {
      done += chunk.length;
      onProgress(done, total);
      controller.enqueue(chunk);
    },
  });
  const bytes = await new Response(response.body.pipeThrough(counted)).arrayBuffer();
  if (globalThis.crypto?.subtle) {
    const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
    const hex = Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
    if (hex !== digests.get(name)) {
      throw new Error(
        `${name} (${bytes.byteLength} bytes) is not the file that SHA256SUMS names. Upload it again.`,
      );
    }
  }
  return new Uint8Array(bytes);
}
