/** What makes the cache stand in for a server. */
import { RequestFailure } from './hub-http.js';

/** A server could not be reached or is in trouble. A refusal is no such thing. */
export function isOutage(error: unknown): boolean {
  if (!(error instanceof RequestFailure)) return false;
  return error.status === undefined ? error.code !== undefined : error.status === 429 || error.status >= 500;
}
