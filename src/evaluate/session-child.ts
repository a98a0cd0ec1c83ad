/**
 * The process in which onnxruntime-node keeps one model open and answers batch after batch, so that a native crash, its
 * memory and its own output stay out of ours. Imports nothing of this package. Speaks with `session.ts` over IPC.
 */
import { Worker } from 'node:worker_threads';

export interface OpenRequest {
  readonly kind: 'open';
  readonly path: string;
  readonly threads: number;
  readonly input: string;
  readonly output: string;
}

export interface RunRequest {
  readonly kind: 'run';
  readonly id: number;
  readonly data: Float32Array;
  readonly dims: readonly number[];
}

export type Request = OpenRequest | RunRequest;

export type Answer =
  | { readonly kind: 'ready'; readonly version: string }
  | { readonly kind: 'missing'; readonly message: string }
  | { readonly kind: 'failed'; readonly step: 'load' | 'run'; readonly message: string }
  | {
      readonly kind: 'result';
      readonly id: number;
      readonly data: Float32Array;
      readonly dims: readonly number[];
      /** time the runtime took, in seconds */
      readonly seconds: number;
      /** of this process, so far */
      readonly peakMemoryBytes: number;
    };

/** The part of onnxruntime-node's interface that is used; it is an optional dependency. */
interface Runtime {
  readonly env: { logLevel?: string; readonly versions: { readonly node?: string; readonly common: string } };
  readonly Tensor: new (type: 'float32', data: Float32Array, dims: readonly number[]) => RuntimeTensor;
  readonly InferenceSession: { create(path: string, options: object): Promise<Session> };
}

interface RuntimeTensor {
  readonly type: string;
  readonly dims: readonly number[];
  readonly data: unknown;
  dispose?(): void;
}

interface Session {
  run(
    feeds: Record<string, RuntimeTensor>,
    fetches: readonly string[],
  ): Promise<Record<string, RuntimeTensor>>;
}

const PACKAGE = 'onnxruntime-node';

let opened: { runtime: Runtime; session: Session; request: OpenRequest } | undefined;

function answer(message: Answer): void {
  process.send?.(message);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** A session blocks this thread for seconds, in which a lost parent would go unnoticed: another thread looks. */
function dieWithParent(): void {
  const watch = `
    const { workerData } = require('node:worker_threads');
    setInterval(() => { if (process.ppid !== workerData) process.kill(process.pid, 'SIGKILL'); }, 200);`;
  new Worker(watch, { eval: true, workerData: process.ppid, execArgv: [] }).unref();
  process.once('disconnect', () => process.exit(1));
}

async function open(request: OpenRequest): Promise<void> {
  let runtime: Runtime;
  try {
    const loaded = (await import(PACKAGE)) as { default?: Runtime } & Runtime;
    runtime = loaded.default ?? loaded;
    runtime.env.logLevel = 'error';
  } catch (error) {
    answer({ kind: 'missing', message: messageOf(error) });
    return;
  }
  try {
    const session = await runtime.InferenceSession.create(request.path, {
      executionProviders: ['cpu'],
      intraOpNumThreads: request.threads,
      logSeverityLevel: 3,
      // Waiting threads would spin on the cores that decode the next pictures.
      extra: { session: { intra_op: { allow_spinning: '0' } } },
    });
    opened = { runtime, session, request };
    answer({ kind: 'ready', version: runtime.env.versions.node ?? runtime.env.versions.common });
  } catch (error) {
    answer({ kind: 'failed', step: 'load', message: messageOf(error) });
  }
}

async function run({ id, data, dims }: RunRequest): Promise<void> {
  const { runtime, session, request } = opened!;
  try {
    const started = performance.now();
    const tensor = new runtime.Tensor('float32', data, dims);
    const result = (await session.run({ [request.input]: tensor }, [request.output]))[request.output];
    const { type, data: values } = result;
    if (type !== 'float32' || !(values instanceof Float32Array)) {
      throw new Error(`output ${request.output} is ${type}, not float32`);
    }
    answer({
      kind: 'result',
      id,
      data: values.slice(),
      dims: result.dims,
      seconds: (performance.now() - started) / 1000,
      // maxRSS is in kilobytes everywhere (libuv).
      peakMemoryBytes: process.resourceUsage().maxRSS * 1024,
    });
    result.dispose?.();
    tensor.dispose?.();
  } catch (error) {
    answer({ kind: 'failed', step: 'run', message: messageOf(error) });
  }
}

dieWithParent();
let turn = Promise.resolve();
process.on('message', (request: Request) => {
  turn = turn.then(() => (request.kind === 'open' ? open(request) : run(request)));
});
