/** The commands that docs/*.md tell a person to run inside a checkout, in a folder of their own. */
import { execFile } from 'node:child_process';
import { chmod, mkdtemp, readFile, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { MAIN, cleanEnv } from '../cli/harness.js';

export const ROOT = fileURLToPath(new URL('../../', import.meta.url));
export const DOCS = join(ROOT, 'docs');

/** What such commands read. */
const LINKED = ['fixtures', 'scripts', 'docs', 'node_modules'];

/** Bodies of a page's code blocks with exactly this info string. */
export function blocks(text: string, info: string): string[] {
  return [...text.matchAll(/^```(.*)\n([\s\S]*?)^```$/gm)]
    .filter(([, kind]) => kind === info)
    .map(([, , body]) => body);
}

export const readDoc = (name: string): Promise<string> => readFile(join(DOCS, name), 'utf8');

/** A folder that looks like this checkout to what runs in it, but takes what is written. */
export async function checkoutFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'convert-beit-docs-'));
  for (const name of LINKED) await symlink(join(ROOT, name), join(folder, name));
  // `npx convert-beit` of this checkout.
  await writeFile(join(folder, 'npx'), `#!/bin/sh\nshift\nexec "${process.execPath}" "${MAIN}" "$@"\n`);
  await chmod(join(folder, 'npx'), 0o755);
  return folder;
}

/** @throws with what it printed, if a command of it fails */
export async function runBlock(block: string, folder: string): Promise<void> {
  const env = cleanEnv({ PATH: `${folder}:${process.env['PATH'] ?? ''}` });
  await promisify(execFile)('sh', ['-e', '-c', block], { cwd: folder, env });
}
