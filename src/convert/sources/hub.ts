/**
 * A model repository on the Hugging Face Hub, through `@huggingface/hub` for what its API says (revisions, files) and
 * through `download.ts` for the bytes. The library's own download is not used: it starts again at byte 0, checks no
 * hash, trusts the server's names and writes to the console.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import type { PathInfo } from '@huggingface/hub';
import type { ByteSource } from '../../bytes.js';
import { FormatError, NetworkError, printable } from '../../errors.js';
import { httpContext, type NetworkOptions } from './context.js';
import { download, type DownloadHooks } from './download.js';
import { FIRST_CHOICE, isShardIndex, pickWeights, shardsOf } from './hub-choose.js';
import { RepoCache, type CachedFile } from './hub-cache.js';
import { cacheError, explain, hubId, waysOn, type Wanted } from './hub-errors.js';
import {
  readAll,
  request,
  RequestFailure,
  shownUrl,
  throwIfStopped,
  withRetries,
  type HttpContext,
} from './hub-http.js';
import { folderOf, isBlobId, isCommit, isRepoFile } from './hub-names.js';
import { isOutage } from './outage.js';

/** What to get; names have the grammar of `hub-names.ts`. */
export interface HubRequest {
  /** `owner/name` */
  readonly repo: string;
  /** branch, tag or commit; `main` when absent */
  readonly revision?: string | undefined;
  /** path in the repository; found out when absent */
  readonly file?: string | undefined;
}

export interface HubOptions extends DownloadHooks, NetworkOptions {
  /** weights that are not in the cache stay on the hub and are read from there */
  readonly stream?: boolean | undefined;
  /** a small file that can be done without: what the cache has is good enough, and one attempt */
  readonly brief?: boolean | undefined;
}

/** One file in the cache, or, with `open`, on the hub. */
export interface HubFile {
  readonly file: string;
  /** where it is in the cache, or would be */
  readonly path: string;
  readonly open?: () => Promise<ByteSource>;
  readonly bytes: number;
  /** what the hub states, compared with the bytes when they were downloaded; absent for large files of unknown origin */
  readonly sha256: string | undefined;
}

export interface HubModel {
  readonly repo: string;
  readonly revision: string;
  readonly commit: string;
  /** the weights, or the index of their shards */
  readonly main: HubFile;
  /** with the shards and `config.json`, where there are any */
  readonly files: readonly HubFile[];
}

const DEFAULT_REVISION = 'main';
const API_ATTEMPTS = 4;
/** Bytes. */
const API_LIMIT = 32 * 1024 * 1024;
/** The names of ImageNet-22k, by id and the other way round, take about 2 MB. */
const CONFIG_LIMIT = 16 * 1024 * 1024;
const INDEX_LIMIT = 64 * 1024 * 1024;

/**
 * Bring a model's weights (all shards) and its `config.json` into the shared cache, unless they are there.
 *
 * @throws NetworkError when the hub can't be reached or refuses; InputError when the repository holds nothing readable;
 *   EnvironmentError when the cache can't be written; InterruptedError
 */
export async function resolveHub(wanted: HubRequest, options: HubOptions = {}): Promise<HubModel> {
  const context = await httpContext(options);
  throwIfStopped(options.signal);
  return new HubSession(wanted, context, options).resolve();
}

class HubSession {
  readonly #repo: string;
  readonly #revision: string;
  readonly #file: string | undefined;
  readonly #context: HttpContext;
  readonly #hooks: DownloadHooks;
  readonly #stream: boolean;
  readonly #brief: boolean;
  /** for a request that something depends on */
  readonly #attempts: number;
  readonly #cache: RepoCache;
  /** set when no request may be made any more, with the reason why */
  #offline: { readonly reason: string; readonly cause?: unknown } | undefined;

  constructor(wanted: HubRequest, context: HttpContext, options: HubOptions) {
    this.#repo = wanted.repo;
    this.#revision = wanted.revision ?? DEFAULT_REVISION;
    this.#file = wanted.file;
    this.#context = context;
    this.#hooks = options;
    this.#stream = options.stream ?? false;
    this.#brief = options.brief ?? false;
    this.#attempts = this.#brief ? 1 : API_ATTEMPTS;
    this.#cache = new RepoCache(context.settings.cacheDir, wanted.repo);
    if (context.settings.offline) this.#offline = { reason: 'HF_HUB_OFFLINE is set' };
  }

  get #wanted(): Wanted {
    return { repo: this.#repo, revision: this.#revision, file: this.#file };
  }

