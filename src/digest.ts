/**
 * SHA-256 beside the work: large streams are hashed in a worker thread, so that hashing costs no time of the copy.
 */
import { createHash } from 'node:crypto';
import { statSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import type { ByteSource } from './bytes.js';
import { compiledUrl } from './compiled.js';
import { EnvironmentError } from './errors.js';

export interface Digest {
  /** Add bytes. Resolves when `view` may be reused. Calls are hashed in the order they are made. */
  update(view: Uint8Array): Promise<void>;
  /** Lower-case hex of everything added. Ends the digest. */
  hex(): Promise<string>;
  /** End without a result. */
  abandon(): void;
}

/** Below this a worker's start costs more than it saves. */
const INLINE_BYTES = 16 * 1024 * 1024;

/** @param expectedBytes how much will come, to choose between this thread and another */
export function createDigest(expectedBytes: number): Digest {
  return expectedBytes < INLINE_BYTES ? inlineDigest() : workerDigest();
}

function inlineDigest(): Digest {
  const hash = createHash('sha256');
  return {
    update(view) {
      hash.update(view);
      return Promise.resolve();
    },
    hex: () => Promise.resolve(hash.digest('hex')),
    abandon: () => undefined,
  };
}

function startWorker(workerData?: { readonly path: string }): Worker {
  // execArgv: nothing that the parent was started with (loaders, inspectors) is needed, and all of it costs start time.
  const worker = new Worker(compiledUrl('./digest-worker.js', import.meta.url), { execArgv: [], workerData });
  worker.unref();
  return worker;
}

/** The digest of a whole file, computed by a thread that reads it by itself. */
export interface FileDigest {
  /** lower-case hex, and which file it was ({@link fileIdentity}) when the last byte had been read */
  result(): Promise<{ readonly hex: string; readonly identity: string }>;
  abandon(): void;
}

const started = new Map<string, FileDigest>();

/**
 * Start hashing a local file now, if it is large enough for a thread of its own. Hashing is the longest part of a
 * conversion, so it starts before anything else; whoever needs the digest takes it with {@link takeFileDigest}.
 */
export function prepareDigest(path: string): void {
  if (started.has(path)) return;
  const found = statSync(path, { throwIfNoEntry: false });
  if (found?.isFile() && found.size >= INLINE_BYTES) started.set(path, fileDigest(path));
}

/** The digest that {@link prepareDigest} started for this path, once. */
export function takeFileDigest(path: string): FileDigest | undefined {
  const digest = started.get(path);
  started.delete(path);
  return digest;
}

/** What of Node's `Stats` tells one file from another; named here so that our types need no types of Node. */
interface FileStats {
  readonly dev: number;
  readonly ino: number;
  readonly size: number;
  readonly mtimeMs: number;
}

/** Two equal ones are the same file with the same content, as far as a file system can tell. */
export function fileIdentity({ dev, ino, size, mtimeMs }: FileStats): string {
  return `${dev}:${ino}:${size}:${mtimeMs}`;
}

function fileDigest(path: string): FileDigest {
  const worker = startWorker({ path });
  const result = new Promise<{ hex: string; identity: string }>((resolve, reject) => {
    const fail = (error: unknown): void =>
      reject(new EnvironmentError('the hashing thread stopped', { cause: error }));
    worker.once('message', resolve);
    worker.once('error', fail);
    worker.once('exit', () => fail(new Error('exited')));
  });
  // Nobody may be waiting yet when it fails.
  result.catch(() => undefined);
  return {
    result() {
      worker.ref();
      return result;
    },
    abandon() {
      // Its end rejects `result`: whoever waits for it must not wait for ever.
      void worker.terminate();
    },
  };
}

/** Without the value; nobody may be waiting any more when it fails. */
function quiet(answer: Promise<unknown>): Promise<void> {
  const done = answer.then(() => undefined);
  done.catch(() => undefined);
  return done;
}

function workerDigest(): Digest {
  const worker = startWorker();
  const waiting: { resolve: (value: string) => void; reject: (error: unknown) => void }[] = [];
  const fail = (error: unknown): void => {
    const failure = new EnvironmentError('the hashing thread stopped', { cause: error });
    for (const { reject } of waiting.splice(0)) reject(failure);
  };
  // Answers come back in order: one message, one answer.
  worker.on('message', (answer: string) => waiting.shift()?.resolve(answer));
  worker.on('error', fail);
  worker.on('exit', () => fail(new Error('exited')));
  const ask = (message: unknown, transfer: ArrayBuffer[] = []): Promise<string> =>
    new Promise((resolve, reject) => {
      waiting.push({ resolve, reject });
      worker.postMessage(message, transfer);
    });
  return {
    update(view) {
      if (view.buffer instanceof SharedArrayBuffer) {
        return quiet(ask({ buffer: view.buffer, offset: view.byteOffset, length: view.length }));
      }
      const copy = view.slice();
      return quiet(
        ask({ buffer: copy.buffer, offset: 0, length: copy.length }, [copy.buffer as ArrayBuffer]),
      );
    },
    async hex() {
      const answer = await ask('hex');
      worker.removeAllListeners('exit');
      void worker.terminate();
      return answer;
    },
    abandon() {
      // Whoever waits for an answer must not wait for ever: the program would end without a word.
      fail(new Error('abandoned'));
      worker.removeAllListeners();
      void worker.terminate();
    },
  };
}

/**
 * The digest of a whole source, fed by whoever reads it anyway. Parts that nobody reads (headers, index buffers) are
 * read here, so that every byte is hashed once and in order.
 */
export class SourceDigest {
  readonly #source: ByteSource;
  readonly #digest: Digest;
  #position = 0;
  #tail: Promise<void> = Promise.resolve();

  constructor(source: ByteSource) {
    this.#source = source;
    this.#digest = createDigest(source.size);
  }

  /** `view` holds the source's bytes from `start` on. Resolves when `view` may be reused. */
  feed(start: number, view: Uint8Array): Promise<void> {
    this.#tail = this.#tail.then(async () => {
      if (start > this.#position) await this.#readTo(start);
      const fresh = view.subarray(this.#position - start);
      if (fresh.length === 0) return;
      this.#position += fresh.length;
      await this.#digest.update(fresh);
    });
    return this.#tail;
  }

  async hex(): Promise<string> {
    await this.#tail;
    await this.#readTo(this.#source.size);
    return await this.#digest.hex();
  }

  abandon(): void {
    this.#tail.catch(() => undefined);
    this.#digest.abandon();
  }

  async #readTo(end: number): Promise<void> {
    const step = 1024 * 1024;
    while (this.#position < end) {
      const next = Math.min(this.#position + step, end);
      const bytes = await this.#source.read(this.#position, next);
      this.#position = next;
      await this.#digest.update(bytes);
    }
  }
}

/** SHA-256 of a whole source, in one pass of its own. */
export async function sha256Of(source: ByteSource, signal?: AbortSignal): Promise<string> {
  const digest = createDigest(source.size);
  try {
    const step = 4 * 1024 * 1024;
    for (let at = 0; at < source.size; at += step) {
      signal?.throwIfAborted();
      await digest.update(await source.read(at, Math.min(at + step, source.size)));
    }
    return await digest.hex();
  } catch (error) {
    digest.abandon();
    throw error;
  }
}
