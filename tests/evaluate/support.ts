/** The demo model as a file, and pictures that it knows. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll } from 'vitest';
import { convert } from '../../src/pipeline.js';

export const fixture = (path: string): string =>
  fileURLToPath(new URL(`../../fixtures/${path}`, import.meta.url));

/** A folder that is gone after the tests of this file. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'convert-beit-evaluate-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export async function demoModel(folder: string, name = 'demo.onnx'): Promise<string> {
  const out = join(folder, name);
  await convert({ src: fixture('demo/beit_demo_patch8_64.safetensors'), out, verify: false });
  return out;
}

const { makeShapes } = (await import(new URL('../../scripts/make-shapes.mjs', import.meta.url).href)) as {
  makeShapes: (folder: string, count: number, seed?: number, side?: number) => Promise<string[]>;
};
export { makeShapes };
