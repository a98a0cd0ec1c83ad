/**
 * Files at plain addresses: downloaded once (resumed, hashed, asked whether they changed), or read where they are.
 */
import { basename, dirname, join } from 'node:path';
import type { ByteSource } from '../../bytes.js';
import { FormatError, InputError, NetworkError, printable, type ConvertBeitError } from '../../errors.js';
import { openFile } from '../../file-source.js';
import { httpContext, type NetworkOptions } from './context.js';
import { download, type DownloadHooks } from './download.js';
import { isVersioned } from './file-version.js';
import { isShardIndex, shardsOf } from './hub-choose.js';
import { cacheError, noAnswer } from './hub-errors.js';
import { RequestFailure, shownUrl, throwIfStopped, withRetries, type HttpContext } from './hub-http.js';
import { isOutage } from './outage.js';
import { askForPart, DOWNLOAD_ELSEWHERE, type PartFacts } from './range.js';
import { CACHE_VARIABLE, digestInName, downloadFolder, UrlCache, type Downloaded } from './url-cache.js';

export interface UrlOptions extends DownloadHooks, NetworkOptions {
  /** what is not in the cache stays where it is and is read from there */
  readonly stream?: boolean | undefined;
}

export interface UrlFile {
  /** where it is in the cache, or would be */
  readonly path: string;
  readonly sha256?: string;
  /** digits that its name says its sha256 begins with */
  readonly sha256Prefix?: string;
  /** opens `path` and the files that belong to it, where they are not files of that folder */
  readonly open?: (path: string) => Promise<ByteSource>;
}

const ATTEMPTS = 4;
const WAYS = `Ways on: check the address and the network. ${DOWNLOAD_ELSEWHERE}`;

/**
 * Bring a file into the folder of downloads, unless it is there; with `stream`, only find out how to read it.
 * An index of shards brings its shards.
 *
 * @throws NetworkError when it can't be had; FormatError when it is not what its name says; EnvironmentError when the
 *   folder can't be written; InterruptedError
 */
export async function resolveUrl(address: string, options: UrlOptions = {}): Promise<UrlFile> {
  const context = await httpContext(options);
  throwIfStopped(context.signal);
  const url = new URL(address);
  const root = downloadFolder(options.env);
  const main = await new UrlSession(url, root, context, options).resolve(!isShardIndex(url.pathname));
  if (!isShardIndex(url.pathname)) return main;
  const index = { file: basename(main.path), path: main.path };
  const shards = new Map<string, UrlFile>();
  for (const shard of await shardsOf(index, shownUrl(url))) {
    const beside = new URL(encodeURIComponent(shard), url);
    beside.search = url.search;
    shards.set(shard, await new UrlSession(beside, root, context, options).resolve(true));
  }
  const open = async (path: string): Promise<ByteSource> => {
    const shard = path === join(dirname(main.path), basename(path)) ? shards.get(basename(path)) : undefined;
    return shard ? await openUrl(shard) : await openFile(path);
  };
  return { ...main, open };
}

function openUrl(file: UrlFile): Promise<ByteSource> {
  return file.open ? file.open(file.path) : openFile(file.path);
}

class UrlSession {
  readonly #url: URL;
  readonly #cache: UrlCache;
  readonly #context: HttpContext;
  readonly #options: UrlOptions;
  readonly #shown: string;
  readonly #prefix: string | undefined;

  constructor(url: URL, root: string, context: HttpContext, options: UrlOptions) {
    this.#url = url;
    this.#cache = new UrlCache(root, url);
    this.#context = context;
    this.#options = options;
    this.#shown = shownUrl(url);
    this.#prefix = digestInName(this.#cache.file);
  }

