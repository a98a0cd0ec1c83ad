/** A plain web server on 127.0.0.1 that counts what it sends and can be told to misbehave. */
import { open } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface ServedFile {
  /** its bytes, or a file on the disk with them */
  readonly content: Buffer | { readonly path: string; readonly size: number };
  readonly headers?: Record<string, string>;
}

/** One deviation from good behaviour; used up by the first request whose path contains `path`. */
export interface Misdeed {
  readonly path?: string;
  readonly status?: number;
  /** set last; an empty value takes a header away */
  readonly headers?: Record<string, string>;
  readonly body?: string | Buffer;
  /** close the connection after so many bytes of the body */
  readonly cutAfter?: number;
  /** send the whole file although a part was asked for */
  readonly ignoreRange?: boolean;
}

export interface Request {
  readonly path: string;
  readonly range: string | undefined;
  readonly authorization: string | undefined;
}

export class FileServer {
  readonly files = new Map<string, ServedFile>();
  readonly misdeeds: Misdeed[] = [];
  readonly seen: Request[] = [];
  /** bytes of bodies */
  sent = 0;
  /** of every answer, as if the server were of another kind */
  always: Misdeed = {};
  #server!: Server;

  static async start(): Promise<FileServer> {
    const server = new FileServer();
    server.#server = createServer((request, response) => void server.#answer(request, response));
    await new Promise<void>((done) => server.#server.listen(0, '127.0.0.1', done));
    return server;
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((done) => this.#server.close(done));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = decodeURIComponent(new URL(request.url ?? '/', 'http://x').pathname);
    const { range, authorization } = request.headers;
    this.seen.push({ path, range, authorization });
    const index = this.misdeeds.findIndex((one) => path.includes(one.path ?? ''));
    const misdeed = { ...this.always, ...(index < 0 ? {} : this.misdeeds.splice(index, 1)[0]) };
    const file = this.files.get(path);
    if (misdeed.status !== undefined || !file) {
      const body = Buffer.from(misdeed.body ?? '');
      response.writeHead(misdeed.status ?? 404, { 'content-length': body.length, ...misdeed.headers });
      this.#send(response, body, misdeed);
      return;
    }
    const size = Buffer.isBuffer(file.content) ? file.content.length : file.content.size;
    const asked = misdeed.ignoreRange ? undefined : /^bytes=(\d+)-(\d*)$/.exec(range ?? '');
    const start = asked ? Number(asked[1]) : 0;
    const end = asked?.[2] ? Math.min(Number(asked[2]) + 1, size) : size;
    if (asked && start >= size) {
      response.writeHead(416, { 'content-range': `bytes */${size}` }).end();
      return;
    }
    const headers: Record<string, string> = {
      'content-length': String(end - start),
      ...(asked && { 'content-range': `bytes ${start}-${end - 1}/${size}` }),
      ...file.headers,
      ...misdeed.headers,
    };
    for (const [name, value] of Object.entries(headers))
      if (value === '') Reflect.deleteProperty(headers, name);
    response.writeHead(asked ? 206 : 200, headers);
    this.#send(response, misdeed.body ?? (await bytesOf(file, start, end)), misdeed);
  }

  #send(response: ServerResponse, body: string | Buffer, { cutAfter }: Misdeed): void {
    const bytes = Buffer.from(body).subarray(0, cutAfter);
    this.sent += bytes.length;
    if (cutAfter === undefined) response.end(bytes);
    // What has not left yet is lost with the connection, so it is closed a moment later.
    else response.write(bytes, () => setTimeout(() => response.socket?.destroy(), 20));
  }
}

async function bytesOf({ content }: ServedFile, start: number, end: number): Promise<Buffer> {
  if (Buffer.isBuffer(content)) return content.subarray(start, end);
  const file = await open(content.path);
  try {
    const bytes = Buffer.alloc(end - start);
    await file.read(bytes, 0, bytes.length, start);
    return bytes;
  } finally {
    await file.close();
  }
}
