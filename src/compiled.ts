/**
 * The URL of a compiled sibling module, for worker threads and child processes: Node can't load TypeScript there, so
 * when this code runs from `src/` (tests) the module is taken from `dist/`, which `npm test` builds first.
 *
 * @param relative e.g. `./oracle-worker.js`
 * @param from     the caller's `import.meta.url`
 */
export function compiledUrl(relative: string, from: string): URL {
  const url = new URL(relative, from);
  if (from.endsWith('.ts')) url.pathname = url.pathname.replace(/\/src\/(?!.*\/src\/)/, '/dist/');
  return url;
}
