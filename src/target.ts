/**
 * Where a finished file goes. Everything is written into a folder of its own beside the target and gets its name only
 * when it is known to be good; whatever goes wrong before leaves the old file as it was, and no litter.
 */
import { rmSync } from 'node:fs';
import { link, lstat, mkdir, open, realpath, rename, rm, stat, unlink } from 'node:fs/promises';
import { randomBytes } from 'node:crypto';
import { basename, dirname, join, resolve } from 'node:path';
import { UsageError, printable } from './errors.js';
import { fileError } from './sink.js';

export interface Target {
  /** where the file will be */
  readonly path: string;
  /** where to write it now; its folder is new and empty, so files beside it are safe too */
  readonly staged: string;
  /** Give the staged files (by their names) their places, in this order; then tidy up. */
  publish(names: readonly string[]): Promise<void>;
  /** Remove everything that was staged. Safe to call at any time, and again. */
  discard(): Promise<void>;
}

export interface TargetOptions {
  /** refuse to replace an existing file */
  readonly noClobber?: boolean;
  /** files that are read and must not be overwritten */
  readonly inputs?: readonly string[];
}

const errorCode = (error: unknown): string =>
  error instanceof Error && 'code' in error ? String(error.code) : '';

/**
 * Is there a folder for this file? To be asked before any work is done.
 *
 * @param path   of the file or folder that will be written
 * @param option that named it
 * @throws UsageError naming the missing folder
 */
export async function requireFolderOf(path: string, option: string): Promise<void> {
  const folder = dirname(path);
  const found = await stat(folder).catch((error: unknown) => errorCode(error));
  if (found === 'ENOENT' || found === 'ENOTDIR' || (typeof found === 'object' && !found.isDirectory())) {
    throw missingFolder(folder, `${option} ${printable(path, 300)}`, found !== 'ENOENT');
  }
}

function missingFolder(folder: string, what: string, inFile: boolean): UsageError {
  const shown = printable(folder, 300);
  return new UsageError(`the folder of ${what} ${inFile ? 'is a file' : 'does not exist'}: ${shown}`, {
    next: inFile ? 'Choose another place.' : `Create it (mkdir -p ${shown}), or choose another place.`,
  });
}

/**
 * @throws UsageError if `path` is a folder, a device, one of the inputs, exists with `noClobber`, or if there is no folder
 *   for it; EnvironmentError if that is not writable
 */
export async function openTarget(path: string, options: TargetOptions = {}): Promise<Target> {
  const shown = printable(path, 300);
  if (path === '' || path.endsWith('/') || path.endsWith('\\')) {
    throw new UsageError(`--out ${shown || '""'} names a folder, not a file`, {
      next: 'Give a file name, e.g. model.onnx.',
    });
  }
  await requireFolderOf(path, '--out');
  const final = await throughLinks(resolve(path));
  const existing = await stat(final).catch(() => undefined);
  if (existing?.isDirectory()) {
    throw new UsageError(`--out ${shown} is a folder`, {
      next: `Give a file name, e.g. ${join(shown, 'model.onnx')}.`,
    });
  }
  // Renaming onto a device node or a pipe would replace it.
  if (existing && !existing.isFile()) {
    throw new UsageError(`--out ${shown} is not a regular file`, {
      next: 'Give the name of a file to write.',
    });
  }
  if (existing && options.noClobber) {
    throw new UsageError(`--out ${shown} exists, and --no-clobber says to keep it`, {
      next: 'Choose another name.',
    });
  }
  for (const input of options.inputs ?? []) {
    const source = await stat(input).catch(() => undefined);
    if (existing && source && source.ino === existing.ino && source.dev === existing.dev) {
      throw new UsageError(`--out ${shown} is the file that is read`, { next: 'Choose another name.' });
    }
  }
  const folder = dirname(final);
  const { staging, done } = await openStaging(folder);
  return {
    path: final,
    staged: join(staging, basename(final)),
    async publish(names) {
      await publish(folder, staging, names);
      await done();
    },
    discard: done,
  };
}

export interface FolderOptions extends TargetOptions {
  /** plain names of everything that will be written */
  readonly files: readonly string[];
}

