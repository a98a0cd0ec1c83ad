/** `--src`: its grammar, and how it becomes a file. */
import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { InputError, UsageError, printable } from '../errors.js';
import { catalogRow, readableSource, type CatalogRow } from './catalog.js';
import { resolveHub, type HubFile, type HubOptions } from './sources/hub.js';
import { isRepo, isRepoFile, isRevision } from './sources/hub-names.js';

/** What `--src` names; nothing has been looked up yet. */
export type Source =
  | { readonly kind: 'official'; /** default row when absent */ readonly name?: string }
  | { readonly kind: 'hf'; readonly repo: string; readonly revision?: string; readonly file?: string }
  | { readonly kind: 'file'; readonly path: string };

export type ResolveOptions = HubOptions;

/** A source as a file on this machine. */
export interface ResolvedSource {
  /** weights, or the `*.index.json` of their shards */
  readonly path: string;
  /** for provenance: `hf:<owner>/<repo>@<commit>/<file>`, or the file's name (never a path of this machine) */
  readonly id: string;
  /** of the hub's repository */
  readonly commit?: string;
  /** of the file at `path` as its hub states it; local files are hashed while they are read */
  readonly sha256?: string;
  readonly row?: CatalogRow;
  /** all files that came along: shards, `config.json` */
  readonly files?: readonly HubFile[];
}

const FORMS =
  'A source is: official, official:<name>, hf:<owner>/<repo>[@<revision>][/<file>], or the path of a local file ' +
  '(./official for a file of that name).';

/**
 * @param text `official` | `official:<name>` | `hf:<owner>/<repo>[@<revision>][/<file>]` | a local path. A `/` in a
 *   revision is written `%2F`, except in the hub's own `refs/pr/<n>` and `refs/convert/<name>`
 * @throws UsageError
 */
export function parseSource(text: string): Source {
  if (text.trim() === '' || text.includes('\0')) throw new UsageError('the source is empty', { next: FORMS });
  if (text === 'official') return { kind: 'official' };
  if (text.startsWith('official:')) {
    const name = text.slice('official:'.length);
    if (name === '')
      throw new UsageError('"official:" lacks a name', { next: 'See the names: convert-beit list.' });
    return { kind: 'official', name };
  }
  if (/^(?:hf|https?):\/\//i.test(text)) throw urlError(text);
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

/** An address is not read; if it is one of the hub's, what to write instead is known. */
function urlError(text: string): UsageError {
  const hub =
    /^(?:hf:\/\/|https?:\/\/(?:www\.)?(?:huggingface\.co|hf\.co)\/)([^/@?#]+\/[^/@?#]+)(?:\/(?:resolve|blob|raw|tree)\/([^/?#]+)(?:\/([^?#]+))?)?\/?(?:[?#].*)?$/i.exec(
      text,
    );
  if (hub && isRepo(hub[1])) {
    const [, repo, revision, file] = hub;
    const same = `hf:${repo}${revision && revision !== 'main' ? `@${revision}` : ''}${file ? `/${file}` : ''}`;
    return new UsageError(`"${printable(text)}" is an address; addresses cannot be read`, {
      next: `Write ${printable(same)} instead.`,
    });
  }
  return new UsageError(`"${printable(text)}": addresses cannot be read yet`, {
    next: `Download the file first and give its path. ${FORMS}`,
  });
}

/**
 * Find the file; download it if it is on the hub and not in the cache.
 *
 * @throws UsageError for a name that the catalog lacks; InputError when there is no such file, or nothing readable;
 *   NetworkError, EnvironmentError, InterruptedError from the hub
 */
export async function resolveSource(source: Source, options: ResolveOptions = {}): Promise<ResolvedSource> {
  if (source.kind === 'file') return resolveFile(source.path);
  if (source.kind === 'hf') return resolveHubSource(source, options);
  const row = catalogRow(source.name);
  return { ...(await resolveHubSource(readableSource(row), options)), row };
}

async function resolveHubSource(
  source: Omit<Extract<Source, { kind: 'hf' }>, 'kind'>,
  options: ResolveOptions,
): Promise<ResolvedSource> {
  const model = await resolveHub(source, options);
  return {
    path: model.main.path,
    id: `hf:${model.repo}@${model.commit}/${model.main.file}`,
    commit: model.commit,
    ...(model.main.sha256 !== undefined && { sha256: model.main.sha256 }),
    files: model.files,
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
