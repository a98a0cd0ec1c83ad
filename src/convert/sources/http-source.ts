/**
 * A file behind an address as a {@link ByteSource}: range requests, nothing on the disk.
 *
 * Small reads in a row become one request (a first part of 64 kB; parts double while reading goes on), large ones are
 * cut into parts of 4 MiB, and the next two parts are under way while one is used. At most {@link KEPT} parts are in
 * memory, whatever the file's size.
 */
import { checkRange, formatBytes, type ByteSource } from '../../bytes.js';
import { EnvironmentError, NetworkError, printable } from '../../errors.js';
import { sameVersion } from './file-version.js';
import { mayRetry, RequestFailure, throwIfStopped, type HttpContext } from './hub-http.js';
import {
  askForPart,
  changedError,
  difference,
  type PartAnswer,
  type PartFacts,
  type WholeAnswer,
} from './range.js';

/** A first part holds the header of every published BEiT. */
const FIRST_BYTES = 64 * 1024;
const PART_BYTES = 4 * 1024 * 1024;
/** A hole of this size costs less than a request of its own. */
const NEAR_BYTES = 64 * 1024;
/** Reading that has come so far in one go will go on. */
const STEADY_BYTES = 1024 * 1024;
const AHEAD = 2;
const KEPT = 6;
const FAILURES_IN_A_ROW = 5;

export interface RemoteFile {
  readonly url: string;
  /** what the source is called; its last part is the file's name */
  readonly name: string;
  /** length in bytes, where somebody other than the file's server states it */
  readonly bytes?: number;
  /** a request's failure as a sentence */
  readonly explain: (failure: unknown) => Error;
}

interface Part {
  readonly start: number;
  readonly end: number;
  readonly bytes: Promise<Uint8Array>;
  /** reading had come here from the part before */
  readonly goesOn: boolean;
  readonly controller: AbortController;
  waiting: number;
  /** all of it has come, to this memory */
  memory: Buffer | undefined;
}

/**
 * Open a remote file; its first bytes come along.
 *
 * @throws NetworkError if it can't be had, the server sends no parts of files, or another length than the stated one;
 *   InterruptedError
 */
export async function openHttp(remote: RemoteFile, context: HttpContext): Promise<ByteSource> {
  const end = Math.min(FIRST_BYTES, remote.bytes ?? FIRST_BYTES);
  const connection = new Connection(remote, context);
  const first = await connection.open(end);
  return new HttpSource(remote.name, connection, first);
}

class HttpSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly #connection: Connection;
  /** least recently used first */
  #parts: Part[] = [];
  #expected = { start: 0, end: 0 };
  /** of parts that nobody needs any more: new memory for each would wait for the garbage collector */
  readonly #spare: Buffer[] = [];
  #closed = false;

  constructor(name: string, connection: Connection, first: Uint8Array) {
    this.name = name;
    this.size = connection.size;
    this.#connection = connection;
    this.#parts.push({
      start: 0,
      end: first.length,
      bytes: Promise.resolve(first),
      goesOn: false,
      controller: new AbortController(),
      waiting: 0,
      memory: undefined,
    });
  }

  async read(start: number, end: number): Promise<Uint8Array> {
    checkRange(this, start, end);
    const target = new Uint8Array(end - start);
    await this.#fill(target, start);
    return target;
  }

  async readInto(target: Uint8Array, start: number): Promise<void> {
    checkRange(this, start, start + target.length);
    await this.#fill(target, start);
  }

  expect(start: number, end: number): void {
    this.#expected = { start, end };
  }

  close(): Promise<void> {
    this.#closed = true;
    for (const part of this.#parts.splice(0)) part.controller.abort();
    return Promise.resolve();
  }

  async #fill(target: Uint8Array, start: number): Promise<void> {
    const end = start + target.length;
    for (let at = start; at < end;) {
      if (this.#closed)
        throw new EnvironmentError(`${printable(this.name, 300)} was closed while it was read`);
      const part = this.#partAt(at, end);
      part.waiting += 1;
      try {
        this.#readAhead(part, end);
        const bytes = await part.bytes;
        const piece = bytes.subarray(at - part.start, Math.min(end, part.end) - part.start);
        target.set(piece, at - start);
        at += piece.length;
      } finally {
        part.waiting -= 1;
      }
    }
  }

  #partAt(at: number, readEnd: number): Part {
    const index = this.#parts.findIndex((part) => at >= part.start && at < part.end);
    if (index >= 0) {
      const [part] = this.#parts.splice(index, 1);
      this.#parts.push(part);
      return part;
    }
    const before = this.#parts.find((part) => at >= part.end && at - part.end <= NEAR_BYTES);
    const grown = before ? 2 * (before.end - before.start) : FIRST_BYTES;
    const planned = this.#plannedEnd(at);
    const wanted = planned === undefined ? Math.max(readEnd - at, grown) : planned - at;
    return this.#start(at, at + Math.max(wanted, FIRST_BYTES), before !== undefined);
  }

  #plannedEnd(at: number): number | undefined {
    return at >= this.#expected.start && at < this.#expected.end ? this.#expected.end : undefined;
  }

  /** What will be read next for certain, or very likely, and nothing beyond. */
  #readAhead(part: Part, readEnd: number): void {
    const length = part.end - part.start;
    const steady = part.goesOn && length >= STEADY_BYTES;
    const planned = this.#plannedEnd(part.start);
    let horizon = Math.max(readEnd, planned ?? (steady ? this.size : 0));
    // A small read that ends just behind this part is one of many.
    if (planned === undefined && !steady && horizon > part.end && horizon - part.end <= NEAR_BYTES) {
      horizon = part.end + Math.max(2 * Math.min(length, STEADY_BYTES), NEAR_BYTES);
    }
    for (let next = part, ahead = 0; ahead < AHEAD && next.end < horizon; ahead++) {
      const from = next.end;
      next =
        this.#parts.find((other) => from >= other.start && from < other.end) ??
        this.#start(from, horizon, true);
    }
  }

  #start(start: number, wantedEnd: number, goesOn: boolean): Part {
    const end = Math.min(wantedEnd, start + PART_BYTES, this.size);
    const controller = new AbortController();
    const length = end - start;
    const memory = length < STEADY_BYTES ? Buffer.allocUnsafeSlow(length) : this.#memory();
    const bytes = this.#connection.fetch(start, memory.subarray(0, length), controller.signal);
    const part: Part = { start, end, bytes, goesOn, controller, waiting: 0, memory: undefined };
    // Also told to whoever waits; a part that nobody waits for may fail unheard, and is asked for again.
    bytes.then(
      () => (part.memory = memory),
      () => (this.#parts = this.#parts.filter((other) => other !== part)),
    );
    this.#parts.push(part);
    while (this.#parts.length > KEPT) {
      const idle = this.#parts.findIndex((other) => other.waiting === 0 && other !== part);
      const [dropped] = this.#parts.splice(Math.max(idle, 0), 1);
      if (dropped.waiting > 0) continue;
      dropped.controller.abort();
      if (dropped.memory?.length === PART_BYTES) this.#spare.push(dropped.memory);
    }
    return part;
  }

  #memory(): Buffer {
    return this.#spare.pop() ?? Buffer.allocUnsafeSlow(PART_BYTES);
  }
}

/** The requests for one file: where they go, what every answer must agree with, and their repetition. */
class Connection {
  readonly #remote: RemoteFile;
  readonly #context: HttpContext;
  /** where the redirects ended; a signed address serves for a while */
  #direct: string | undefined;
  #facts: PartFacts | undefined;

  constructor(remote: RemoteFile, context: HttpContext) {
    this.#remote = remote;
    this.#context = context;
  }

  get size(): number {
    return this.#facts?.total ?? 0;
  }

