/** `fetch` that tries again where trying again helps: a busy server (429, 5xx) or a connection that was cut. */
import { setTimeout as sleep } from 'node:timers/promises';

const TRIES = 5;
const FIRST_WAIT_MS = 300;
const LONGEST_WAIT_MS = 60_000;
const BUSY = new Set([408, 425, 429, 500, 502, 503, 504]);

/** A body that is read while it is sent cannot be sent again. */
function isReplayable(body: unknown): boolean {
  return (
    body === undefined ||
    body === null ||
    typeof body === 'string' ||
    body instanceof Uint8Array ||
    body instanceof Blob
  );
}

/**
 * Everything a push sends may be sent twice: uploads are named by their content, and a commit of what is there already
 * changes nothing.
 */
export function retryingFetch(signal?: AbortSignal): typeof fetch {
  return async (input, init) => {
    const again = isReplayable(init?.body) && !(input instanceof Request && input.body);
    for (let attempt = 1; ; attempt++) {
      signal?.throwIfAborted();
      let wait = FIRST_WAIT_MS * 2 ** (attempt - 1);
      try {
        const response = await fetch(input, { ...init, signal: init?.signal ?? signal });
        if (!again || attempt === TRIES || !BUSY.has(response.status)) return response;
        wait = retryAfter(response.headers.get('retry-after')) ?? wait;
        await response.body?.cancel().catch(() => undefined);
      } catch (error) {
        if (!again || attempt === TRIES || signal?.aborted || init?.signal?.aborted) throw error;
      }
      await sleep(Math.min(wait, LONGEST_WAIT_MS), undefined, { signal });
    }
  };
}

function retryAfter(header: string | null): number | undefined {
  if (header === null) return undefined;
  if (/^\d{1,6}$/.test(header)) return Number(header) * 1000;
  const date = Date.parse(header);
  return Number.isNaN(date) ? undefined : Math.max(0, date - Date.now());
}
