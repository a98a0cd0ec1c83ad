/**
 * A hub on 127.0.0.1, with its storage ("CDN") on another port, that can be told to misbehave.
 *
 * @see `@huggingface/hub` `model-info.ts`, `paths-info.ts` for the API; huggingface_hub `file_download.py` and
 *   `utils/_http.py` for `resolve`, its headers and `X-Error-Code`
 */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';

export interface StoredFile {
  readonly content: Buffer;
  /** kept on the CDN; otherwise the hub itself sends it */
  readonly lfs?: boolean;
  /** of a content that is too large to be hashed for every request */
  readonly sha256?: string;
  /** what the API states, when that is not the truth */
  readonly stated?: Record<string, unknown>;
}

/** One deviation from good behaviour; used up by the first request that it fits. */
export interface Fault {
  readonly on: 'hub' | 'cdn';
  /** part of the path */
  readonly path?: string;
  readonly status?: number;
  readonly headers?: Record<string, string>;
  readonly body?: string;
  /** close the connection once the client has so many bytes of the body, see {@link HubServer.received} */
  readonly cutAfter?: number;
  /** say nothing more after so many bytes of the body */
  readonly stallAfter?: number;
  /** send the whole file although a range was asked for */
  readonly ignoreRange?: boolean;
  /** flip a bit of the first byte sent */
  readonly damage?: boolean;
  /** send more than there is */
  readonly surplus?: number;
}

export interface Seen {
  readonly on: 'hub' | 'cdn';
  readonly method: string;
  readonly path: string;
  readonly range: string | undefined;
  readonly authorization: string | undefined;
}

export const COMMIT = 'c0ffee'.padEnd(40, '1');

export const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

export const gitBlobId = (bytes: Uint8Array): string =>
  createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');

export class HubServer {
  readonly files = new Map<string, StoredFile>();
  /** files of other repositories, by `owner/name`; all at the same commit */
  readonly others = new Map<string, Map<string, StoredFile>>();
  readonly faults: Fault[] = [];
  readonly seen: Seen[] = [];
  /** what `main` is */
  commit = COMMIT;
  /** bytes of bodies that the CDN has sent */
  sent = 0;
  readonly #repo: string;
  #cut: { readonly at: number; readonly cut: () => void } | undefined;
  readonly #onCut = (at: number, cut: () => void): void => void (this.#cut = { at, cut });
  readonly #sockets = new Set<Socket>();
  #hub!: Server;
  #cdn!: Server;

  constructor(repo: string) {
    this.#repo = repo;
  }

