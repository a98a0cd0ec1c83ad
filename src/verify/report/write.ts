/**
 * Reports as files, their format told by the name's ending.
 */
import { rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, extname, join } from 'node:path';
import { EnvironmentError, UsageError, printable } from '../../errors.js';
import type { ReportDocument } from './data.js';

type Format = (document: ReportDocument) => Promise<string>;

const FORMATS: ReadonlyMap<string, Format> = new Map<string, Format>([
  ['.html', async (document) => (await import('./html.js')).htmlReport(document)],
  ['.htm', async (document) => (await import('./html.js')).htmlReport(document)],
  ['.md', async (document) => (await import('./markdown.js')).markdownReport(document)],
  ['.json', (document) => Promise.resolve(jsonReport(document))],
]);

/** @throws UsageError before any work is done, if a name has an ending that is no format */
export function checkReportPaths(paths: readonly string[]): void {
  for (const path of paths) {
    if (FORMATS.has(extname(path).toLowerCase())) continue;
    throw new UsageError(`${printable(path)} is no report we can write`, {
      next: 'The ending says the format: report.html, report.json or report.md.',
    });
  }
}

/** What JSON has no number for becomes its name (`"NaN"`, `"Infinity"`), as everywhere in this tool's JSON. */
export function jsonReport(document: object): string {
  const plain = (_: string, value: unknown): unknown =>
    typeof value === 'number' && !Number.isFinite(value) ? String(value) : value;
  return `${JSON.stringify(document, plain, 2)}\n`;
}

/** @throws EnvironmentError when the file system refuses */
export async function writeReports(paths: readonly string[], document: ReportDocument): Promise<void> {
  for (const path of paths) {
    const text = await FORMATS.get(extname(path).toLowerCase())!(document);
    const staged = join(dirname(path), `.${basename(path)}.${process.pid}.tmp`);
    try {
      await writeFile(staged, text);
      await rename(staged, path);
    } catch (cause) {
      await rm(staged, { force: true });
      const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown error';
      throw new EnvironmentError(`cannot write ${printable(path)}: ${code}`, { cause });
    }
  }
}
