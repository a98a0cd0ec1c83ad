/** Folders as a static web server hands them out. */
import { readdirSync, statSync } from 'node:fs';
import { extname, join, sep } from 'node:path';
import type { FileServer } from './file-server.js';

/** Browsers run no module and compile no WebAssembly without its type. */
const TYPES: Readonly<Record<string, string>> = {
  '.css': 'text/css',
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.json': 'application/json',
  '.mjs': 'text/javascript',
  '.wasm': 'application/wasm',
};

/** Everything below `folder`, at `at` (ends in `/`). */
export function serveFolder(server: FileServer, at: string, folder: string): void {
  for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
    const path = join(folder, name);
    const status = statSync(path);
    if (!status.isFile()) continue;
    server.files.set(at + name.split(sep).join('/'), {
      content: { path, size: status.size },
      headers: { 'content-type': TYPES[extname(name)] ?? 'application/octet-stream' },
    });
  }
}
