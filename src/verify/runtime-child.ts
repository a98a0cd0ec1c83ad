/**
 * The process in which onnxruntime-node runs, so that a native crash, its memory and its own output stay out of ours.
 * Imports nothing of this package. Speaks with `runtime.ts` over the IPC channel.
 */
import { Worker } from 'node:worker_threads';

/** Types that a graph may want its booleans in. */
const MASK_ARRAYS = {
  bool: (data: Uint8Array) => data,
  uint8: (data: Uint8Array) => data,
  int32: (data: Uint8Array) => Int32Array.from(data),
  int64: (data: Uint8Array) => BigInt64Array.from(data, BigInt),
  float32: (data: Uint8Array) => Float32Array.from(data),
} as const;
export type MaskType = keyof typeof MASK_ARRAYS;

export interface Masks {
  readonly name: string;
  /** default `bool` */
  readonly type?: MaskType;
  /** `[images, ...shape]`, one byte each */
  readonly data: Uint8Array;
  readonly shape: readonly number[];
}

/** One model, one set of inputs. */
export interface Job {
  readonly path: string;
  /** the model's only input, `[images, …]` row-major */
  readonly inputName: string;
  /** a second input of booleans */
  readonly masks?: Masks;
  readonly data: Float32Array;
  /** of one image */
  readonly shape: readonly number[];
  readonly images: number;
  /** images per run */
  readonly batch: number;
  readonly threads: number;
  /** only these outputs, whatever their shapes: the images then go through in one run */
  readonly fetch?: readonly string[];
}

export interface ChildOutput {
  readonly name: string;
  readonly dims: number[];
  /** `Uint16Array`: the bits of float16, only where `fetch` was asked for */
  readonly data: Float32Array | Uint16Array;
}

export type Answer =
  | { readonly kind: 'missing'; readonly message: string }
  | { readonly kind: 'failed'; readonly step: 'load' | 'run'; readonly message: string }
  | { readonly kind: 'progress'; readonly done: number }
  | {
      readonly kind: 'done';
      readonly outputs: readonly ChildOutput[];
      readonly version: string;
      readonly peakMemoryBytes: number;
    };

/** The part of onnxruntime-node's interface that is used; it is an optional dependency. */
interface Runtime {
  readonly env: { logLevel?: string; readonly versions: { readonly node?: string; readonly common: string } };
  readonly Tensor: {
    new (type: 'float32', data: Float32Array, dims: readonly number[]): RuntimeTensor;
    new (type: MaskType, data: ArrayBufferView, dims: readonly number[]): RuntimeTensor;
  };
  readonly InferenceSession: {
    create(path: string, options: object): Promise<Session>;
  };
}

interface RuntimeTensor {
  readonly type: string;
  readonly dims: readonly number[];
  readonly data: unknown;
}

interface Session {
  readonly outputNames: readonly string[];
  run(
    feeds: Record<string, RuntimeTensor>,
    fetches?: readonly string[],
  ): Promise<Record<string, RuntimeTensor>>;
}

const PACKAGE = 'onnxruntime-node';