/**
 * A folder of files that get their places together: a new folder appears whole by one rename; in an existing one the
 * files are renamed one after another and all put back if one of them cannot get its place.
 *
 * @param path of the folder; may end with a slash
 * @returns `staged` is the folder to write into now, `path` the one where the files will be
 * @throws UsageError if `path` is no folder, or holds an input or (with `noClobber`) one of `files`,
 *   or the folder above is missing; EnvironmentError if it is not writable
 */
export async function openFolderTarget(path: string, options: FolderOptions): Promise<Target> {
  const shown = printable(path, 300);
  await requireFolderOf(path, '--out');
  const final = await throughLinks(resolve(path));
  const existing = await stat(final).catch(() => undefined);
  if (existing && !existing.isDirectory()) {
    throw new UsageError(`--out ${shown} is not a folder`, { next: 'Give the name of a folder to write.' });
  }
  if (existing) {
    for (const name of options.files) await checkPlace(join(final, name), options);
    const { staging, done } = await openStaging(final);
    return {
      path: final,
      staged: staging,
      async publish(names) {
        await publish(final, staging, names);
        await done();
      },
      discard: done,
    };
  }
  const { staging, done } = await openStaging(dirname(final));
  const staged = join(staging, basename(final));
  await mkdir(staged);
  return {
    path: final,
    staged,
    async publish() {
      await rename(staged, final).catch((error: unknown) => Promise.reject(fileError(error, final)));
      await done();
    },
    discard: done,
  };
}

/** May this name be written? */
async function checkPlace(place: string, { noClobber, inputs }: TargetOptions): Promise<void> {
  const shown = printable(place, 300);
  const existing = await stat(place).catch(() => undefined);
  if (!existing) return;
  if (!existing.isFile())
    throw new UsageError(`${shown} is not a regular file`, { next: 'Choose another --out.' });
  if (noClobber) {
    throw new UsageError(`${shown} exists, and --no-clobber says to keep it`, {
      next: 'Choose another --out.',
    });
  }
  for (const input of inputs ?? []) {
    const source = await stat(input).catch(() => undefined);
    if (source?.ino === existing.ino && source.dev === existing.dev) {
      throw new UsageError(`${shown} is the file that is read`, { next: 'Choose another --out.' });
    }
  }
}

/** A new, empty folder inside `folder`; it goes away with `done`, or with the process. */
async function openStaging(folder: string): Promise<{ staging: string; done: () => Promise<void> }> {
  const staging = join(folder, `.convert-beit-${randomBytes(6).toString('hex')}`);
  await mkdir(staging).catch((error: unknown) => {
    throw fileError(error, folder);
  });
  // A process that ends at once (a second Ctrl-C) runs no `finally`.
  const sweep = (): void => rmSync(staging, { recursive: true, force: true });
  process.once('exit', sweep);
  return {
    staging,
    async done() {
      await rm(staging, { recursive: true, force: true });
      process.off('exit', sweep);
    },
  };
}

/** A link to a file is written through, as every other program does; a dangling one counts as the name itself. */
async function throughLinks(path: string): Promise<string> {
  const link = await lstat(path).catch(() => undefined);
  if (link?.isSymbolicLink()) return await realpath(path).catch(() => path);
  return path;
}

async function publish(folder: string, staging: string, names: readonly string[]): Promise<void> {
  const undo: (() => Promise<void>)[] = [];
  try {
    for (const name of names) {
      const place = join(folder, name);
      const backup = join(staging, `${name}.previous`);
      // A second name for the old file: it survives the rename until all files have their places.
      const had = await link(place, backup).then(
        () => true,
        () => false,
      );
      const before = had || (await lstat(place).catch(() => undefined)) !== undefined;
      await rename(join(staging, name), place);
      if (had) undo.unshift(() => rename(backup, place));
      else if (!before) undo.unshift(() => unlink(place));
    }
  } catch (error) {
    for (const step of undo) await step().catch(() => undefined);
    throw fileError(error, join(folder, names[names.length - 1]));
  }
}

/** Wait until the file's bytes are on the disk. */
export async function flushFile(path: string): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.datasync();
  } finally {
    await file.close();
  }
}
