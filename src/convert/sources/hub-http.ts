/**
 * One request to a hub, its redirects and its repetition. What was asked for is not known here: failures are
 * {@link RequestFailure}s, which `hub-errors.ts` turns into sentences.
 */
import { InterruptedError, ConvertBeitError, printable } from '../../errors.js';
import type { HubSettings } from './hub-settings.js';

export interface HttpContext {
  readonly settings: HubSettings;
  readonly fetch: typeof fetch;
  readonly signal?: AbortSignal | undefined;
  /** wait before a repetition, milliseconds; rejects when `signal` fires */
  readonly sleep: (milliseconds: number) => Promise<void>;
  /** longest silence of a server, milliseconds, before its answer and within it */
  readonly silence: number;
}

/** Why a request brought nothing. Stays within this folder. */
export class RequestFailure extends Error {
  /** without query: a signed URL is a secret for as long as it lives */
  readonly url: string;
  /** HTTP status, when there was an answer */
  readonly status: number | undefined;
  /** error code of the transport, as `ENOTFOUND` */
  readonly code: string | undefined;
  readonly headers: Headers | undefined;
  /** later it may work */
  readonly transient: boolean;
  /** seconds the server wants to be left alone */
  readonly retryAfter: number | undefined;

  constructor(
    url: URL,
    message: string,
    of: { status?: number; code?: string; headers?: Headers; transient?: boolean; cause?: unknown } = {},
  ) {
    super(message, { cause: of.cause });
    this.name = 'RequestFailure';
    this.url = shownUrl(url);
    this.status = of.status;
    this.code = of.code;
    this.headers = of.headers;
    this.transient = of.transient ?? false;
    this.retryAfter = retryAfterOf(of.headers);
  }
}

export interface Answer {
  /** 2xx */
  readonly response: Response;
  readonly url: URL;
  /** The body, piece by piece; a cut or a silence is a transient {@link RequestFailure}. */
  chunks(): AsyncGenerator<Uint8Array, void>;
  /** Give the connection back; needed when the body is not read to its end, harmless otherwise. */
  cancel(): void;
}

const REDIRECTS = 10;
const TRANSIENT_STATUS = new Set([408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524]);
/** The host itself is wrong, or nobody listens: waiting a few seconds does not help. */
const LASTING_CODES = new Set([
  'ENOTFOUND',
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EACCES',
  'EPERM',
]);

/** Address without query and fragment, fit for a terminal. */
export function shownUrl(url: URL): string {
  return printable(`${url.origin}${url.pathname}`, 300);
}

/**
 * Make a request and follow its redirects. The token goes to the endpoint's own origin only; `https` never becomes
 * `http` on the way.
 * @throws RequestFailure; InterruptedError
 */
export async function request(
  context: HttpContext,
  address: string,
  init: RequestInit = {},
): Promise<Answer> {
  const origin = new URL(context.settings.endpoint).origin;
  let url = new URL(address);
  let { method = 'GET', body } = init;
  for (let hop = 0; hop <= REDIRECTS; hop++) {
    const headers = new Headers(init.headers);
    headers.delete('authorization');
    headers.set('user-agent', 'convert-beit');
    if (context.settings.token !== undefined && url.origin === origin) {
      headers.set('authorization', `Bearer ${context.settings.token}`);
    }
    const watch = new Watch(context);
    const response = await answer(context, url, { method, headers, body: body ?? null }, watch);
    const location = response.headers.get('location');
    if (response.status >= 301 && response.status <= 308 && response.status !== 304 && location !== null) {
      watch.stop();
      url = redirected(url, location);
      if (response.status === 303) [method, body] = ['GET', undefined];
      continue;
    }
    if (!response.ok) {
      watch.stop();
      throw new RequestFailure(url, `status ${response.status}`, {
        status: response.status,
        headers: response.headers,
        transient: TRANSIENT_STATUS.has(response.status),
      });
    }
    const from = url;
    return {
      response,
      url,
      chunks: () => chunksOf(context, from, response, watch),
      cancel: () => watch.stop(),
    };
  }
  throw new RequestFailure(url, `more than ${REDIRECTS} redirects`);
}

