/** What stands over all items: `README.md`, `metafile.yml`, `release.json`, `SHA256SUMS`, and the bundle. */
import { createHash } from 'node:crypto';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { VERSION } from '../version.js';
import { bundleName, writeBundle } from './bundle.js';
import { hashFile } from './files.js';
import { metafile, readmeTable } from './metafile.js';
import type { FinishedItem, ReleasedFile } from './record.js';
import { withoutPaths } from './state.js';
import { checksums } from './sums.js';

export interface OverallOptions {
  /** path of the manifest, and the release's title in it */
  readonly manifest: string;
  readonly name: string;
  readonly out: string;
  /** where files are written first */
  readonly work: string;
  readonly epoch: number | undefined;
  readonly zip?: boolean;
  readonly signal?: AbortSignal;
}

/** Each of the files is whole, or as it was before. */
export async function writeOverall(
  items: readonly FinishedItem[],
  options: OverallOptions,
): Promise<readonly ReleasedFile[]> {
  const { name, out, work, epoch, signal } = options;
  const released = items.map((item) => item.released);
  const files: ReleasedFile[] = [];
  const place = async (path: string, content: string): Promise<ReleasedFile> => {
    const bytes = Buffer.from(content);
    await writeFile(join(work, path), bytes);
    await rename(join(work, path), join(out, path));
    return { path, bytes: bytes.length, sha256: sha256(bytes) };
  };
  files.push(await place('README.md', readmeTable(name, released)));
  files.push(await place('metafile.yml', metafile(released)));
  const told = await provenance(items, options);
  files.push(await place('release.json', `${JSON.stringify(told, undefined, 2)}\n`));
  const all = [
    ...files,
    ...released.flatMap(({ item, files: own }) =>
      own.map((file) => ({ ...file, path: `${item.name}/${file.path}` })),
    ),
  ];
  const sums = await place('SHA256SUMS', checksums(all));
  files.push(sums);
  if (options.zip) {
    const bundle = bundleName(name);
    await writeBundle(join(work, bundle), out, [...all, sums], { signal, epoch });
    await rename(join(work, bundle), join(out, bundle));
    files.push(await hashFile(out, bundle));
  }
  return files;
}

async function provenance(items: readonly FinishedItem[], options: OverallOptions): Promise<object> {
  const { manifest, epoch } = options;
  return {
    schema: 'convert-beit/release/1',
    tool: { name: 'convert-beit', version: VERSION },
    manifest: { name: basename(manifest), sha256: sha256(await readFile(manifest)) },
    ...(epoch !== undefined && { sourceDateEpoch: epoch }),
    items: items.map(({ released: { item, source, models, files }, inputs }) => ({
      name: item.name,
      options: withoutPaths(item),
      // The conversion has hashed all weights; whoever vouched for them before it may have named none.
      inputs: { ...inputs, id: source.id, commit: source.commit, files: source.files },
      config: source.config,
      preprocessing: source.preprocessing,
      models,
      outputs: files,
    })),
  };
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
