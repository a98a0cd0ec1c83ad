/**
 * A model that is linked to a checkpoint says which one; the file beside it must be that one.
 */
import { basename } from 'node:path';
import { listNames, printable } from '../../errors.js';
import { fingerprint } from '../../fingerprint.js';
import { sha256Of } from '../../digest.js';
import type { OnnxFile } from '../onnx-file.js';

const KEY = 'convert_beit.linked_files';

interface LinkedFile {
  readonly name: string;
  readonly bytes: number;
  readonly sha256?: string;
  readonly fingerprint?: string;
}

/** @returns one sentence per file that is not the one the model was linked to; empty for models that are not linked */
export async function linkedFindings(file: OnnxFile, signal?: AbortSignal): Promise<string[]> {
  const stated = file.metadata.get(KEY);
  if (stated === undefined) return [];
  const rows = parse(stated);
  if (!rows) return [`the metadata entry ${KEY} is no list of files`];
  const findings: string[] = [];
  const byName = new Map(rows.map((row) => [row.name, row]));
  const unstated = file.dataFiles.map(({ name }) => basename(name)).filter((name) => !byName.has(name));
  if (unstated.length > 0) findings.push(`${KEY} says nothing about ${listNames(unstated)}`);
  for (const source of file.dataFiles) {
    const row = byName.get(basename(source.name));
    if (!row) continue;
    const name = printable(row.name);
    if (source.size !== row.bytes) {
      findings.push(`${name} has ${source.size} bytes; the model was linked to a file of ${row.bytes}`);
    } else if (row.sha256 !== undefined) {
      const found = await sha256Of(source, signal);
      if (found !== row.sha256)
        findings.push(`${name} has sha256 ${found}; the model was linked to ${printable(row.sha256)}`);
    } else if ((await fingerprint(source)) !== row.fingerprint) {
      findings.push(`${name} is not the file that the model was linked to: their fingerprints differ`);
    }
  }
  return findings;
}

function parse(text: string): LinkedFile[] | undefined {
  try {
    const rows: unknown = JSON.parse(text);
    return Array.isArray(rows) && rows.every(isRow) ? rows : undefined;
  } catch {
    return undefined;
  }
}

function isRow(row: unknown): row is LinkedFile {
  if (typeof row !== 'object' || row === null) return false;
  const { name, bytes, sha256, fingerprint: quick } = row as Record<string, unknown>;
  return (
    typeof name === 'string' &&
    typeof bytes === 'number' &&
    (typeof sha256 === 'string' || typeof quick === 'string')
  );
}
