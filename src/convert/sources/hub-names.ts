/**
 * Names that come from a command line, an index file or a server and end up in a URL or in a path of the cache.
 * Each check is a closed grammar: what is not known to be harmless is refused.
 */

/** A commit: 40 hexadecimal digits. */
const COMMIT = /^[0-9a-f]{40}$/;
/** Name of a blob in the cache: git's sha1 of a small file, or the sha256 of an LFS file. */
const BLOB_ID = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/;
const REPO_PART = /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_-])?$/;
const REVISION_PART = /^[A-Za-z0-9_](?:[A-Za-z0-9._+=-]{0,120}[A-Za-z0-9_+=-])?$/;
// Controls, and what Windows reserves: a cache may live on a disk that Windows reads too.
const UNSAFE_IN_FILE = /[\u0000-\u001f\u007f-\u009f\\:*?"<>|\u2028\u2029]/;

export function isCommit(text: string): boolean {
  return COMMIT.test(text);
}

/** Only an id that passes may become part of a path. */
export function isBlobId(text: unknown): text is string {
  return typeof text === 'string' && BLOB_ID.test(text);
}

/** `owner/name`, as the hub allows it (`--` is the cache's own separator, `.git` is reserved). */
export function isRepo(text: string): boolean {
  const parts = text.split('/');
  return (
    parts.length === 2 &&
    parts.every((part) => REPO_PART.test(part) && !/--|\.\./.test(part) && !part.endsWith('.git'))
  );
}

/** A branch, tag, `refs/pr/3` or commit; a file of this name is written below the cache's `refs/`. */
export function isRevision(text: string): boolean {
  return (
    text.length <= 200 &&
    text
      .split('/')
      .every((part) => REVISION_PART.test(part) && !part.includes('..') && !part.endsWith('.lock'))
  );
}

/** A path inside a repository: relative, `/`-separated, no way out. */
export function isRepoFile(text: unknown): text is string {
  return (
    typeof text === 'string' &&
    text.length <= 400 &&
    !UNSAFE_IN_FILE.test(text) &&
    !/\p{Surrogate}/u.test(text) &&
    text.split('/').every((part) => part !== '' && part.length <= 200 && part !== '.' && part !== '..')
  );
}

/** Folder of a repository's path, `''` for its root. */
export function folderOf(file: string): string {
  return file.slice(0, file.lastIndexOf('/') + 1);
}
