/** `list`: the published checkpoints that have a name. */
import { DEFAULT_CATALOG_NAME } from '../convert/catalog-data.js';
import { catalog } from '../convert/catalog.js';
import type { CatalogEntry } from '../results.js';

/**
 * Every published checkpoint that has a name: the official classifiers, then OpenMMLab's. Makes no request.
 *
 * @example
 * ```js
 * import { listCatalog } from 'convert-beit';
 *
 * for (const { src, classes, top1 = 'not published' } of listCatalog()) console.log(src, classes, top1);
 * ```
 */
export function listCatalog(): readonly CatalogEntry[] {
  return [...catalog('official'), ...catalog('mmpretrain')].map((row) => ({
    name: row.name,
    src: `${row.publisher}:${row.name}`,
    publisher: row.publisher,
    task: row.task,
    version: row.version,
    arch: row.architecture,
    imageSize: row.imageSize,
    classes: row.classes,
    ...(row.parameters !== undefined && { parameters: row.parameters }),
    ...(row.flops !== undefined && { flops: row.flops }),
    ...(row.top1 !== undefined && { top1: row.top1 }),
    ...(row.top5 !== undefined && { top5: row.top5 }),
    source: row.sources[0].kind === 'hf' ? `hf:${row.sources[0].repo}` : new URL(row.sources[0].url).host,
    isDefault: row.name === DEFAULT_CATALOG_NAME,
  }));
}
