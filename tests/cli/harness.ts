/** A command line whose surroundings are ours: output is kept, the pipeline is what the test says. */
import { spawn, type SpawnOptions } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { CliDeps, Pipeline } from '../../src/cli/deps.js';
import { run } from '../../src/cli/run.js';
import {
  writesWeights,
  type ConvertResult,
  type DiffResult,
  type Inspection,
  type OutputSummary,
  type SourceSummary,
  type VerifyResult,
  type WeightsResult,
} from '../../src/pipeline.js';
import type { ParityReport } from '../../src/verify/report.js';

export interface Outcome {
  readonly code: number | null;
  readonly signal?: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface FakeOptions {
  readonly pipeline?: Partial<Pipeline>;
  readonly env?: NodeJS.ProcessEnv;
  /** columns of a terminal; absent: not a terminal */
  readonly stdoutColumns?: number;
  readonly stderrColumns?: number;
  readonly signals?: EventEmitter;
  readonly exit?: (code: number) => void;
}

export class FakeStream {
  text = '';
  readonly writes: string[] = [];
  readonly isTTY: boolean;
  readonly columns: number | undefined;

  constructor(columns?: number) {
    this.isTTY = columns !== undefined;
    this.columns = columns;
  }

  write(text: string): boolean {
    this.text += text;
    this.writes.push(text);
    return true;
  }
}

const missing = (name: string) => () => {
  throw new Error(`the fake pipeline has no ${name}`);
};

/** Run the command line in this process with a fake pipeline. */
export async function runFake(args: readonly string[], options: FakeOptions = {}): Promise<Outcome> {
  const stdout = new FakeStream(options.stdoutColumns);
  const stderr = new FakeStream(options.stderrColumns);
  const deps: CliDeps = {
    stdout,
    stderr,
    env: options.env ?? {},
    signals: options.signals ?? new EventEmitter(),
    exit: options.exit ?? missing('exit'),
    loadPipeline: () =>
      Promise.resolve({
        convert: missing('convert'),
        convertWeights: missing('convertWeights'),
        writesWeights,
        diff: missing('diff'),
        verify: missing('verify'),
        inspect: missing('inspect'),
        listCatalog: missing('listCatalog'),
        classify: missing('classify'),
        evaluate: missing('evaluate'),
        mergeEvaluations: missing('mergeEvaluations'),
        ...options.pipeline,
      } as Pipeline),
  };
  const code = await run(args, deps);
  return { code, stdout: stdout.text, stderr: stderr.text };
}

export const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

/** Environment of a spawned program: nothing of the outside decides about colour or the hub. */
export function cleanEnv(extra: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  const env: NodeJS.ProcessEnv = { ...process.env, HF_HUB_OFFLINE: '1', ...extra };
  for (const name of [
    'NO_COLOR',
    'FORCE_COLOR',
    'HF_ENDPOINT',
    'HF_TOKEN',
    'NODE_OPTIONS',
    'NODE_V8_COVERAGE',
  ]) {
    if (!(name in extra)) Reflect.deleteProperty(env, name);
  }
  return env;
}

/** Run the compiled program. */
export function runCompiled(
  args: readonly string[],
  options: SpawnOptions & {
    readonly whenStarted?: (pid: number, stop: (signal: NodeJS.Signals) => void) => void;
  } = {},
): Promise<Outcome> {
  const { whenStarted, ...spawnOptions } = options;
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [MAIN, ...args], {
      env: cleanEnv(),
      stdio: ['ignore', 'pipe', 'pipe'],
      ...spawnOptions,
    });
    let stdout = '';
    let stderr = '';
    child.stdout?.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
    whenStarted?.(child.pid!, (signal) => child.kill(signal));
  });
}