  static async start(repo = 'owner/model'): Promise<HubServer> {
    const server = new HubServer(repo);
    server.#hub = await listen((request, response) => server.#onHub(request, response));
    server.#cdn = await listen((request, response) => server.#onCdn(request, response));
    for (const each of [server.#hub, server.#cdn]) {
      each.on('connection', (socket: Socket) => server.#sockets.add(socket));
    }
    return server;
  }

  get endpoint(): string {
    return addressOf(this.#hub);
  }

  get cdn(): string {
    return addressOf(this.#cdn);
  }

  /** All bytes that ever left, headers and API answers too. */
  get bytesWritten(): number {
    return [...this.#sockets].reduce((sum, socket) => sum + socket.bytesWritten, 0);
  }

  /**
   * How far the client says that it has come. A connection is cut only then: bytes that were sent and not yet read are
   * lost with it, and how many those are is chance.
   */
  received(bytes: number): void {
    if (this.#cut?.at !== bytes) return;
    this.#cut.cut();
    this.#cut = undefined;
  }

  /** Ranges asked of the storage, as `bytes=5-`. */
  ranges(): string[] {
    return this.seen.filter((one) => one.on === 'cdn').map((one) => one.range ?? 'all');
  }

  async stop(): Promise<void> {
    for (const server of [this.#hub, this.#cdn]) {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    }
  }

  #note(on: 'hub' | 'cdn', request: IncomingMessage): Fault | undefined {
    const path = decodeURIComponent(new URL(request.url ?? '/', 'http://x').pathname);
    const { range, authorization } = request.headers;
    this.seen.push({ on, method: request.method ?? '', path, range, authorization });
    const index = this.faults.findIndex((fault) => fault.on === on && path.includes(fault.path ?? ''));
    return index < 0 ? undefined : this.faults.splice(index, 1)[0];
  }

  #onHub(request: IncomingMessage, response: ServerResponse): void {
    const fault = this.#note('hub', request);
    if (fault?.status !== undefined) {
      response.writeHead(fault.status, fault.headers).end(fault.body ?? '');
      return;
    }
    if (fault?.cutAfter !== undefined) {
      request.socket.destroy();
      return;
    }
    if (fault?.stallAfter !== undefined) return;
    const path = decodeURIComponent(new URL(request.url ?? '/', 'http://x').pathname);
    const repo = [...this.others.keys()].find((name) => path.includes(`/${name}/`)) ?? this.#repo;
    const files = this.others.get(repo) ?? this.files;
    const api = `/api/models/${repo}/`;
    const resolve = `/${repo}/resolve/`;
    if (!path.startsWith(api) && !path.startsWith(resolve)) fail(response, 'RepoNotFound', 404);
    else if (path.startsWith(`${api}revision/`))
      this.#revision(response, { repo, files }, path.slice(`${api}revision/`.length), fault);
    else if (path.startsWith(`${api}paths-info/`)) this.#pathsInfo(request, response, files);
    else this.#resolve(request, response, files, path.slice(resolve.length), fault);
  }

  #revision(
    response: ServerResponse,
    { repo, files }: { readonly repo: string; readonly files: ReadonlyMap<string, StoredFile> },
    revision: string,
    fault: Fault | undefined,
  ): void {
    if (!['main', 'refs/pr/1', 'v1', this.commit].includes(revision))
      return fail(response, 'RevisionNotFound', 404);
    const siblings = [...files.keys()].map((rfilename) => ({ rfilename }));
    sendJson(response, fault?.body ?? { _id: '1', id: repo, sha: this.commit, siblings });
  }

  #pathsInfo(
    request: IncomingMessage,
    response: ServerResponse,
    files: ReadonlyMap<string, StoredFile>,
  ): void {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      const { paths } = JSON.parse(Buffer.concat(parts).toString()) as { paths: string[] };
      const found = paths.flatMap((path) => {
        const file = files.get(path);
        if (!file) return [];
        const size = file.content.length;
        const lfs = file.lfs
          ? { oid: file.sha256 ?? sha256(file.content), size, pointerSize: 134 }
          : undefined;
        return [{ type: 'file', path, size, oid: gitBlobId(file.content), lfs, ...file.stated }];
      });
      sendJson(response, found);
    });
  }

  #resolve(
    request: IncomingMessage,
    response: ServerResponse,
    files: ReadonlyMap<string, StoredFile>,
    rest: string,
    fault: Fault | undefined,
  ): void {
    const slash = rest.indexOf('/');
    const file = files.get(rest.slice(slash + 1));
    if (rest.slice(0, slash) !== this.commit) fail(response, 'RevisionNotFound', 404);
    else if (!file) fail(response, 'EntryNotFound', 404);
    else if (file.lfs) {
      const location = `${this.cdn}/${encodeURIComponent(rest.slice(slash + 1))}?Signature=secret`;
      response.writeHead(302, {
        location,
        'x-linked-etag': `"${file.sha256 ?? sha256(file.content)}"`,
        'x-repo-commit': this.commit,
      });
      response.end();
    } else sendBytes(request, response, file.content, fault, this.#onCut);
  }

  #onCdn(request: IncomingMessage, response: ServerResponse): void {
    const fault = this.#note('cdn', request);
    if (fault?.status !== undefined) {
      response.writeHead(fault.status, fault.headers).end(fault.body ?? '');
      return;
    }
    const file = this.files.get(
      decodeURIComponent(new URL(request.url ?? '/', 'http://x').pathname.slice(1)),
    );
    if (!file) return void response.writeHead(404).end();
    this.sent += sendBytes(request, response, file.content, fault, this.#onCut);
  }
}

function fail(response: ServerResponse, code: string, status: number): void {
  response
    .writeHead(status, { 'x-error-code': code, 'content-type': 'application/json' })
    .end('{"error":"no"}');
}

function sendJson(response: ServerResponse, body: unknown): void {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  response.writeHead(200, { 'content-type': 'application/json' }).end(text);
}

/** @returns bytes of the body that were sent */
function sendBytes(
  request: IncomingMessage,
  response: ServerResponse,
  content: Buffer,
  fault: Fault | undefined,
  onCut: (at: number, cut: () => void) => void,
): number {
  const range = fault?.ignoreRange ? undefined : /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
  const start = range ? Number(range[1]) : 0;
  if (start >= content.length && range) {
    response.writeHead(416, { 'content-range': `bytes */${content.length}` }).end();
    return 0;
  }
  const last = range?.[2] ? Math.min(Number(range[2]), content.length - 1) : content.length - 1;
  let body = Buffer.from(content.subarray(start, last + 1));
  if (fault?.damage) body[0] ^= 1;
  const extra = fault?.surplus === undefined ? undefined : Buffer.alloc(fault.surplus);
  if (extra) body = Buffer.concat([body, extra]);
  response.writeHead(range ? 206 : 200, {
    ...(extra ? {} : { 'content-length': String(body.length) }),
    ...(range ? { 'content-range': `bytes ${start}-${last}/${content.length}` } : {}),
    ...fault?.headers,
  });
  const end = fault?.cutAfter ?? fault?.stallAfter;
  if (end === undefined) {
    response.end(body);
    return body.length;
  }
  const cut = (): void => void response.socket?.destroy();
  if (end === 0 && fault?.cutAfter === 0) cut();
  else response.write(body.subarray(0, end));
  if (fault?.cutAfter !== undefined) onCut(start + end, cut);
  return end;
}

function listen(handler: (request: IncomingMessage, response: ServerResponse) => void): Promise<Server> {
  const server = createServer(handler);
  return new Promise((done) => server.listen(0, '127.0.0.1', () => done(server)));
}

function addressOf(server: Server): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