/** All of a small answer; more than `limit` bytes are a failure. */
export async function readAll(answered: Answer, limit: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let total = 0;
  for await (const part of answered.chunks()) {
    total += part.length;
    if (total > limit) throw new RequestFailure(answered.url, `an answer of more than ${limit} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts);
}

/**
 * Repeat what fails for a passing reason, waiting longer each time.
 * @param attempts in total
 */
export async function withRetries<T>(
  context: HttpContext,
  attempts: number,
  task: () => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await task();
    } catch (error) {
      if (attempt >= attempts || !(await mayRetry(context, error, attempt))) throw error;
    }
  }
}

/** Seconds that are worth waiting for a server that says how long. */
const LONGEST_WAIT = 60;

/**
 * Wait as the failure and the number of failures so far suggest.
 *
 * @param underway the server has been reached before: then even "host unknown" is a passing thing (a closed lid, another network)
 * @returns `false` when another try is pointless
 */
export async function mayRetry(
  context: HttpContext,
  error: unknown,
  failures: number,
  underway = false,
): Promise<boolean> {
  if (!(error instanceof RequestFailure)) return false;
  if (!error.transient && !(underway && error.code !== undefined)) return false;
  if ((error.retryAfter ?? 0) > LONGEST_WAIT) return false;
  const backOff = Math.min(500 * 2 ** (failures - 1), 16_000);
  await context.sleep(Math.max(backOff, (error.retryAfter ?? 0) * 1000));
  return true;
}

/** What a stopped run ends with: the caller's own reason, if it is one of ours. */
export function throwIfStopped(signal: AbortSignal | undefined): void {
  if (!signal?.aborted) return;
  if (signal.reason instanceof ConvertBeitError) throw signal.reason;
  throw new InterruptedError('interrupted', { cause: signal.reason });
}

/** Aborts one request when its server stays silent, or when the run is stopped. */
class Watch {
  readonly #controller = new AbortController();
  readonly #silence: number;
  readonly #outer: AbortSignal | undefined;
  readonly #forward = (): void => this.#controller.abort();
  #timer: NodeJS.Timeout | undefined;
  silent = false;

  constructor(context: HttpContext) {
    this.#silence = context.silence;
    this.#outer = context.signal;
    this.#outer?.addEventListener('abort', this.#forward);
    if (this.#outer?.aborted) this.#forward();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  arm(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.silent = true;
      this.#controller.abort();
    }, this.#silence);
  }

  rest(): void {
    clearTimeout(this.#timer);
  }

  /** Also frees the connection of an answer that nobody reads. */
  stop(): void {
    this.rest();
    this.#outer?.removeEventListener('abort', this.#forward);
    this.#controller.abort();
  }
}

async function answer(context: HttpContext, url: URL, init: RequestInit, watch: Watch): Promise<Response> {
  watch.arm();
  try {
    return await context.fetch(url, { ...init, redirect: 'manual', signal: watch.signal });
  } catch (cause) {
    watch.stop();
    throwIfStopped(context.signal);
    throw transportFailure(url, cause, watch.silent);
  } finally {
    watch.rest();
  }
}

async function* chunksOf(
  context: HttpContext,
  url: URL,
  response: Response,
  watch: Watch,
): AsyncGenerator<Uint8Array, void> {
  try {
    watch.arm();
    for await (const chunk of response.body ?? []) {
      watch.rest();
      yield chunk as Uint8Array;
      watch.arm();
    }
  } catch (cause) {
    throwIfStopped(context.signal);
    throw transportFailure(url, cause, watch.silent);
  } finally {
    watch.stop();
  }
}

function transportFailure(url: URL, cause: unknown, silent: boolean): RequestFailure {
  if (silent)
    return new RequestFailure(url, 'the server went silent', { code: 'ETIMEDOUT', transient: true, cause });
  const code = codeOf(cause);
  const lasting = code !== undefined && (LASTING_CODES.has(code) || isCertificateCode(code));
  return new RequestFailure(url, 'the connection failed', {
    ...(code && { code }),
    transient: !lasting,
    cause,
  });
}

/** Node's `fetch` wraps the reason, sometimes twice (one error per address tried). */
function codeOf(error: unknown): string | undefined {
  for (let at = error, depth = 0; at instanceof Error && depth < 5; depth++) {
    const { code, cause } = at as Error & { code?: unknown };
    if (typeof code === 'string' && /^[A-Z0-9_]{3,60}$/.test(code)) return code;
    at = cause ?? (at instanceof AggregateError ? (at.errors[0] as unknown) : undefined);
  }
  return undefined;
}

/** OpenSSL's and Node's names for a certificate or handshake that is refused. */
export function isCertificateCode(code: string): boolean {
  return /CERT|^ERR_TLS|^ERR_SSL|^EPROTO$|UNABLE_TO_|SIGNATURE/.test(code);
}

function redirected(from: URL, location: string): URL {
  let to: URL;
  try {
    to = new URL(location, from);
  } catch (cause) {
    throw new RequestFailure(from, 'a redirect to what is not a URL', { cause });
  }
  const downgrade = from.protocol === 'https:' && to.protocol === 'http:';
  if (downgrade || !['http:', 'https:'].includes(to.protocol) || to.username || to.password) {
    throw new RequestFailure(
      from,
      `a redirect to ${printable(to.protocol)}//${printable(to.host)}, which is not followed`,
    );
  }
  return to;
}

function retryAfterOf(headers: Headers | undefined): number | undefined {
  const text = headers?.get('retry-after');
  if (!text) return undefined;
  const seconds = /^\d{1,9}$/.test(text) ? Number(text) : (Date.parse(text) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, Math.ceil(seconds)) : undefined;
}
