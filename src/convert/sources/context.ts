/** What every request of this folder needs: settings, a way to wait, the caller's signal. */
import type { Env } from '../../env.js';
import { setTimeout as delay } from 'node:timers/promises';
import { throwIfStopped, type HttpContext } from './hub-http.js';
import { hubSettings } from './hub-settings.js';

export interface NetworkOptions {
  readonly signal?: AbortSignal | undefined;
  /** where `HF_*` and `CONVERT_BEIT_CACHE` are read; `process.env` by default */
  readonly env?: Env | undefined;
  readonly fetch?: typeof fetch | undefined;
  /** longest silence of a server in milliseconds, 60 s by default */
  readonly silence?: number | undefined;
  /** replaces the waiting between two attempts */
  readonly sleep?: ((milliseconds: number) => Promise<void>) | undefined;
}

/** @throws UsageError when an environment variable is set to what cannot be used */
export async function httpContext(options: NetworkOptions): Promise<HttpContext> {
  const { signal } = options;
  const sleep =
    options.sleep ?? ((milliseconds) => delay(milliseconds, undefined, { signal }).catch(() => undefined));
  return {
    settings: await hubSettings(options.env),
    fetch: options.fetch ?? fetch,
    signal,
    silence: options.silence ?? 60_000,
    sleep: async (milliseconds) => {
      await sleep(milliseconds);
      throwIfStopped(signal);
    },
  };
}
