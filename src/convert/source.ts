/** `--src`: its grammar, and how it becomes a file. */
import type { Env } from '../env.js';
import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import type { ByteSource } from '../bytes.js';
import { InputError, NetworkError, UsageError, printable } from '../errors.js';
import {
  catalogRow,
  isPublishedAddress,
  type CatalogRow,
  type CatalogSource,
  type Publisher,
} from './catalog.js';
import type { HubFile, HubOptions } from './sources/hub.js';
import { isRepo, isRepoFile, isRevision } from './sources/hub-names.js';

/** What `--src` names; nothing has been looked up yet. */
export type Source =
  | { readonly kind: Publisher; /** default row when absent */ readonly name?: string }
  | { readonly kind: 'hf'; readonly repo: string; readonly revision?: string; readonly file?: string }
  | { readonly kind: 'url'; readonly url: string }
  | { readonly kind: 'file'; readonly path: string };

export type ResolveOptions = HubOptions;

/** A source as a file on this machine; with `open`, as one that is read where it is. */
export interface ResolvedSource {
  /** weights, or the `*.index.json` of their shards */
  readonly path: string;
  /** opens `path` and what lies beside it, when that is not simply the file of that path */
  readonly open?: (path: string) => Promise<ByteSource>;
  /**
   * for provenance: `hf:<owner>/<repo>@<commit>/<file>`, an address without its query, or the file's name (never a path
   * of this machine)
   */
  readonly id: string;
  /** of the hub's repository */
  readonly commit?: string;
  /** of the file at `path` as its hub states it; local files are hashed while they are read */
  readonly sha256?: string;
  /** digits that its name says its sha256 begins with, where that has not been checked yet */
  readonly sha256Prefix?: string;
  readonly row?: CatalogRow;
  /** all files that came along: shards, `config.json` */
  readonly files?: readonly HubFile[];
}

const FORMS =
  'A source is: official, official:<name>, mmpretrain:<name>, hf:<owner>/<repo>[@<revision>][/<file>], https://<address>, ' +
  'or the path of a local file (./official for a file of that name).';

/**
 * @param text `official` | `official:<name>` | `mmpretrain:<name>` | `hf:<owner>/<repo>[@<revision>][/<file>]` |
 *   `https://…` | a local path. A `/` in a revision is written `%2F`, except in the hub's own `refs/pr/<n>` and
 *   `refs/convert/<name>`
 * @throws UsageError
 */
