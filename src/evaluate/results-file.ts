/**
 * The results file of a run: made, or opened to go on with.
 */
import { open, type FileHandle } from 'node:fs/promises';
import { EnvironmentError, UsageError, printable } from '../errors.js';
import { FORMAT, differingField, readResults, toLine, type Header } from './records.js';
import { requireFolderOf } from '../target.js';
import type { Tally } from './tally.js';

/**
 * @param path   of the file; absent, or (with `resume`) of the same evaluation
 * @param tally  gets the records that are there already
 * @throws UsageError if it is there without `resume`, or of something else, or if there is no folder for it; InputError if it is damaged
 */
export async function openResults(
  path: string,
  resume: boolean,
  header: Header,
  tally: Tally,
): Promise<FileHandle> {
  const shown = printable(path, 300);
  await requireFolderOf(path, '--results');
  let file: FileHandle;
  try {
    file = await open(path, resume ? 'a+' : 'ax+');
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? String(cause);
    if (code === 'EEXIST') {
      throw new UsageError(`--results ${shown} exists`, {
        next: 'Give --resume to go on with it, or another name.',
      });
    }
    throw new EnvironmentError(`cannot write --results ${shown}: ${code}`, { cause });
  }
  try {
    const found = await readResults(
      path,
      (before) => {
        const field =
          differingField(before, header) ??
          (String(before.shard) === String(header.shard) ? undefined : '--shard');
        if (field !== undefined) {
          throw new UsageError(`--results ${shown} is of another evaluation: the ${field} differs`, {
            next: 'Give another name, or the options it was started with.',
          });
        }
      },
      (record) => tally.add(record),
    );
    if (!found) await refuseForeign(file, shown);
    // A line that a killed process did not finish.
    await file.truncate(found?.bytes ?? 0);
    if (!found) await writeAll(file, toLine(header));
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** @throws EnvironmentError when the file system refuses */
export async function writeAll(file: FileHandle, text: string): Promise<void> {
  try {
    await file.appendFile(text);
  } catch (cause) {
    throw new EnvironmentError(
      `cannot write the results: ${(cause as NodeJS.ErrnoException).code ?? String(cause)}`,
      { next: 'What was written is whole: make room and go on with --resume.', cause },
    );
  }
}

/** A process that was killed at once leaves the beginning of a header; anything else is somebody's file. */
async function refuseForeign(file: FileHandle, shown: string): Promise<void> {
  const start = Buffer.from(toLine({ format: FORMAT } as Header).slice(0, -2));
  const head = Buffer.alloc(start.length);
  const { bytesRead } = await file.read(head, 0, head.length, 0);
  if (head.subarray(0, bytesRead).equals(start.subarray(0, bytesRead))) return;
  throw new UsageError(`--results ${shown} is no results file`, { next: 'Give another name.' });
}
