/**
 * A release as one `.zip`, streamed: files are read in chunks and stored as they are (weights do not compress).
 * Zip32 ends at 4 GiB; a bundle beyond it is refused before a byte is written.
 */
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { Zip, ZipPassThrough } from 'fflate';
import { formatBytes } from '../bytes.js';
import { UsageError } from '../errors.js';
import { fileError } from '../sink.js';
import { byPath, type ReleasedFile } from './record.js';

/** What a zip without its 64-bit extension can address, less room for its directory. */
const ZIP_LIMIT = 2 ** 32 - 16 * 1024 * 1024;

/** File name of the bundle of a release with this title. */
export function bundleName(title: string): string {
  return `${title.replaceAll(/[^A-Za-z0-9._-]+/g, '-')}.zip`;
}

/** @throws UsageError for more than a zip holds: best asked before the work */
export function refuseHugeBundle(bytes: number): void {
  if (bytes <= ZIP_LIMIT) return;
  throw new UsageError(`a zip holds 4 GiB; this release has ${formatBytes(bytes)}`, {
    next: 'Release fewer models at once (--only, --shard), or leave --zip out.',
  });
}

export interface BundleOptions {
  readonly signal?: AbortSignal;
  /** seconds since 1970 (`SOURCE_DATE_EPOCH`); default 1980-01-01, the first day a zip can name */
  readonly epoch?: number;
}

/** @throws UsageError for more than a zip holds; EnvironmentError when the file system refuses */
export async function writeBundle(
  path: string,
  folder: string,
  files: readonly ReleasedFile[],
  options: BundleOptions = {},
): Promise<void> {
  const total = files.reduce((sum, { bytes }) => sum + bytes, 0);
  refuseHugeBundle(total);
  const target = await open(path, 'wx').catch((error: unknown) =>
    Promise.reject(fileError(error, path, total)),
  );
  try {
    let pending: Uint8Array[] = [];
    let failure: Error | undefined;
    const zip = new Zip((error, chunk) => {
      if (error) failure = error;
      else if (chunk.length > 0) pending.push(chunk);
    });
    const drain = async (): Promise<void> => {
      if (failure) throw failure;
      const chunks = pending;
      pending = [];
      for (const chunk of chunks) await target.write(chunk);
    };
    const mtime = zipDate(options.epoch);
    for (const { path: name } of [...files].sort(byPath)) {
      const entry = new ZipPassThrough(name);
      entry.mtime = mtime;
      zip.add(entry);
      for await (const chunk of createReadStream(join(folder, ...name.split('/')), {
        highWaterMark: 1024 * 1024,
      })) {
        options.signal?.throwIfAborted();
        // The zip keeps what it is given until it is written: a stream's own buffer is not used again.
        entry.push(chunk as Buffer, false);
        await drain();
      }
      entry.push(new Uint8Array(0), true);
      await drain();
    }
    zip.end();
    await drain();
    await target.datasync();
  } catch (error) {
    throw fileError(error, path, total);
  } finally {
    await target.close();
  }
}

/**
 * Zip times have no zone: the library writes a date's local parts, so the date is built from local parts that spell
 * the same moment everywhere.
 */
function zipDate(epoch: number | undefined): Date {
  const first = Date.UTC(1980, 0, 1) / 1000;
  const utc = new Date(Math.max(epoch ?? first, first) * 1000);
  return new Date(
    utc.getUTCFullYear(),
    utc.getUTCMonth(),
    utc.getUTCDate(),
    utc.getUTCHours(),
    utc.getUTCMinutes(),
    utc.getUTCSeconds(),
  );
}