export const SOURCE: SourceSummary = {
  id: 'official:beit_base_patch16_224_pt22k_ft22kto1k',
  commit: '0123456789abcdef0123456789abcdef01234567',
  files: [{ name: 'model.safetensors', bytes: 346_200_000, sha256: 'ab'.repeat(32) }],
  container: 'safetensors',
  layout: 'official',
  prefix: 'module.',
  version: 1,
  versionEvidence: 'catalog row beit_base_patch16_224_pt22k_ft22kto1k',
  config: {
    imageSize: [224, 224],
    patchSize: 16,
    window: [14, 14],
    channels: 3,
    hiddenSize: 768,
    depth: 12,
    heads: 12,
    mlpSize: 3072,
    kind: 'classification',
    classes: 1000,
    vocabulary: 0,
    classToken: true,
    maskToken: false,
    layerScale: true,
    qvBias: true,
    qkvBias: false,
    absolutePosition: false,
    relativePosition: true,
    sharedRelativePosition: false,
    pooling: 'mean',
    tokenNorm: false,
    pooledNorm: true,
    layerNormEps: 1e-6,
  },
  parameters: 86_530_984,
  flops: 17_581_219_584,
  preprocessing: {
    resize: 256,
    crop: [224, 224],
    interpolation: 'bicubic',
    mean: [0.5, 0.5, 0.5],
    std: [0.5, 0.5, 0.5],
    origin: 'official evaluation transform of BEiT v1',
  },
  notes: ['a square window of 14×14 patches assumed'],
};

export const PARITY: ParityReport = {
  verdict: 'passed',
  checks: [
    { name: 'structure', passed: true, detail: 'the file decodes', findings: [] },
    { name: 'inventory', passed: true, detail: '200 tensors, all there', findings: [] },
    { name: 'provenance', passed: true, detail: '200 tensors, same bytes', findings: [] },
    { name: 'logits', passed: true, detail: '1 input within the noise', findings: [] },
  ],
  logits: {
    maxAbs: 2.1e-6,
    maxRel: 3.3e-6,
    cosine: 1,
    noiseUnits: 0.9,
    noiseUnitsAllowed: 8,
    expectedNoise: 2.3e-6,
    top1Agreement: 1,
    top5Agreement: 1,
  },
  inputs: [
    {
      name: 'cat.jpg',
      maxAbs: 2.1e-6,
      noiseUnits: 0.9,
      written: [
        { class: 281, label: 'tabby, tabby cat', probability: 0.62, logit: 8.1 },
        { class: 285, label: 'Egyptian \u001b[31mcat', probability: 0.3, logit: 7.4 },
        { class: 282, probability: 0.01, logit: 4 },
      ],
      oracle: [
        { class: 281, label: 'tabby, tabby cat', probability: 0.62, logit: 8.1 },
        { class: 285, label: 'Egyptian \u001b[31mcat', probability: 0.28, logit: 7.4 },
      ],
    },
  ],
  runtime: { name: 'onnxruntime-node', version: '1.30.0' },
  seconds: 3.2,
};

const OUTPUT: OutputSummary = {
  path: '/models/model.onnx',
  bytes: 346_400_000,
  sha256: 'cd'.repeat(32),
  precision: 'fp32',
  opset: 17,
  irVersion: 8,
  inputs: [{ name: 'pixel_values', dtype: 'float32', shape: ['batch', 3, 224, 224] }],
  outputs: [{ name: 'logits', dtype: 'float32', shape: ['batch', 1000] }],
};

export const CONVERTED: ConvertResult = {
  source: SOURCE,
  output: OUTPUT,
  parity: PARITY,
  files: [{ output: OUTPUT, parity: PARITY }],
  seconds: { total: 4.1, read: 0.05, write: 0.6, verify: 3.4 },
  peakMemoryBytes: 143_000_000,
};