  /** @param streamable a small file that has to be read here is downloaded in any case */
  async resolve(streamable: boolean): Promise<UrlFile> {
    const latest = await this.#cache.newest();
    // A name that carries its content's digest never means another content.
    if (latest && this.#prefix !== undefined) return this.#cached(latest);
    if (this.#context.settings.offline) {
      if (latest) return this.#cached(latest);
      throw new NetworkError(`${this.#shown} has not been downloaded before: HF_HUB_OFFLINE is set`, {
        next: `Unset HF_HUB_OFFLINE. ${WAYS}`,
      });
    }
    const facts = await this.#ask(latest !== undefined).catch((error: unknown) => error as Error);
    if (facts instanceof Error) {
      throwIfStopped(this.#context.signal);
      const explained = explainUrl(facts);
      if (!latest || !isOutage(facts)) throw explained;
      this.#options.onNote?.(`${explained.message}; using what was downloaded before`);
      return this.#cached(latest);
    }
    const path = this.#cache.pathOf(facts.version, facts.total);
    const there = await this.#cache.find(path);
    if (there?.bytes === facts.total) return this.#cached(there);
    if (this.#options.stream && streamable) return this.#remote(path, facts);
    return await this.#download(path, facts);
  }

  /** How long the file is and which version: the first byte's answer says it. */
  async #ask(standIn: boolean): Promise<PartFacts> {
    return await withRetries(this.#context, standIn ? 1 : ATTEMPTS, async () => {
      const { answer, total, version } = await askForPart(this.#context, this.#url.href, 0, 1);
      answer.cancel();
      if (total !== undefined && total > 0) return { total, version };
      throw total === 0
        ? new InputError(`${this.#shown} is an empty file`)
        : new NetworkError(`${this.#shown}: the server does not say how long the file is`, {
            next: DOWNLOAD_ELSEWHERE,
          });
    });
  }

  #cached({ path, sha256 }: Downloaded): UrlFile {
    return {
      path,
      ...(sha256 !== undefined && { sha256 }),
      ...(this.#prefix && { sha256Prefix: this.#prefix }),
    };
  }

  #remote(path: string, facts: PartFacts): UrlFile {
    const remote = { url: this.#url.href, name: this.#shown, bytes: facts.total, explain: explainUrl };
    const opened = async (): Promise<ByteSource> => {
      const source = await (await import('./http-source.js')).openHttp(remote, this.#context);
      return source;
    };
    return {
      path,
      ...(this.#prefix && { sha256Prefix: this.#prefix }),
      open: (asked) => (asked === path ? opened() : openFile(asked)),
    };
  }

  async #download(path: string, { total, version }: PartFacts): Promise<UrlFile> {
    const label = printable(this.#cache.file);
    try {
      const sha256 = await download(
        {
          url: this.#url.href,
          label,
          bytes: total,
          sha256Prefix: this.#prefix,
          version,
          stater: 'its server',
          ways: WAYS,
          cacheVariable: CACHE_VARIABLE,
          afresh: !isVersioned(version) && this.#prefix === undefined,
          blobPath: path,
          lockPath: this.#cache.lockPath,
        },
        this.#context,
        this.#options,
      );
      if (sha256 !== undefined) await this.#cache.settle(path, sha256);
      if (sha256 !== undefined && this.#prefix !== undefined) {
        this.#options.onNote?.(`${label}: its sha256 begins with ${this.#prefix}, as its name says`);
      }
    } catch (error) {
      throwIfStopped(this.#context.signal);
      throw error instanceof RequestFailure ? explainUrl(error) : cacheError(error, path, CACHE_VARIABLE);
    }
    const found = await this.#cache.find(path);
    if (!found) throw new FormatError(`${label} was removed while it was read`, { next: 'Start again.' });
    return this.#cached(found);
  }
}

const REFUSALS: ReadonlyMap<number, string> = new Map([
  [401, 'it is not open to everybody'],
  [403, 'it is not open to everybody'],
  [404, 'there is no such file'],
  [410, 'it is no longer there'],
  [416, 'it has no bytes'],
  [429, 'too many requests'],
]);

/** A failed request as a sentence: address, cause, ways on. Errors of our own come back as they are. */
function explainUrl(error: unknown): ConvertBeitError | Error {
  if (!(error instanceof RequestFailure)) return error as Error;
  if (error.status === undefined) return noAnswer(error, WAYS);
  const trouble = error.status >= 500 ? 'the server is in trouble' : 'the request was refused';
  const wait = error.retryAfter === undefined ? '' : `, and asks to wait ${error.retryAfter} s`;
  return new NetworkError(
    `${error.url}: ${REFUSALS.get(error.status) ?? trouble} (the server answers ${error.status}${wait})`,
    { next: error.status === 429 || error.status >= 500 ? `Try again later. ${WAYS}` : WAYS, cause: error },
  );
}