export function parseSource(text: string): Source {
  if (text.trim() === '' || text.includes('\0')) throw new UsageError('the source is empty', { next: FORMS });
  if (text === 'official') return { kind: 'official' };
  const row = /^(official|mmpretrain):(.*)$/s.exec(text);
  if (row || text === 'mmpretrain') {
    const [, kind, name] = row ?? ['', text, ''];
    if (name === '')
      throw new UsageError(`"${kind}:" lacks a name`, { next: 'See the names: convert-beit list.' });
    return { kind: kind as Publisher, name };
  }
  if (/^(?:hf|https?):\/\//i.test(text)) return parseAddress(text);
  if (text.startsWith('hf:')) return parseHub(text);
  const scheme = /^([a-z][a-z0-9+.-]+):\/\//i.exec(text);
  if (scheme) {
    throw new UsageError(`"${printable(text)}": ${printable(scheme[1])} addresses cannot be read`, {
      next: FORMS,
    });
  }
  return { kind: 'file', path: text };
}

function parseHub(text: string): Extract<Source, { kind: 'hf' }> {
  const match = /^hf:([^/@]+\/[^/@]+)(?:@(refs\/(?:pr|convert)\/[^/]+|[^/]*))?(?:\/(.*))?$/s.exec(text);
  const wrong = (what: string): UsageError =>
    new UsageError(`"${printable(text)}": ${what}`, { next: FORMS });
  if (!match) throw wrong('hf:<owner>/<repo> is needed');
  const [, repo, encoded, file] = match;
  if (/^(?:datasets|spaces|buckets|kernels|models)\//.test(repo)) {
    throw wrong('a model repository is needed, named without its kind: hf:<owner>/<repo>');
  }
  if (!isRepo(repo)) throw wrong(`"${printable(repo)}" is not the name of a repository`);
  const revision = encoded?.replaceAll(/%2f/gi, '/');
  if (revision !== undefined && !isRevision(revision)) {
    throw wrong(`"${printable(revision)}" is not a branch, tag or commit`);
  }
  if (file !== undefined && !isRepoFile(file))
    throw wrong(`"${printable(file)}" is not a path in a repository`);
  return {
    kind: 'hf',
    repo,
    ...(revision !== undefined && { revision }),
    ...(file !== undefined && { file }),
  };
}

/** An address; one of the hub's pages or files is the hub's. */
function parseAddress(text: string): Source {
  const hub =
    /^(?:hf:\/\/|https:\/\/(?:www\.)?(?:huggingface\.co|hf\.co)\/)([^/@?#]+\/[^/@?#]+)(?:\/(?:resolve|blob|raw|tree)\/([^/?#]+)(?:\/([^?#]+))?)?\/?(?:[?#].*)?$/i.exec(
      text,
    );
  if (hub && isRepo(hub[1])) {
    const [, repo, revision, file] = hub;
    return parseHub(`hf:${repo}${revision ? `@${revision}` : ''}${file ? `/${decoded(file)}` : ''}`);
  }
  const wrong = (what: string, next: string): UsageError => new UsageError(what, { next });
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw wrong(`"${printable(text)}" is not a complete address`, FORMS);
  }
  if (url.username || url.password) {
    throw wrong(
      `the address at ${printable(url.host)} holds a user name or a password, which are not sent`,
      'Download the file with another program and give its path.',
    );
  }
  if (url.protocol === 'https:' || (url.protocol === 'http:' && isLoopback(url.hostname))) {
    return { kind: 'url', url: text };
  }
  throw url.protocol === 'http:'
    ? wrong(
        `"${printable(text)}": http is read from this machine only; on the way from another one anybody could change the weights`,
        'Give the https address, or download the file, check it, and give its path.',
      )
    : wrong(`"${printable(text)}" is not a repository on the hub`, FORMS);
}

function decoded(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '[::1]' || /^127(?:\.\d{1,3}){3}$/.test(host);
}

/**
 * Find the file; download it if it is somewhere else and not in a cache (with `stream`, find out how to read it there).
 *
 * @throws UsageError for a name that the catalog lacks; InputError when there is no such file, or nothing readable;
 *   NetworkError, EnvironmentError, InterruptedError from a server
 */
export async function resolveSource(source: Source, options: ResolveOptions = {}): Promise<ResolvedSource> {
  switch (source.kind) {
    case 'file':
      return await resolveFile(source.path);
    case 'hf':
      return await resolveHubSource(source, options);
    case 'url':
      return isPublishedAddress(source.url)
        ? await resolvePublished(source.url, options)
        : await resolveUrlSource(source.url, options);
    default:
      return await resolveRow(catalogRow(source.name, source.kind), options);
  }
}

/** From the first place that has it. */
async function resolveRow(row: CatalogRow, options: ResolveOptions): Promise<ResolvedSource> {
  const failures: NetworkError[] = [];
  for (const place of row.sources) {
    const where = placeName(place);
    if (failures.length > 0)
      options.onNote?.(`${failures.at(-1)!.message}; taking upstream's own file, ${where}`);
    try {
      const found =
        place.kind === 'hf'
          ? await resolveHubSource(place, options)
          : await resolvePublished(place.url, options);
      return { ...found, row };
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error;
      failures.push(error);
    }
  }
  if (failures.length === 1) throw failures[0];
  throw new NetworkError(`${row.name} cannot be had: ${failures.map(({ message }) => message).join('; ')}`, {
    next: failures[0].next,
    cause: failures.at(-1),
  });
}

/** The file is called by its own address, wherever it came from. */
async function resolvePublished(url: string, options: ResolveOptions): Promise<ResolvedSource> {
  return { ...(await resolveUrlSource(mirrored(url, options.env), options)), id: url };
}

/**
 * A published file's address, or the same below `CONVERT_BEIT_MIRROR` (for networks that reach neither GitHub nor
 * OpenMMLab, and for tests): `<mirror>/<host>/<path>`.
 */
function mirrored(url: string, env: Env = process.env): string {
  const mirror = env.CONVERT_BEIT_MIRROR;
  if (!mirror) return url;
  if (!/^https?:\/\//i.test(mirror) || parseAddress(mirror).kind !== 'url') {
    throw new UsageError(`CONVERT_BEIT_MIRROR is "${printable(mirror)}"; an https address is needed`, {
      next: 'Correct or unset it.',
    });
  }
  const { host, pathname } = new URL(url);
  return `${mirror.replace(/\/+$/, '')}/${host}${pathname}`;
}

function placeName(place: CatalogSource): string {
  return place.kind === 'hf' ? `hf:${place.repo}` : place.url;
}

async function resolveUrlSource(url: string, options: ResolveOptions): Promise<ResolvedSource> {
  const { resolveUrl } = await import('./sources/url.js');
  const { origin, pathname } = new URL(url);
  return { ...(await resolveUrl(url, options)), id: printable(`${origin}${pathname}`, 300) };
}

async function resolveHubSource(
  source: Omit<Extract<Source, { kind: 'hf' }>, 'kind'>,
  options: ResolveOptions,
): Promise<ResolvedSource> {
  const { resolveHub } = await import('./sources/hub.js');
  const model = await resolveHub(source, options);
  return {
    path: model.main.path,
    ...openerOf(model.files),
    id: `hf:${model.repo}@${model.commit}/${model.main.file}`,
    commit: model.commit,
    ...(model.main.sha256 !== undefined && { sha256: model.main.sha256 }),
    files: model.files,
  };
}

/** Files that stayed on the hub are opened there, whatever lies beside them in the cache from the disk. */
function openerOf(files: readonly HubFile[]): Pick<ResolvedSource, 'open'> {
  const remote = new Map(files.flatMap((file) => (file.open ? [[file.path, file.open] as const] : [])));
  if (remote.size === 0) return {};
  return {
    open: async (path) =>
      await (remote.get(path)?.() ?? import('../file-source.js').then(({ openFile }) => openFile(path))),
  };
}

async function resolveFile(path: string): Promise<ResolvedSource> {
  const missing = await stat(path).then(
    () => false,
    (error: NodeJS.ErrnoException) => error.code === 'ENOENT' || error.code === 'ENOTDIR',
  );
  if (missing) throw new InputError(`${printable(path, 300)} does not exist`, { next: hintFor(path) });
  return { path, id: basename(path) };
}

/** People forget the prefix. */
function hintFor(path: string): string {
  try {
    return `Did you mean official:${catalogRow(path.replace(/\.(?:pth|safetensors)$/, '')).name}?`;
  } catch {
    return isRepo(path) ? `A repository on the hub is written hf:${path}. ${FORMS}` : FORMS;
  }
}
