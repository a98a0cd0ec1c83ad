/** The environment variables of `huggingface_hub`, read as it reads them (`huggingface_hub/constants.py`). */
import type { Env } from '../../env.js';
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { UsageError, printable } from '../../errors.js';

export interface HubSettings {
  /** no trailing slash */
  readonly endpoint: string;
  readonly token: string | undefined;
  /** no request may be made */
  readonly offline: boolean;
  /** folder that holds `models--owner--name` */
  readonly cacheDir: string;
}

const HUB = 'https://huggingface.co';

/**
 * `HF_ENDPOINT`, `HF_TOKEN` (else the token file), `HF_HUB_OFFLINE`, `HF_HOME`, `HF_HUB_CACHE` and their older names.
 * @throws UsageError when one is set to what cannot be used; a token is never quoted
 */
export async function hubSettings(env: Env = process.env): Promise<HubSettings> {
  const home = env.HF_HOME || join(env.XDG_CACHE_HOME || join('~', '.cache'), 'huggingface');
  const cache = env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE || join(home, 'hub');
  return {
    endpoint: endpointOf(env),
    token: await tokenOf(env, expand(env.HF_TOKEN_PATH || join(home, 'token'), env)),
    offline: isTrue(env.HF_HUB_OFFLINE || env.TRANSFORMERS_OFFLINE),
    cacheDir: expand(cache, env),
  };
}

function isTrue(value: string | undefined): boolean {
  return ['1', 'ON', 'YES', 'TRUE'].includes((value ?? '').toUpperCase());
}

/** `~` and `$NAME`, as Python's `expanduser` and `expandvars`. */
function expand(path: string, env: Env): string {
  const user = env.HOME || env.USERPROFILE || homedir();
  const atHome =
    path === '~' || path.startsWith('~/') || path.startsWith('~\\') ? user + path.slice(1) : path;
  return atHome.replace(/\$(?:(\w+)|\{(\w+)\})/g, (all, bare?: string, braced?: string) => {
    return env[bare ?? braced ?? ''] ?? all;
  });
}

function endpointOf(env: Env): string {
  const text = (env.HF_ENDPOINT || HUB).trim();
  let url: URL;
  try {
    url = new URL(text);
  } catch (cause) {
    throw new UsageError(`HF_ENDPOINT is "${printable(text)}", which is not a URL`, {
      next: `Set it to the address of a hub or a mirror, as ${HUB}, or unset it.`,
      cause,
    });
  }
  if (url.username || url.password) {
    throw new UsageError(
      'HF_ENDPOINT holds a user name or a password; a request cannot be made to such a URL',
      {
        next: 'Leave them out of the URL and set HF_TOKEN.',
      },
    );
  }
  if (!['http:', 'https:'].includes(url.protocol) || url.search || url.hash) {
    throw new UsageError(
      `HF_ENDPOINT is "${printable(text)}"; an http(s) address without ? and # is needed`,
      {
        next: `Set it to the address of a hub or a mirror, as ${HUB}, or unset it.`,
      },
    );
  }
  return url.href.replace(/\/+$/, '');
}

async function tokenOf(env: Env, file: string): Promise<string | undefined> {
  if (isTrue(env.HF_HUB_DISABLE_IMPLICIT_TOKEN)) return undefined;
  const given = (env.HF_TOKEN || env.HUGGING_FACE_HUB_TOKEN || '').trim();
  const token = given || (await readFile(file, 'utf8').catch(() => '')).trim();
  if (token === '') return undefined;
  // Printable ASCII only: anything else can't be sent in a header, and fetch would quote it in its error.
  if (!/^[\x21-\x7e]{1,4096}$/.test(token)) {
    const place = given ? 'HF_TOKEN' : `the token file ${printable(file)}`;
    throw new UsageError(`${place} holds characters that no access token has`, {
      next: given ? 'Correct or unset HF_TOKEN.' : 'Correct or delete that file, or set HF_TOKEN.',
    });
  }
  return token;
}
