/**
 * Who does the oracle's tasks: worker threads, or this thread for small work.
 */
import { Worker } from 'node:worker_threads';
import { compiledUrl } from '../compiled.js';
import { EnvironmentError } from '../errors.js';
import { openMemory, type OracleBuffers, type Phase } from './oracle-memory.js';
import { releaseScratch } from './oracle-attention.js';
import { runTasks } from './oracle-tasks.js';

export interface Team {
  /** Do all tasks of a phase. Rejects with what went wrong in whichever thread. */
  run(phase: Phase): Promise<void>;
  /** Make the running phase, and every later one, reject with `reason`. */
  abort(reason: Error): void;
  /** End the threads; resolves when they are gone. */
  close(): Promise<void>;
}

/** No threads: tasks run here, and timers and signals get their turn between phases. */
export function localTeam(buffers: OracleBuffers): Team {
  const memory = openMemory(buffers);
  let failure: Error | undefined;
  return {
    async run(phase) {
      await new Promise((resolve) => setImmediate(resolve));
      if (failure) throw failure;
      Atomics.store(memory.next, 0, 0);
      runTasks(memory, phase);
    },
    abort(reason) {
      failure ??= reason;
    },
    close() {
      releaseScratch();
      return Promise.resolve();
    },
  };
}

/** @param url the compiled worker module, other than the oracle's own for tests only */
export function workerTeam(
  buffers: OracleBuffers,
  threads: number,
  url: URL = compiledUrl('./oracle-worker.js', import.meta.url),
): Team {
  const next = new Int32Array(buffers.buffers.next);
  let failure: Error | undefined;
  let closing = false;
  let running: { left: number; resolve: () => void; reject: (reason: Error) => void } | undefined;

  const fail = (reason: Error): void => {
    failure ??= reason;
    running?.reject(failure);
    running = undefined;
  };
  const workers = Array.from({ length: threads }, () => {
    const worker = new Worker(url, { workerData: buffers, execArgv: [], name: 'oracle' });
    worker.on('message', () => {
      if (!running || --running.left > 0) return;
      running.resolve();
      running = undefined;
    });
    worker.on('error', fail);
    worker.on('exit', (code) => {
      if (closing) return;
      fail(
        new EnvironmentError(`a thread of the float64 reference ended by itself with code ${code}`, {
          next: 'Use fewer threads if memory is short.',
        }),
      );
    });
    return worker;
  });

  return {
    run(phase) {
      if (failure) return Promise.reject(failure);
      return new Promise((resolve, reject) => {
        running = { left: workers.length, resolve, reject };
        Atomics.store(next, 0, 0);
        for (const worker of workers) worker.postMessage(phase);
      });
    },
    abort: fail,
    async close() {
      closing = true;
      await Promise.all(workers.map((worker) => worker.terminate()));
    },
  };
}
