/**
 * The cache that Hugging Face's tools share: `models--owner--name/{blobs,snapshots,refs}`.
 *
 * @see huggingface_hub `file_download.py` (`_hf_hub_download_to_cache_dir`): a blob is named by its etag, a snapshot
 *   holds relative links to blobs, a ref is a file with a commit in it, `.no_exist` remembers what a commit lacks
 */
import {
  copyFile,
  link,
  mkdir,
  readFile,
  readdir,
  readlink,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { randomBytes } from 'node:crypto';
import { basename, dirname, join, relative } from 'node:path';
import { isBlobId, isCommit, isRepoFile } from './hub-names.js';

export interface CachedFile {
  readonly path: string;
  readonly bytes: number;
  /** what the blob is called, when the link tells */
  readonly blobId: string | undefined;
}

/** One repository's part of the cache. Names must have passed `hub-names.ts` before they come here. */
export class RepoCache {
  readonly #root: string;
  readonly #name: string;

  constructor(cacheDir: string, repo: string) {
    this.#root = cacheDir;
    this.#name = `models--${repo.replace('/', '--')}`;
  }

  get folder(): string {
    return join(this.#root, this.#name);
  }

  blobPath(blobId: string): string {
    return join(this.folder, 'blobs', blobId);
  }

  lockPath(blobId: string): string {
    return join(this.#root, '.locks', this.#name, `${blobId}.convert-beit.lock`);
  }

  snapshotPath(commit: string, file: string): string {
    return join(this.folder, 'snapshots', commit, ...file.split('/'));
  }

  /** Commit that a branch or tag stood for when it was last asked. */
  async readRef(revision: string): Promise<string | undefined> {
    const text = await readFile(join(this.folder, 'refs', ...revision.split('/')), 'utf8').catch(() => '');
    return isCommit(text.trim()) ? text.trim() : undefined;
  }

  /** A cache that can't be written is fine as long as nothing has to be downloaded. */
  async writeRef(revision: string, commit: string): Promise<void> {
    if (revision === commit || (await this.readRef(revision)) === commit) return;
    const path = join(this.folder, 'refs', ...revision.split('/'));
    const temporary = `${path}.${randomBytes(4).toString('hex')}.tmp`;
    try {
      await mkdir(dirname(path), { recursive: true });
      await writeFile(temporary, commit);
      await rename(temporary, path);
    } catch {
      await rm(temporary, { force: true }).catch(() => undefined);
    }
  }

  async find(commit: string, file: string): Promise<CachedFile | undefined> {
    const path = this.snapshotPath(commit, file);
    const found = await stat(path).catch(() => undefined);
    if (!found?.isFile()) return undefined;
    const target = basename(await readlink(path).catch(() => ''));
    return { path, bytes: found.size, blobId: isBlobId(target) ? target : undefined };
  }

  /** Files of a snapshot's root folder; a cache need not hold all that the repository has. */
  async list(commit: string): Promise<string[]> {
    const entries = await readdir(this.snapshotPath(commit, ''), { withFileTypes: true }).catch(() => []);
    return entries
      .filter((entry) => !entry.isDirectory() && isRepoFile(entry.name))
      .map((entry) => entry.name);
  }

  /** Remember that a commit has no such file. */
  async markAbsent(commit: string, file: string): Promise<void> {
    const path = join(this.folder, '.no_exist', commit, ...file.split('/'));
    await mkdir(dirname(path), { recursive: true }).catch(() => undefined);
    await writeFile(path, '').catch(() => undefined);
  }

  async isAbsent(commit: string, file: string): Promise<boolean> {
    const path = join(this.folder, '.no_exist', commit, ...file.split('/'));
    return stat(path).then(
      () => true,
      () => false,
    );
  }

  /** Give a blob its place in a snapshot: a relative link, or where there are none a hard link or a copy. */
  async place(commit: string, file: string, blobId: string): Promise<string> {
    const path = this.snapshotPath(commit, file);
    const blob = this.blobPath(blobId);
    await mkdir(dirname(path), { recursive: true });
    const temporary = `${path}.${randomBytes(4).toString('hex')}.tmp`;
    try {
      await symlink(relative(dirname(path), blob), temporary)
        .catch(() => link(blob, temporary))
        .catch(() => copyFile(blob, temporary));
      await rename(temporary, path);
    } finally {
      await rm(temporary, { force: true });
    }
    return path;
  }
}
