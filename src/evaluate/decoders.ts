/**
 * Threads that decode pictures while the model runs.
 */
import { Worker } from 'node:worker_threads';
import { compiledUrl } from '../compiled.js';
import { EnvironmentError, printable } from '../errors.js';
import type { Preprocessing } from '../image.js';
import type { DecodeAnswer, DecodeRequest } from './decode-worker.js';

export interface Picture {
  readonly path: string;
  /** what messages call it */
  readonly shown: string;
}

export type Decoded =
  | { /** `[channels, H, W]`, one per preprocessing */ readonly pixels: readonly Float32Array[] }
  | { /** why, one sentence */ readonly unreadable: string };

interface Waiting {
  readonly shown: string;
  resolve(decoded: Decoded): void;
  reject(error: Error): void;
}

export class Decoders {
  readonly #workers: Worker[];
  readonly #waiting = new Map<number, Waiting & { readonly worker: Worker }>();
  #next = 0;

  constructor(threads: number, preprocessings: readonly Preprocessing[]) {
    this.#workers = Array.from({ length: threads }, () => {
      const worker = new Worker(compiledUrl('./decode-worker.js', import.meta.url), {
        workerData: { preprocessings },
        execArgv: [],
      });
      worker.on('message', (answer: DecodeAnswer) => this.#receive(answer));
      worker.on('error', (error) => this.#lost(worker, error.message));
      worker.on('exit', (code) => this.#lost(worker, `exit code ${code}`));
      return worker;
    });
  }

  /** @throws EnvironmentError if sharp is not installed or a thread ends */
  decode({ path, shown }: Picture): Promise<Decoded> {
    return new Promise((resolve, reject) => {
      const id = this.#next++;
      const worker = this.#workers[id % this.#workers.length];
      this.#waiting.set(id, { shown, resolve, reject, worker });
      worker.postMessage({ id, path, shown } satisfies DecodeRequest);
    });
  }

  /**
   * Pictures in their order, at most `window` of them decoded ahead.
   *
   * @returns each with its decoded form
   */
  async *inOrder<T extends Picture>(
    pictures: Iterable<T>,
    window: number,
  ): AsyncGenerator<readonly [T, Decoded]> {
    const ahead: Promise<readonly [T, Decoded]>[] = [];
    const source = pictures[Symbol.iterator]();
    const more = (): void => {
      const { done, value } = source.next();
      if (done) return;
      const decoding = this.decode(value).then((decoded) => [value, decoded] as const);
      // Whoever awaits it later gets the error; until then it is nobody's.
      decoding.catch(() => undefined);
      ahead.push(decoding);
    };
    for (let i = 0; i < window; i++) more();
    for (let next = ahead.shift(); next !== undefined; next = ahead.shift()) {
      const ready = await next;
      more();
      yield ready;
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }

  #receive(answer: DecodeAnswer): void {
    const waiting = this.#waiting.get(answer.id);
    if (!waiting) return;
    this.#waiting.delete(answer.id);
    if ('failed' in answer) waiting.reject(new EnvironmentError(answer.failed, { next: answer.next }));
    else waiting.resolve(answer);
  }

  #lost(worker: Worker, why: string): void {
    for (const [id, waiting] of this.#waiting) {
      if (waiting.worker !== worker) continue;
      this.#waiting.delete(id);
      waiting.reject(
        new EnvironmentError(
          `the thread that decodes ${printable(waiting.shown)} ended: ${printable(why, 300)}`,
        ),
      );
    }
  }
}