  async resolve(): Promise<HubModel> {
    const { commit, names } = await this.#commit();
    const file = this.#file ?? pickWeights(await (names ?? this.#names(commit)), this.#wanted);
    const config = `${folderOf(file)}config.json`;
    const files = await this.#obtain(commit, [file], file === config ? [] : [config]);
    const main = files[0];
    if (isShardIndex(file)) {
      files.push(...(await this.#obtain(commit, await shardsOf(main, hubId({ ...this.#wanted, file })), [])));
    }
    return { repo: this.#repo, revision: this.#revision, commit, main, files };
  }

  /** The commit of the revision and, if that had to be asked for, the files it has. */
  async #commit(): Promise<{ commit: string; names?: readonly string[] }> {
    if (isCommit(this.#revision)) return { commit: this.#revision };
    const known = await this.#cache.readRef(this.#revision);
    const standIn = known !== undefined && (await this.#holdsWeights(known));
    if (!this.#offline && !(this.#brief && standIn)) {
      try {
        const answer = await this.#info(standIn ? 1 : this.#attempts);
        await this.#cache.writeRef(this.#revision, answer.commit);
        return answer;
      } catch (error) {
        if (known === undefined || !standIn || !isOutage(error)) throw this.#explained(error);
        this.#goOffline(error, known);
      }
    }
    if (known !== undefined) return { commit: known };
    throw this.#notCached(hubId({ repo: this.#repo, revision: this.#revision }));
  }

  async #holdsWeights(commit: string): Promise<boolean> {
    if (this.#file !== undefined) return (await this.#cache.find(commit, this.#file)) !== undefined;
    return (await this.#cache.list(commit)).some((name) => name.includes('.safetensors'));
  }

  /** The files to choose from at a commit that was given or remembered. */
  async #names(commit: string): Promise<readonly string[]> {
    const cached = await this.#cache.list(commit);
    if (cached.includes(FIRST_CHOICE)) return cached;
    if (!this.#offline) {
      try {
        return (await this.#info(cached.length === 0 ? this.#attempts : 1)).names;
      } catch (error) {
        if (cached.length === 0 || !isOutage(error)) throw this.#explained(error);
        this.#goOffline(error, commit);
      }
    }
    if (cached.length === 0) throw this.#notCached(hubId(this.#wanted));
    return cached;
  }

  async #info(attempts: number): Promise<{ commit: string; names: readonly string[] }> {
    const { modelInfo } = await import('@huggingface/hub');
    const info = await modelInfo({
      name: this.#repo,
      revision: this.#revision,
      hubUrl: this.#context.settings.endpoint,
      additionalFields: ['sha', 'filePaths'],
      fetch: this.#apiFetch(attempts),
    });
    const { sha, filePaths } = info as { sha: unknown; filePaths: unknown };
    if (typeof sha !== 'string' || !isCommit(sha) || !Array.isArray(filePaths)) {
      throw new TypeError('no commit or no list of files in the answer');
    }
    if (isCommit(this.#revision) && sha !== this.#revision)
      throw new TypeError('another commit than the one asked for');
    return { commit: sha, names: filePaths.filter(isRepoFile) };
  }

  /** Files in the cache, downloaded if need be; in the order asked for, optional ones only where they exist. */
  async #obtain(commit: string, needed: readonly string[], optional: readonly string[]): Promise<HubFile[]> {
    const asked = [...new Set([...needed, ...optional])];
    const remote = new Map<string, HubFile>();
    const cached = new Map<string, CachedFile>();
    const unknown: string[] = [];
    for (const file of asked) {
      const found = await this.#cache.find(commit, file);
      if (found) cached.set(file, found);
      else if (needed.includes(file) || !(await this.#cache.isAbsent(commit, file))) unknown.push(file);
    }
    const missing = unknown.filter((file) => needed.includes(file));
    const stated = unknown.length > 0 ? await this.#stated(commit, unknown, missing) : undefined;
    for (const file of missing) {
      if (!stated) throw this.#notCached(hubId({ ...this.#wanted, file }));
      if (!stated.has(file)) throw this.#lacks(file, commit);
    }
    for (const file of unknown) {
      const info = stated?.get(file);
      if (info && this.#stream && !file.endsWith('.json')) {
        remote.set(file, this.#remoteFile(commit, info));
        continue;
      }
      if (info) await this.#fetchFile(commit, info, needed.includes(file));
      else if (stated) await this.#cache.markAbsent(commit, file);
      else
        this.#hooks.onNote?.(`${hubId({ ...this.#wanted, file })} is not in the cache; going on without it`);
      const found = await this.#cache.find(commit, file);
      if (found) cached.set(file, found);
    }
    const files = await Promise.all([...cached].map(([file, found]) => hubFile(file, found)));
    return [...files, ...remote.values()].sort((a, b) => asked.indexOf(a.file) - asked.indexOf(b.file));
  }

  /** What the hub states about files; `undefined` without network when none of them is indispensable. */
  async #stated(
    commit: string,
    files: readonly string[],
    missing: readonly string[],
  ): Promise<Map<string, StatedFile> | undefined> {
    if (this.#offline) return undefined;
    try {
      const { pathsInfo } = await import('@huggingface/hub');
      const infos = await pathsInfo({
        repo: { type: 'model', name: this.#repo },
        revision: commit,
        paths: [...files],
        hubUrl: this.#context.settings.endpoint,
        fetch: this.#apiFetch(missing.length > 0 ? this.#attempts : 1),
      });
      return new Map(
        infos.filter((info) => files.includes(info.path)).map((info) => [info.path, statedFile(info)]),
      );
    } catch (error) {
      if (missing.length > 0 || !isOutage(error)) throw this.#explained(error);
      this.#goOffline(error, commit);
      return undefined;
    }
  }

  async #fetchFile(commit: string, stated: StatedFile, needed: boolean): Promise<void> {
    const { file, bytes, blobId } = stated;
    const limit = needed && !this.#brief ? (file.endsWith('.json') ? INDEX_LIMIT : Infinity) : CONFIG_LIMIT;
    if (bytes > limit) {
      const text = `${hubId({ ...this.#wanted, file })} is said to be ${bytes.toLocaleString('en-US')} bytes long, too much for such a file`;
      if (needed)
        throw new FormatError(text, {
          next: 'Give another file of this repository: hf:<owner>/<repo>/<file>.',
        });
      this.#hooks.onNote?.(`${text}; going on without it`);
      return;
    }
    try {
      await download(
        {
          url: this.#address(commit, file),
          label: printable(file),
          blobId,
          bytes,
          stater: 'the hub',
          blobPath: this.#cache.blobPath(blobId),
          lockPath: this.#cache.lockPath(blobId),
        },
        this.#context,
        this.#hooks,
      );
      await this.#cache.place(commit, file, blobId);
    } catch (error) {
      if (error instanceof RequestFailure)
        throw explain(error, { ...this.#wanted, file }, this.#context.settings);
      throw cacheError(error, this.#cache.folder);
    }
  }

  #address(commit: string, file: string): string {
    const path = file.split('/').map(encodeURIComponent).join('/');
    return `${this.#context.settings.endpoint}/${this.#repo}/resolve/${commit}/${path}`;
  }

  #remoteFile(commit: string, { file, bytes, blobId }: StatedFile): HubFile {
    const path = this.#cache.snapshotPath(commit, file);
    const id = { ...this.#wanted, file };
    const remote = {
      url: this.#address(commit, file),
      name: hubId({ ...id, revision: commit }),
      bytes,
      explain: (failure: unknown) => explain(failure, id, this.#context.settings),
    };
    return {
      file,
      path,
      bytes,
      sha256: blobId.length === 64 ? blobId : undefined,
      open: async () => (await import('./http-source.js')).openHttp(remote, this.#context),
    };
  }

  /** `fetch` for the library: ours, with its repetitions and limits, behind the standard signature. */
  #apiFetch(attempts: number): typeof fetch {
    return (input, init) =>
      withRetries(this.#context, attempts, async () => {
        const address = input instanceof Request ? input.url : String(input);
        const answer = await request(this.#context, address, init);
        const body = await readAll(answer, API_LIMIT);
        return new Response(body, {
          status: answer.response.status,
          headers: { 'content-type': 'application/json' },
        });
      });
  }

  #goOffline(cause: unknown, commit: string): void {
    const explained = this.#explained(cause);
    this.#offline = { reason: explained.message, cause };
    this.#hooks.onNote?.(`${explained.message}; using what the cache holds of commit ${commit.slice(0, 12)}`);
  }

  #explained(error: unknown): Error {
    throwIfStopped(this.#context.signal);
    return explain(error, this.#wanted, this.#context.settings);
  }

  #notCached(id: string): NetworkError {
    const { settings } = this.#context;
    const reason = this.#offline?.reason ?? '';
    return new NetworkError(`${id} is not in the cache (${printable(settings.cacheDir, 300)}): ${reason}`, {
      next: settings.offline ? `Unset HF_HUB_OFFLINE. ${waysOn(settings)}` : waysOn(settings),
      cause: this.#offline?.cause,
    });
  }

  #lacks(file: string, commit: string): NetworkError {
    const page = new URL(`${this.#context.settings.endpoint}/${this.#repo}/tree/${commit}`);
    return new NetworkError(
      `${hubId({ ...this.#wanted, file })} does not exist at commit ${commit.slice(0, 12)}`,
      {
        next: `See which files there are: ${shownUrl(page)}.`,
      },
    );
  }
}

interface StatedFile {
  readonly file: string;
  readonly bytes: number;
  readonly blobId: string;
}

/** A server's word about a file becomes a path and a length: only what has the right form is believed. */
function statedFile(info: PathInfo): StatedFile {
  const { path, type, size } = info;
  const blobId: unknown = info.lfs ? info.lfs.oid : info.xetHash ? undefined : info.oid;
  const right =
    isBlobId(blobId) && (info.lfs ? blobId.length === 64 && info.lfs.size === size : blobId.length === 40);
  if (!right || type !== 'file' || !Number.isSafeInteger(size) || size < 0) {
    throw new TypeError(`what is stated about ${printable(path)} has no usable hash or length`);
  }
  return { file: path, bytes: size, blobId };
}

/** Small files are hashed here; for large ones the hub's word was checked when they came. */
async function hubFile(file: string, found: CachedFile): Promise<HubFile> {
  let sha256 = found.blobId?.length === 64 ? found.blobId : undefined;
  if (sha256 === undefined && found.bytes <= INDEX_LIMIT) {
    const hash = createHash('sha256');
    for await (const chunk of createReadStream(found.path)) hash.update(chunk as Uint8Array);
    sha256 = hash.digest('hex');
  }
  return { file, path: found.path, bytes: found.bytes, sha256 };
}
