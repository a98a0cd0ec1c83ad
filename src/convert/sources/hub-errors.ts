/** Failures of the hub as sentences: the address, the cause, the ways on. */
import { EnvironmentError, NetworkError, printable, type ConvertBeitError } from '../../errors.js';
import { isCertificateCode, RequestFailure } from './hub-http.js';
import type { HubSettings } from './hub-settings.js';

/** What was asked for. */
export interface Wanted {
  readonly repo: string;
  readonly revision: string;
  readonly file?: string | undefined;
}

export function hubId(wanted: Wanted): string {
  return printable(
    `hf:${wanted.repo}@${wanted.revision}${wanted.file === undefined ? '' : `/${wanted.file}`}`,
    300,
  );
}

/** The sentence that ends every message about a hub that can't be had. */
export function waysOn(settings: HubSettings): string {
  return (
    'Ways on: give a local file (--src <path>); set HF_ENDPOINT to a mirror that can be reached; ' +
    `or copy the model into the cache (${printable(settings.cacheDir, 300)}) from a machine that has it.`
  );
}

const CAUSES = new Map([
  ['ENOTFOUND', 'the host name is not known (DNS)'],
  ['EAI_AGAIN', 'the name server does not answer (DNS)'],
  ['ECONNREFUSED', 'the connection is refused'],
  ['ECONNRESET', 'the connection was cut'],
  ['UND_ERR_SOCKET', 'the connection was cut'],
  ['EPIPE', 'the connection was cut'],
  ['ETIMEDOUT', 'the server does not answer in time'],
  ['UND_ERR_CONNECT_TIMEOUT', 'the server does not answer in time'],
  ['UND_ERR_HEADERS_TIMEOUT', 'the server does not answer in time'],
  ['UND_ERR_BODY_TIMEOUT', 'the server went silent'],
  ['EHOSTUNREACH', 'there is no route to the host'],
  ['ENETUNREACH', 'there is no network'],
]);

/** @param error whatever a request or the hub library threw; our own errors come back as they are */
export function explain(error: unknown, wanted: Wanted, settings: HubSettings): ConvertBeitError {
  if (error instanceof RequestFailure) {
    return error.status === undefined
      ? noAnswer(error, waysOn(settings))
      : refused(error, error.status, wanted, settings);
  }
  return new NetworkError(
    `${printable(settings.endpoint, 300)} does not answer as a hub does when asked for ${hubId(wanted)}`,
    { next: `Check HF_ENDPOINT. ${waysOn(settings)}`, cause: error },
  );
}

/** @param ways the sentence that says how else to go on */
export function noAnswer(failure: RequestFailure, ways: string): NetworkError {
  const { code } = failure;
  const details = { next: ways, cause: failure };
  if (code === undefined) return new NetworkError(`${failure.url}: ${failure.message}`, details);
  if (isCertificateCode(code)) {
    return new NetworkError(`${failure.url}: the server's certificate is not trusted (${code})`, {
      ...details,
      next: `If a proxy of your own network stands between, set NODE_EXTRA_CA_CERTS to its certificate. ${details.next}`,
    });
  }
  return new NetworkError(`${failure.url}: ${CAUSES.get(code) ?? failure.message} (${code})`, details);
}

function refused(
  failure: RequestFailure,
  status: number,
  wanted: Wanted,
  settings: HubSettings,
): NetworkError {
  const token = settings.token === undefined ? 'no token was sent' : 'the token sent does not help';
  const at = `${failure.url} answers ${status}`;
  const page = `${printable(settings.endpoint, 300)}/${wanted.repo}`;
  const hubError = failure.headers?.get('x-error-code') ?? '';
  const error = (message: string, next: string): NetworkError =>
    new NetworkError(message, { next, cause: failure });

  if (hubError === 'GatedRepo') {
    return error(
      `${wanted.repo} is gated: its owner grants access first (${at}; ${token})`,
      `Ask for access on ${page} and set HF_TOKEN to a token of that account, or give a local file.`,
    );
  }
  if (hubError === 'RevisionNotFound') {
    return error(
      `${wanted.repo} has no revision "${printable(wanted.revision)}" (${at})`,
      `Give a branch, tag or commit that ${page} shows.`,
    );
  }
  if (hubError === 'EntryNotFound') {
    return error(`${hubId(wanted)} is not there (${at})`, `See which files ${page} has.`);
  }
  if (status === 401 || hubError === 'RepoNotFound') {
    return error(
      `${wanted.repo} does not exist, or is private (${at}; ${token})`,
      'Check the name; for a private repository set HF_TOKEN to a token that may read it.',
    );
  }
  if (status === 403) {
    return error(
      `access to ${hubId(wanted)} is forbidden (${at}; ${token})`,
      `Check HF_TOKEN. ${waysOn(settings)}`,
    );
  }
  if (status === 404) {
    return error(
      `${hubId(wanted)} was not found (${at})`,
      'Check the names of owner, repository, revision and file; and HF_ENDPOINT, if it is set.',
    );
  }
  if (status === 429) {
    const wait = failure.retryAfter === undefined ? '' : `; it asks to wait ${failure.retryAfter} s`;
    return error(`too many requests (${at}${wait})`, `Try again later. ${waysOn(settings)}`);
  }
  const trouble = status >= 500 ? 'the server is in trouble' : 'the request was refused';
  return error(
    `${trouble} (${at})`,
    status >= 500 ? `Try again later. ${waysOn(settings)}` : waysOn(settings),
  );
}

/**
 * The file system refused something in the cache.
 * @param variable environment variable that says where the cache is
 */
export function cacheError(cause: unknown, path: string, variable = 'HF_HUB_CACHE'): unknown {
  const code = (cause as NodeJS.ErrnoException | undefined)?.code;
  if (typeof code !== 'string' || !(cause instanceof Error) || !('syscall' in cause)) return cause;
  const where = printable(path, 300);
  const [what, next] =
    code === 'ENOSPC' || code === 'EDQUOT'
      ? [
          'the disk is full',
          `Free room, or set ${variable} to a folder on a larger disk; the download goes on where it stopped.`,
        ]
      : ['the cache cannot be written', `Set ${variable} to a folder that can be written.`];
  return new EnvironmentError(`${where}: ${what} (${code})`, { next, cause });
}
