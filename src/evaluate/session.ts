/**
 * A model that stays open in a process of its own and answers batches in the order in which they were sent.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { compiledUrl } from '../compiled.js';
import { EnvironmentError, FormatError, printable } from '../errors.js';
import type { Answer, OpenRequest, Request } from './session-child.js';

export interface SessionOptions {
  readonly path: string;
  /** names of the graph's input and of its output of class scores */
  readonly input: string;
  readonly output: string;
  readonly threads: number;
  readonly signal?: AbortSignal;
}

/** Scores of one batch. */
export interface Scores {
  /** `[images, classes]`, row-major */
  readonly data: Float32Array;
  /** time the runtime took, in seconds */
  readonly seconds: number;
}

/** What a crash says last. */
const STDERR_BYTES = 4096;

interface Waiting {
  resolve(scores: Scores): void;
  reject(error: Error): void;
}

export class ModelSession {
  /** of onnxruntime-node */
  version = '';
  /** of the process, so far */
  peakMemoryBytes = 0;
  readonly #file: string;
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, Waiting>();
  readonly #tidy: () => void;
  #onReady: { resolve(): void; reject(error: Error): void } | undefined;
  #next = 0;
  #failure: Error | undefined;

  /**
   * @throws EnvironmentError if onnxruntime-node is absent or its process dies; FormatError if it refuses the file; the
   *   signal's reason when aborted
   */
  static async open(options: SessionOptions): Promise<ModelSession> {
    options.signal?.throwIfAborted();
    const session = new ModelSession(options);
    try {
      await new Promise<void>((resolve, reject) => {
        session.#onReady = { resolve, reject };
        const request: OpenRequest = {
          kind: 'open',
          path: options.path,
          threads: options.threads,
          input: options.input,
          output: options.output,
        };
        session.#send(request);
      });
      return session;
    } catch (error) {
      session.close();
      throw error;
    }
  }

  private constructor({ path, signal }: SessionOptions) {
    this.#file = printable(basename(path));
    // Advanced serialization hands typed arrays over as bytes. Nothing the runtime prints may reach our output.
    const child = fork(fileURLToPath(compiledUrl('./session-child.js', import.meta.url)), [], {
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      execArgv: [],
    });
    this.#child = child;
    let stderr = '';
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      stderr = (stderr + text).slice(-STDERR_BYTES);
    });
    child.on('message', (answer: Answer) => this.#receive(answer));
    child.on('error', (error) => this.#fail(this.#died(error.message, stderr)));
    child.on('close', (code, by) => {
      this.#fail(this.#died(by ? `signal ${by}` : `exit code ${code}`, stderr));
    });
    const abort = (): void => {
      this.#fail(signal?.reason instanceof Error ? signal.reason : new Error('aborted'));
      this.close();
    };
    const kill = (): void => void child.kill('SIGKILL');
    process.once('exit', kill);
    signal?.addEventListener('abort', abort, { once: true });
    this.#tidy = () => {
      process.off('exit', kill);
      signal?.removeEventListener('abort', abort);
      kill();
    };
  }

  /**
   * @param data `[images, …]` row-major
   * @param dims of `data`
   * @throws FormatError if the runtime fails to run the model; EnvironmentError if its process dies
   */
  run(data: Float32Array, dims: readonly number[]): Promise<Scores> {
    return new Promise((resolve, reject) => {
      if (this.#failure) {
        reject(this.#failure);
        return;
      }
      const id = this.#next++;
      this.#waiting.set(id, { resolve, reject });
      this.#send({ kind: 'run', id, data, dims });
    });
  }

  close(): void {
    this.#fail(new Error('the session is closed'));
    this.#tidy();
  }

  #send(request: Request): void {
    // Whether it arrived shows in the answer, or in the end of the process.
    this.#child.send(request, () => undefined);
  }

  #receive(answer: Answer): void {
    switch (answer.kind) {
      case 'ready':
        this.version = answer.version;
        this.#onReady?.resolve();
        break;
      case 'missing':
        this.#fail(missingRuntime(answer.message));
        break;
      case 'failed': {
        const what = answer.step === 'load' ? 'does not load' : 'fails to run';
        this.#fail(new FormatError(`ONNX Runtime ${what} ${this.#file}: ${firstLine(answer.message)}`));
        break;
      }
      case 'result':
        this.peakMemoryBytes = answer.peakMemoryBytes;
        this.#waiting.get(answer.id)?.resolve({ data: answer.data, seconds: answer.seconds });
        this.#waiting.delete(answer.id);
        break;
    }
  }

  /** The first failure counts, for everybody who waits. */
  #fail(error: Error): void {
    this.#failure ??= error;
    this.#onReady?.reject(this.#failure);
    for (const { reject } of this.#waiting.values()) reject(this.#failure);
    this.#waiting.clear();
  }

  #died(how: string, stderr: string): EnvironmentError {
    const last = printable(stderr.trim().split('\n').at(-1)!.trim(), 300);
    return new EnvironmentError(
      `the process that runs ${this.#file} in ONNX Runtime ended by ${how}${last ? `: ${last}` : ''}`,
      { next: 'Most often memory ran out: use a smaller --batch, or a larger machine.' },
    );
  }
}

function missingRuntime(message: string): EnvironmentError {
  const absent = /cannot find (package|module) 'onnxruntime-node'/i.test(message);
  const why = absent ? 'which is not installed' : `which does not start: ${firstLine(message)}`;
  return new EnvironmentError(`running a model needs onnxruntime-node, ${why}`, {
    next:
      'Install it: npm install onnxruntime-node (without internet access, set ONNXRUNTIME_NODE_INSTALL=skip for that ' +
      'command).',
  });
}

function firstLine(text: string): string {
  return printable(text.split('\n', 1)[0].trim(), 300);
}
