/** A hub that takes uploads, on loopback: repositories, LFS and commits, with failures on demand. */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Repository {
  readonly isPrivate: boolean;
  readonly files: Map<string, Buffer>;
  readonly lfs: Set<string>;
  commits: { readonly title: string; readonly paths: readonly string[]; readonly pullRequest: boolean }[];
}

/** What to answer instead, for the requests whose `METHOD path` matches. */
export interface Trouble {
  readonly match: RegExp;
  readonly status: number;
  readonly headers?: Record<string, string>;
  /** how often; default always */
  times?: number;
  /** cut the connection after the request's body arrived (or before, for uploads) */
  readonly cut?: boolean;
}

export class HubWriteServer {
  readonly repositories = new Map<string, Repository>();
  readonly objects = new Map<string, Buffer>();
  readonly requests: string[] = [];
  readonly tokens = new Set(['hf_good']);
  troubles: Trouble[] = [];
  #server!: Server;
  url = '';

  async start(): Promise<void> {
    this.#server = createServer((request, response) => {
      this.#answer(request, response).catch((error: unknown) => {
        response.writeHead(500).end(String(error));
      });
    });
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    this.url = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  addRepository(name: string, isPrivate = false): Repository {
    const repository: Repository = { isPrivate, files: new Map(), lfs: new Set(), commits: [] };
    this.repositories.set(name, repository);
    return repository;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams } = new URL(request.url ?? '/', this.url);
    const line = `${request.method} ${pathname}`;
    this.requests.push(line);
    const trouble = this.troubles.find(({ match, times }) => match.test(line) && (times ?? 1) > 0);
    if (trouble?.cut) {
      if (trouble.times !== undefined) trouble.times -= 1;
      request.socket.destroy();
      return;
    }
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks);
    const send = (status: number, value: unknown, headers: Record<string, string> = {}): void => {
      response.writeHead(status, { 'content-type': 'application/json', ...headers });
      response.end(JSON.stringify(value));
    };
    if (trouble) {
      if (trouble.times !== undefined) trouble.times -= 1;
      return send(trouble.status, { error: `trouble ${trouble.status}` }, trouble.headers);
    }
    const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1];
    if (!pathname.startsWith('/store/') && (token === undefined || !this.tokens.has(token))) {
      return send(401, { error: 'Invalid username or password.' });
    }
    if (line === 'POST /api/repos/create') {
      const {
        name,
        organization,
        private: hidden,
        visibility,
      } = JSON.parse(String(body)) as Record<string, string>;
      const full = organization ? `${organization}/${name}` : `me/${name}`;
      if (this.repositories.has(full)) return send(409, { error: 'You already created this model repo' });
      this.addRepository(full, Boolean(hidden) || visibility === 'private');
      return send(200, { url: `${this.url}/${full}`, name: full, id: full });
    }
    const store = /^\/store\/([0-9a-f]{64})$/.exec(pathname);
    if (store) {
      if (createHash('sha256').update(body).digest('hex') !== store[1])
        return send(400, { error: 'wrong content' });
      this.objects.set(store[1], body);
      response.writeHead(200).end();
      return;
    }
    const batch = /^\/([^/]+\/[^/]+)\.git\/info\/lfs\/objects\/batch$/.exec(pathname);
    const api = /^\/api\/models\/([^/]+\/[^/]+)(?:\/(.*))?$/.exec(pathname);
    const name = batch?.[1] ?? api?.[1] ?? '';
    const repository = this.repositories.get(name);
    if (!repository) return send(404, { error: 'Repository not found' });
    if (batch) {
      const { objects } = JSON.parse(String(body)) as { objects: { oid: string; size: number }[] };
      return send(200, {
        transfer: 'basic',
        objects: objects.map(({ oid, size }) => ({
          oid,
          size,
          ...(this.objects.has(oid)
            ? {}
            : { actions: { upload: { href: `${this.url}/store/${oid}`, header: {} } } }),
        })),
      });
    }
    const action = api?.[2] ?? '';
    if (action === '') return send(200, { id: name, private: repository.isPrivate });
    if (action.startsWith('preupload/')) {
      const { files } = JSON.parse(String(body)) as { files: { path: string; size: number }[] };
      return send(200, {
        files: files.map(({ path }) => ({
          path,
          uploadMode: /\.(onnx|onnx_data|safetensors)$/.test(path) ? 'lfs' : 'regular',
        })),
      });
    }
    if (action.startsWith('paths-info/')) {
      const { paths } = JSON.parse(String(body)) as { paths: string[] };
      return send(
        200,
        paths.flatMap((path) => pathInfo(repository, path)),
      );
    }
    if (action.startsWith('commit/')) {
      return send(200, this.#commit(repository, name, String(body), searchParams.get('create_pr') === '1'));
    }
    return send(404, { error: `nothing at ${line}` });
  }

  #commit(repository: Repository, name: string, body: string, pullRequest: boolean): object {
    const lines = body
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { key: string; value: Record<string, string> });
    const fresh = new Map<string, { bytes: Buffer; lfs: boolean }>();
    let title = '';
    for (const { key, value } of lines) {
      if (key === 'header') title = value['summary'];
      if (key === 'file')
        fresh.set(value['path'], { bytes: Buffer.from(value['content'], 'base64'), lfs: false });
      if (key === 'lfsFile') {
        const bytes = this.objects.get(value['oid']);
        if (!bytes) throw new Error(`${value['path']}: object ${value['oid']} was not uploaded`);
        fresh.set(value['path'], { bytes, lfs: true });
      }
    }
    if (!pullRequest) {
      for (const [path, { bytes, lfs }] of fresh) {
        repository.files.set(path, bytes);
        if (lfs) repository.lfs.add(path);
        else repository.lfs.delete(path);
      }
    }
    repository.commits.push({ title, paths: [...fresh.keys()].sort(), pullRequest });
    const oid = createHash('sha1').update(body).digest('hex');
    return {
      commitOid: oid,
      commitUrl: `${this.url}/${name}/commit/${oid}`,
      hookOutput: '',
      ...(pullRequest && { pullRequestUrl: `${this.url}/${name}/discussions/1` }),
    };
  }
}

function pathInfo(repository: Repository, path: string): object[] {
  const bytes = repository.files.get(path);
  if (!bytes) return [];
  const oid = createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  return [
    {
      type: 'file',
      path,
      size: bytes.length,
      oid: repository.lfs.has(path) ? createHash('sha1').update(sha256).digest('hex') : oid,
      ...(repository.lfs.has(path) && { lfs: { oid: sha256, size: bytes.length, pointerSize: 134 } }),
    },
  ];
}