function answer(message: Answer): Promise<void> {
  return new Promise((resolve) => process.send!(message, () => resolve()));
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** A session blocks this thread for seconds, in which a lost parent would go unnoticed: another thread looks. */
function dieWithParent(): void {
  const watch = `
    const { workerData } = require('node:worker_threads');
    setInterval(() => { if (process.ppid !== workerData) process.kill(process.pid, 'SIGKILL'); }, 200);`;
  const worker = new Worker(watch, { eval: true, workerData: process.ppid, execArgv: [] });
  worker.unref();
  process.once('disconnect', () => process.exit(1));
}

async function work(job: Job): Promise<void> {
  let runtime: Runtime;
  try {
    const loaded = (await import(PACKAGE)) as { default?: Runtime } & Runtime;
    runtime = loaded.default ?? loaded;
    runtime.env.logLevel = 'error';
  } catch (error) {
    await answer({ kind: 'missing', message: messageOf(error) });
    return;
  }
  let session: Session;
  try {
    // 3 = errors only. ONNX Runtime logs to this process's own output, which nobody reads.
    session = await runtime.InferenceSession.create(job.path, {
      executionProviders: ['cpu'],
      intraOpNumThreads: job.threads,
      logSeverityLevel: 3,
    });
  } catch (error) {
    await answer({ kind: 'failed', step: 'load', message: messageOf(error) });
    return;
  }
  try {
    const outputs = await (job.fetch
      ? runOnce(runtime, session, job, job.fetch)
      : runAll(runtime, session, job));
    await answer({
      kind: 'done',
      outputs,
      version: runtime.env.versions.node ?? runtime.env.versions.common,
      // maxRSS is in kilobytes everywhere (libuv).
      peakMemoryBytes: process.resourceUsage().maxRSS * 1024,
    });
  } catch (error) {
    await answer({ kind: 'failed', step: 'run', message: messageOf(error) });
  }
}

async function runAll(runtime: Runtime, session: Session, job: Job): Promise<ChildOutput[]> {
  const stride = job.shape.reduce((product, side) => product * side, 1);
  const parts = new Map<string, { dims: number[]; data: Float32Array[] }>();
  for (let first = 0; first < job.images; first += job.batch) {
    const count = Math.min(job.batch, job.images - first);
    const data = job.data.subarray(first * stride, (first + count) * stride);
    const tensor = new runtime.Tensor('float32', data, [count, ...job.shape]);
    const results = await session.run({ [job.inputName]: tensor, ...maskOf(runtime, job, first, count) });
    for (const name of session.outputNames) {
      const { type, dims, data: values } = results[name];
      if (type !== 'float32' || !(values instanceof Float32Array))
        throw new Error(`output ${name} is ${type}, not float32`);
      if (dims[0] !== count) throw new Error(`output ${name} is [${dims.join(', ')}] for ${count} images`);
      const part = parts.get(name) ?? { dims: [job.images, ...dims.slice(1)], data: [] };
      if (String(part.dims.slice(1)) !== String(dims.slice(1)))
        throw new Error(`output ${name} changes its shape`);
      // A copy: the runtime may use the memory again.
      part.data.push(values.slice());
      parts.set(name, part);
    }
    await answer({ kind: 'progress', done: first + count });
  }
  return [...parts].map(([name, { dims, data }]) => ({ name, dims, data: joined(data) }));
}

/** The part of the second input that belongs to images `[first, first + count)`. */
function maskOf(
  runtime: Runtime,
  { masks }: Job,
  first: number,
  count: number,
): Record<string, RuntimeTensor> {
  if (!masks) return {};
  const stride = masks.shape.reduce((product, side) => product * side, 1);
  const data = masks.data.slice(first * stride, (first + count) * stride);
  const { name, type = 'bool', shape } = masks;
  return { [name]: new runtime.Tensor(type, MASK_ARRAYS[type](data), [count, ...shape]) };
}

/** Everything in one run; what is fetched may have any shape. */
async function runOnce(
  runtime: Runtime,
  session: Session,
  job: Job,
  fetch: readonly string[],
): Promise<ChildOutput[]> {
  const tensor = new runtime.Tensor('float32', job.data, [job.images, ...job.shape]);
  const feeds = { [job.inputName]: tensor, ...maskOf(runtime, job, 0, job.images) };
  const results = await session.run(feeds, fetch);
  return fetch.map((name) => {
    const { type, dims, data } = results[name];
    // Where there is no Float16Array yet, float16 arrives as its bits.
    if (type === 'float16' && ArrayBuffer.isView(data) && !(data instanceof DataView))
      return {
        name,
        dims: [...dims],
        data: new Uint16Array(data.buffer, data.byteOffset, data.byteLength / 2),
      };
    if (type !== 'float32' || !(data instanceof Float32Array))
      throw new Error(`value ${name} is ${type}, not float32 or float16`);
    return { name, dims: [...dims], data };
  });
}

function joined(parts: readonly Float32Array[]): Float32Array {
  const out = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

dieWithParent();
process.once('message', (job: Job) => {
  void work(job).finally(() => process.exit(0));
});
