/** Files of a release: found, measured, hashed. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { ByteSource } from '../bytes.js';
import { openFile } from '../file-source.js';
import { sha256Of } from '../digest.js';
import { byPath, type ReleasedFile } from './record.js';

export async function openLocalFile(path: string): Promise<ByteSource> {
  return await openFile(path);
}

/** @param path relative to `folder`, with `/` */
export async function hashFile(folder: string, path: string, signal?: AbortSignal): Promise<ReleasedFile> {
  const file = await openLocalFile(join(folder, ...path.split('/')));
  try {
    return { path, bytes: file.size, sha256: await sha256Of(file, signal) };
  } finally {
    await file.close();
  }
}

/** All files below a folder, hashed, sorted by path. */
export async function hashFolder(folder: string, signal?: AbortSignal): Promise<ReleasedFile[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = entries
    .filter((entry) => entry.isFile())
    .map((entry) =>
      join(entry.parentPath, entry.name)
        .slice(folder.length + 1)
        .replaceAll('\\', '/'),
    );
  const files: ReleasedFile[] = [];
  for (const path of paths) files.push(await hashFile(folder, path, signal));
  return files.sort(byPath);
}