export const WRITTEN: WeightsResult = {
  source: SOURCE,
  output: {
    path: '/models/hf/model.safetensors',
    bytes: 346_400_000,
    sha256: 'cd'.repeat(32),
    container: 'safetensors',
    layout: 'transformers',
    tensors: 223,
    buffers: 12,
    added: 0,
    dropped: ['cls_pt_layers.0.gamma_1'],
    files: [
      { path: '/models/hf/config.json', bytes: 600, sha256: 'ef'.repeat(32) },
      { path: '/models/hf/model.safetensors', bytes: 346_400_000, sha256: 'cd'.repeat(32) },
    ],
  },
  parity: {
    verdict: 'passed',
    checks: [
      { name: 'structure', passed: true, detail: 'opens as safetensors', findings: [] },
      { name: 'inventory', passed: true, detail: '211 weights, all there', findings: [] },
      { name: 'provenance', passed: true, detail: 'every bit is the source’s', findings: [] },
    ],
    inputs: [],
    seconds: 0.4,
  },
  notes: ['left out as asked: cls_pt_layers.0.gamma_1'],
  seconds: { total: 1.1, read: 0.05, write: 0.6, verify: 0.4 },
  peakMemoryBytes: 106_000_000,
};

export const DIFFERENT: DiffResult = {
  equal: false,
  a: { container: 'safetensors', layout: 'official', tensors: 4 },
  b: { container: 'PyTorch (zip)', tensors: 4 },
  rows: [
    {
      name: 'backbone.cls_token',
      status: 'equal',
      a: { name: 'cls_token', dtype: 'F32', shape: [1, 1, 4] },
      b: { name: 'backbone.cls_token', dtype: 'F32', shape: [1, 1, 4] },
    },
    {
      name: 'head.fc.bias',
      status: 'different',
      a: { name: 'head.bias', dtype: 'F32', shape: [10] },
      b: { name: 'head.fc.bias', dtype: 'F32', shape: [10] },
      differing: 2,
      maxAbs: 0.5,
      at: [3],
    },
    { name: 'evil\u001b[31m', status: 'only-b', b: { name: 'evil\u001b[31m', dtype: 'I64', shape: [] } },
    {
      name: 'head.fc.weight',
      status: 'dtype',
      a: { name: 'head.weight', dtype: 'F32', shape: [10, 4] },
      b: { name: 'head.fc.weight', dtype: 'F16', shape: [10, 4] },
      differing: 40,
      maxAbs: NaN,
      at: [0, 0],
    },
  ],
  counts: { equal: 1, different: 1, dtype: 1, shape: 0, 'only-a': 0, 'only-b': 1, rebuilt: 0 },
  maxAbs: NaN,
  seconds: 0.2,
  peakMemoryBytes: 90_000_000,
};

export const VERIFIED: VerifyResult = {
  source: SOURCE,
  file: { path: '/models/model.onnx', bytes: 346_400_000, sha256: 'cd'.repeat(32) },
  parity: PARITY,
  seconds: 3.4,
  peakMemoryBytes: 143_000_000,
};

export const INSPECTED: Inspection = {
  id: 'weights.safetensors',
  container: 'safetensors',
  files: [{ name: 'weights.safetensors', bytes: 1000 }],
  bytes: 1000,
  layout: 'official',
  versionEvidence: 'nothing in the file tells v1 from v2',
  config: SOURCE.config,
  parameters: 86_530_984,
  flops: 17_581_219_584,
  weightElements: 86_530_984,
  metadata: [['format', 'pt']],
  notes: [],
  tensors: [
    {
      source: 'blocks.0.norm1.bias',
      canonical: 'backbone.layers.0.ln1.bias',
      dtype: 'F32',
      shape: [768],
      bytes: 3072,
      role: 'weight',
    },
    {
      source: 'blocks.0.attn.relative_position_index',
      dtype: 'I64',
      shape: [197, 197],
      bytes: 310_472,
      role: 'buffer',
    },
    { source: 'evil\u001b]0;x\u0007\nname', dtype: 'F16', shape: [], bytes: 2, role: 'unknown' },
  ],
};
