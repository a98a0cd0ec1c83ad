/** Failures of a push as sentences: what the hub said, what it means, the next step. */
import { ConvertBeitError, NetworkError, printable } from '../errors.js';

export interface PushContext {
  readonly repo: string;
  readonly endpoint: string;
}

const MEANINGS = new Map<number, { readonly what: string; readonly next: string }>([
  [
    401,
    {
      what: 'the access token is not accepted',
      next: 'Set HF_TOKEN to a valid token (https://huggingface.co/settings/tokens).',
    },
  ],
  [
    403,
    {
      what: 'the access token has no right to write there',
      next: 'Use a token with the right to write to that repository, or ask its owner.',
    },
  ],
  [404, { what: 'there is no such repository or owner', next: 'Check the name after --push.' }],
  [409, { what: 'the repository was changed at the same moment', next: 'Push again.' }],
  [412, { what: 'the repository was changed at the same moment', next: 'Push again.' }],
  [413, { what: 'a file is too large for it', next: 'Ask the hub for more room, or leave the file out.' }],
  [429, { what: 'it asks to wait: too many requests', next: 'Wait a few minutes and push again.' }],
]);

/** @param error whatever the library or a request threw; our own errors come back as they are */
export function pushError(error: unknown, { repo, endpoint }: PushContext): unknown {
  if (error instanceof ConvertBeitError || (error instanceof Error && error.name === 'AbortError'))
    return error;
  const subject = `${printable(endpoint, 300)} did not take ${printable(repo)}`;
  const status = (error as { statusCode?: unknown } | null)?.statusCode;
  const said = error instanceof Error ? printable(error.message.split('\n')[0], 300) : '';
  const nothing = 'Nothing was published.';
  if (typeof status === 'number') {
    const known = MEANINGS.get(status);
    const what = known?.what ?? (status >= 500 ? 'it has an error of its own' : `it answered ${status}`);
    return new NetworkError(`${subject}: ${what} (${status}${said ? `: ${said}` : ''})`, {
      next: `${nothing} ${known?.next ?? 'Push again later.'}`,
      cause: error,
    });
  }
  const cause = (error as { cause?: { code?: unknown } } | null)?.cause?.code;
  return new NetworkError(
    `${subject}: ${typeof cause === 'string' ? `${cause}, ` : ''}${said || 'no answer'}`,
    {
      next: `${nothing} Check the network and HF_ENDPOINT, then push again.`,
      cause: error,
    },
  );
}
