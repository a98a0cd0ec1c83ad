/**
 * Where downloads from plain addresses are kept:
 * `<cache>/<host>/<hash of the address>/<hash of the version>/<file name>`, each with `<file name>.sha256` beside it.
 *
 * The folder is `CONVERT_BEIT_CACHE`, else `convert-beit` in the system's folder for caches. It is not the hub's: there
 * a name is a commit and a blob id, which an address does not have.
 */
import type { Env } from '../../env.js';
import { createHash } from 'node:crypto';
import { readFile, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { isVersioned, type FileVersion } from './file-version.js';
import { isRepoFile } from './hub-names.js';

export const CACHE_VARIABLE = 'CONVERT_BEIT_CACHE';

/** Folder of all downloads. */
export function downloadFolder(env: Env = process.env, platform = process.platform): string {
  const home = env.HOME || env.USERPROFILE || homedir();
  if (env[CACHE_VARIABLE]) return env[CACHE_VARIABLE];
  if (env.XDG_CACHE_HOME) return join(env.XDG_CACHE_HOME, 'convert-beit');
  if (platform === 'darwin') return join(home, 'Library', 'Caches', 'convert-beit');
  if (platform === 'win32') {
    return join(env.LOCALAPPDATA || join(home, 'AppData', 'Local'), 'convert-beit', 'Cache');
  }
  return join(home, '.cache', 'convert-beit');
}

export interface Downloaded {
  readonly path: string;
  readonly bytes: number;
  readonly sha256: string | undefined;
}

/** One address's part of the folder. */
export class UrlCache {
  readonly #folder: string;
  readonly file: string;
  readonly lockPath: string;

  constructor(root: string, url: URL) {
    const host = url.host.replace(/[^a-z0-9.-]/gi, '_');
    const id = shortHash(url.href.replace(/#.*$/s, ''));
    this.#folder = join(root, host, id);
    this.lockPath = join(root, '.locks', `${id}.lock`);
    this.file = fileName(url);
  }

  /** Where a version of the file is, or would be. One without any mark of its version is told by its length. */
  pathOf(version: FileVersion, bytes: number): string {
    const mark = isVersioned(version) ? `${version.etag ?? ''}\n${version.lastModified ?? ''}` : '';
    return join(this.#folder, shortHash(`${bytes}\n${mark}`), this.file);
  }

  async find(path: string): Promise<Downloaded | undefined> {
    const found = await stat(path).catch(() => undefined);
    if (!found?.isFile()) return undefined;
    const text = await readFile(`${path}.sha256`, 'utf8').catch(() => '');
    return { path, bytes: found.size, sha256: /^([0-9a-f]{64}) /.exec(text)?.[1] };
  }

  /** The version that came last. */
  async newest(): Promise<Downloaded | undefined> {
    const versions = await readdir(this.#folder).catch(() => []);
    const dated = await Promise.all(
      versions.map(async (version) => {
        const path = join(this.#folder, version, this.file);
        const time = await stat(path).then(
          (found) => found.mtimeMs,
          () => undefined,
        );
        return { path, time };
      }),
    );
    const there = dated.flatMap(({ path, time }) => (time === undefined ? [] : [{ path, time }]));
    there.sort((a, b) => b.time - a.time);
    return there.length > 0 ? await this.find(there[0].path) : undefined;
  }

  /** Write the file's digest as `sha256sum` does, and forget the versions that the server no longer has. */
  async settle(path: string, sha256: string): Promise<void> {
    const note = `${path}.sha256`;
    await writeFile(`${note}.tmp`, `${sha256}  ${this.file}\n`)
      .then(() => rename(`${note}.tmp`, note))
      .catch(() => rm(`${note}.tmp`, { force: true }));
    const kept = dirname(path);
    const versions = (await readdir(this.#folder)).map((version) => join(this.#folder, version));
    for (const version of versions.filter((folder) => folder !== kept)) {
      await rm(version, { recursive: true, force: true }).catch(() => undefined);
    }
  }
}

/**
 * First digits of a file's sha256, where its name carries them: `<name>-<8 hex>.pth`, the habit of OpenMMLab and of
 * torch.hub. Eight decimal digits that are a date say nothing.
 */
export function digestInName(name: string): string | undefined {
  const digits = /-([0-9a-f]{8})\.(?:pth|pt|bin|tar|pth\.tar|zip|safetensors)$/.exec(name)?.[1];
  return digits && !/^(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])$/.test(digits)
    ? digits
    : undefined;
}

/** The last part of an address, as a name that any file system takes. */
function fileName(url: URL): string {
  let name = url.pathname.split('/').at(-1) ?? '';
  try {
    name = decodeURIComponent(name);
  } catch {
    // Not valid UTF-8 behind the percent signs: kept as it is written.
  }
  return isRepoFile(name) && !name.includes('/') && Buffer.byteLength(name) <= 200 ? name : 'download';
}

function shortHash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}
