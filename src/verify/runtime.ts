/**
 * Runs an ONNX file in onnxruntime-node, in a process of its own.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { compiledUrl } from '../compiled.js';
import { EnvironmentError, FormatError, printable } from '../errors.js';
import type { OnProgress } from '../progress.js';
import { float16ToNumber } from '../tensor.js';
import type { Answer, Job, Masks } from './runtime-child.js';

export interface RuntimeInput {
  /** `[images, ...shape]`, row-major */
  readonly inputs: Float32Array;
  /** of one image: `[C, H, W]` in pixels */
  readonly shape: readonly number[];
  /** default `pixel_values` */
  readonly inputName?: string;
  /** a second input of booleans */
  readonly masks?: Masks;
  /** images per run; default: all at once */
  readonly batch?: number;
  readonly threads?: number;
  /** only these outputs, of any shape, all images in one run */
  readonly fetch?: readonly string[];
  readonly signal?: AbortSignal;
  readonly onProgress?: OnProgress;
  /** the program that runs the model (tests) */
  readonly child?: string;
}

export interface RuntimeOutput {
  readonly dims: readonly number[];
  readonly data: Float32Array;
}

export interface RuntimeResult {
  readonly outputs: ReadonlyMap<string, RuntimeOutput>;
  readonly version: string;
  /** of the child process */
  readonly peakMemoryBytes: number;
}

/** ONNX Runtime rejects the file, or can't run it. Exit code 3. */
export class RuntimeRefusal extends FormatError {}

/** What a crash says last. */
const STDERR_BYTES = 4096;

/**
 * @param path of the ONNX file; data files are looked for beside it
 * @throws EnvironmentError if onnxruntime-node is absent or its process dies; RuntimeRefusal (a FormatError) if it
 *   refuses the file or fails to run it; the signal's reason when aborted
 */
export async function runOnnx(path: string, input: RuntimeInput): Promise<RuntimeResult> {
  const { inputs, shape, signal, onProgress } = input;
  signal?.throwIfAborted();
  const stride = shape.reduce((product, side) => product * side, 1);
  const images = inputs.length / stride;
  if (!Number.isInteger(images) || images < 1) {
    throw new FormatError(`${inputs.length} values are no batch of [${shape.join(', ')}] images`);
  }
  const job: Job = {
    path,
    inputName: input.inputName ?? 'pixel_values',
    data: inputs,
    shape,
    images,
    ...(input.masks && { masks: input.masks }),
    batch: input.batch ?? images,
    threads: input.threads ?? availableParallelism(),
    ...(input.fetch && { fetch: input.fetch }),
  };
  const label = basename(path);
  onProgress?.({ phase: 'runtime', label, done: 0, total: images, unit: 'steps' });

  // Advanced serialization hands typed arrays over as bytes. Nothing of what the runtime prints may reach our output.
  const child = fork(input.child ?? fileURLToPath(compiledUrl('./runtime-child.js', import.meta.url)), [], {
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    execArgv: [],
  });
  const kill = (): void => void child.kill('SIGKILL');
  process.once('exit', kill);
  signal?.addEventListener('abort', kill, { once: true });
  try {
    const answer = await converse(child, job, (done) => {
      onProgress?.({ phase: 'runtime', label, done, total: images, unit: 'steps' });
    });
    signal?.throwIfAborted();
    return resultOf(answer, path);
  } finally {
    process.off('exit', kill);
    signal?.removeEventListener('abort', kill);
    kill();
  }
}

interface Ending {
  readonly kind: 'died';
  readonly how: string;
  readonly stderr: string;
}

type Final = Exclude<Answer, { kind: 'progress' }> | Ending;

/** Send the job, wait for the last word or the end of the process. */
function converse(child: ChildProcess, job: Job, onDone: (done: number) => void): Promise<Final> {
  return new Promise((resolve) => {
    let stderr = '';
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      stderr = (stderr + text).slice(-STDERR_BYTES);
    });
    child.on('message', (answer: Answer) => {
      if (answer.kind === 'progress') onDone(answer.done);
      else resolve(answer);
    });
    child.on('error', (error) => resolve({ kind: 'died', how: error.message, stderr }));
    // `close` comes after the last message and the last of stderr.
    child.on('close', (code, signal) => {
      resolve({ kind: 'died', how: signal ? `signal ${signal}` : `exit code ${code}`, stderr });
    });
    // Whether it arrived shows in the answer, or in the end of the process.
    child.send(job, () => undefined);
  });
}

function resultOf(answer: Final, path: string): RuntimeResult {
  const file = printable(basename(path));
  switch (answer.kind) {
    case 'done':
      return {
        outputs: new Map(answer.outputs.map(({ name, dims, data }) => [name, { dims, data: widened(data) }])),
        version: answer.version,
        peakMemoryBytes: answer.peakMemoryBytes,
      };
    case 'missing':
      throw missingRuntime(answer.message);
    case 'failed': {
      const what = answer.step === 'load' ? 'does not load' : 'fails to run';
      // Messages go into reports: no folder, which may be another one in the next run.
      const message = answer.message.replaceAll(path, basename(path));
      throw new RuntimeRefusal(`ONNX Runtime ${what} ${file}: ${firstLine(message)}`);
    }
    case 'died': {
      const last = lastLine(answer.stderr);
      throw new EnvironmentError(
        `the process that runs ${file} in ONNX Runtime ended by ${answer.how}${last ? `: ${last}` : ''}`,
        { next: 'Most often memory ran out: close other programs, or verify on a larger machine.' },
      );
    }
  }
}

function widened(data: Float32Array | Uint16Array): Float32Array {
  return data instanceof Float32Array ? data : Float32Array.from(data, float16ToNumber);
}

/**
 * Fail before the work, not after it, when verification can't be done.
 *
 * @throws EnvironmentError if onnxruntime-node is not installed
 */
export function requireRuntime(): void {
  try {
    createRequire(import.meta.url).resolve('onnxruntime-node');
  } catch (error) {
    throw missingRuntime(error instanceof Error ? error.message : String(error));
  }
}

function missingRuntime(message: string): EnvironmentError {
  const absent = /cannot find (package|module) 'onnxruntime-node'/i.test(message);
  const why = absent ? 'which is not installed' : `which does not start: ${firstLine(message)}`;
  return new EnvironmentError(`verification needs onnxruntime-node, ${why}`, {
    next:
      'Install it: npm install onnxruntime-node (without internet access, set ONNXRUNTIME_NODE_INSTALL=skip for that ' +
      'command), or skip verification: --no-verify.',
  });
}

function firstLine(text: string): string {
  return printable(text.split('\n', 1)[0].trim(), 300);
}

function lastLine(text: string): string {
  return printable(text.trim().split('\n').at(-1)!.trim(), 300);
}