  /** The bytes `[0, end)`, or fewer when the file is shorter. */
  async open(end: number): Promise<Uint8Array> {
    const { bytes: stated, name } = this.#remote;
    // A file of no bytes has no part that one could ask for.
    if (stated === 0) this.#facts = { total: 0, version: {} };
    const bytes = new Uint8Array(end);
    if (stated !== 0) await this.fetch(0, bytes);
    if (stated !== undefined && this.size !== stated) {
      throw new NetworkError(
        `${printable(name, 300)} has ${formatBytes(this.size)} on its server; ${formatBytes(stated)} are stated for it`,
        { next: 'A proxy or a sign-in page may stand between.' },
      );
    }
    return bytes.subarray(0, this.size);
  }

  /** Fill `target` with what begins at `start`, or as much of it as the file has. */
  async fetch(start: number, target: Uint8Array, stop?: AbortSignal): Promise<Uint8Array> {
    const end = start + target.length;
    const signals = [this.#context.signal, stop].filter((signal) => signal !== undefined);
    const context = { ...this.#context, signal: AbortSignal.any(signals) };
    const progress = { at: start };
    let inARow = 0;
    const goal = (): number => Math.min(end, this.#facts?.total ?? end);
    while (progress.at < goal()) {
      const before = progress.at;
      try {
        await this.#receive(context, target.subarray(progress.at - start), end, progress);
      } catch (error) {
        throwIfStopped(this.#context.signal);
        inARow = progress.at > before ? 1 : inARow + 1;
        if (
          inARow >= FAILURES_IN_A_ROW ||
          !(await mayRetry(context, error, inARow, this.#facts !== undefined))
        ) {
          throw error instanceof RequestFailure ? this.#explained(error) : error;
        }
      }
    }
    return target;
  }

  #explained(failure: RequestFailure): Error {
    if (failure.status === 416 && this.#facts) {
      return changedError(printable(this.#remote.name, 300), 'it is shorter now');
    }
    return this.#remote.explain(failure);
  }

  async #receive(
    context: HttpContext,
    target: Uint8Array,
    end: number,
    progress: { at: number },
  ): Promise<void> {
    const start = progress.at;
    const asked = await this.#ask(context, start, end);
    const { answer } = asked;
    try {
      const part = this.#agreed(asked);
      for await (const chunk of answer.chunks()) {
        if (progress.at + chunk.length > part.end) {
          throw new RequestFailure(answer.url, 'more bytes than the answer announced', { transient: true });
        }
        target.set(chunk, progress.at - start);
        progress.at += chunk.length;
      }
      if (progress.at < part.end) {
        throw new RequestFailure(answer.url, 'the answer ended early', {
          transient: true,
          code: 'ECONNRESET',
        });
      }
    } finally {
      answer.cancel();
    }
  }

  /** Where a redirect led before is asked first; if that address has expired, the file's own gives a new one. */
  async #ask(context: HttpContext, start: number, end: number): Promise<PartAnswer | WholeAnswer> {
    if (this.#direct !== undefined) {
      try {
        return await askForPart(context, this.#direct, start, end);
      } catch (error) {
        const refused = error instanceof RequestFailure && error.status !== undefined && !error.transient;
        if (!refused || error.status === 416) throw error;
        this.#direct = undefined;
      }
    }
    const part = await askForPart(context, this.#remote.url, start, end);
    if (part.answer.url.href !== new URL(this.#remote.url).href) this.#direct = part.answer.url.href;
    return part;
  }

  #agreed(part: PartAnswer | WholeAnswer): PartAnswer {
    if (!part.ranged) {
      throw new NetworkError(
        `${part.answer.url.origin} sends whole files only (it ignores range requests), so ${printable(this.#remote.name, 300)} cannot be read in parts`,
        { next: 'Download it first: leave out --stream (or, for inspect, add --no-stream).' },
      );
    }
    const { total, version } = part;
    this.#facts ??= { total, version };
    if (this.#facts.total !== total || !sameVersion(this.#facts.version, version)) {
      throw changedError(printable(this.#remote.name, 300), difference(this.#facts, part));
    }
    return part;
  }
}
