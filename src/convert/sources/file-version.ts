/** Which version of a file a server sends: what its headers say. */

export interface FileVersion {
  readonly etag?: string;
  readonly lastModified?: string;
}

export function versionOf(headers: Headers): FileVersion {
  const etag = headers.get('etag')?.trim();
  const lastModified = headers.get('last-modified')?.trim();
  return { ...(etag && { etag }), ...(lastModified && { lastModified }) };
}

/** Nothing says that these are two versions. A weak etag (`W/"…"`) is as good as a strong one to notice a change. */
export function sameVersion(a: FileVersion, b: FileVersion): boolean {
  if (a.etag !== undefined && b.etag !== undefined) return bare(a.etag) === bare(b.etag);
  if (a.lastModified !== undefined && b.lastModified !== undefined) return a.lastModified === b.lastModified;
  return true;
}

/** The server tells one version of the file from another. */
export function isVersioned(version: FileVersion): boolean {
  return version.etag !== undefined || version.lastModified !== undefined;
}

function bare(etag: string): string {
  return etag.replace(/^W\//, '');
}
