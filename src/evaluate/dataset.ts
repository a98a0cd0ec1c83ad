/**
 * What is evaluated: an ImageNet-style folder (a sub-folder per class) or a CSV list, in an order that is the same on
 * every machine.
 */
import { createHash } from 'node:crypto';
import type { Dirent } from 'node:fs';
import { readFile, readdir, realpath, stat } from 'node:fs/promises';
import { basename, dirname, extname, isAbsolute, join, resolve } from 'node:path';
import { EnvironmentError, InputError, printable } from '../errors.js';
import { parseCsv } from './csv.js';

export interface Item {
  /** path below the folder, or as the list has it; `/` between its parts */
  readonly image: string;
  /** name of its class; absent: unknown */
  readonly className?: string;
}

export interface Dataset {
  /** folder or list, without where it lies */
  readonly name: string;
  /** folder that `image` is below */
  readonly root: string;
  readonly items: readonly Item[];
  /** files in the folder that are no pictures, by their extensions */
  readonly ignored: number;
  /** of all names and classes in order; pictures are not read for it */
  readonly sha256: string;
}

/** What torchvision's ImageFolder takes for a picture, and the further formats that are decoded here. */
const EXTENSIONS: ReadonlySet<string> = new Set(
  ['jpg', 'jpeg', 'png', 'webp', 'gif', 'tif', 'tiff', 'avif', 'bmp', 'ppm', 'pgm'].map((e) => `.${e}`),
);
const MAX_LIST_BYTES = 512 * 1024 * 1024;
/** First cells that make the first row of a list a heading. */
const HEADINGS: ReadonlySet<string> = new Set(['path', 'image', 'file', 'filename', 'name']);

/** By UTF-16 code units: no language has a say in it. */
const byName = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/**
 * @param path a folder, or a CSV file `path,class` (heading optional; paths relative to the list)
 * @throws InputError if there is no such thing or no picture in it; EnvironmentError if a folder cannot be read
 */
export async function openDataset(path: string): Promise<Dataset> {
  const name = printable(basename(resolve(path)));
  const found = await stat(path).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT' || cause.code === 'ENOTDIR') {
      throw new InputError(`there is no folder or list ${printable(path, 300)}`, { cause });
    }
    throw new EnvironmentError(`cannot read ${printable(path, 300)}: ${cause.code ?? cause.message}`, {
      cause,
    });
  });
  const { root, items, ignored } = found.isDirectory()
    ? { root: path, ...(await listFolder(path)) }
    : { root: dirname(path), items: await readList(path, found.size), ignored: 0 };
  if (items.length === 0) {
    throw new InputError(`there is no picture in ${name}`, {
      next: 'Give a folder with a sub-folder of pictures per class, or a CSV file with the columns path,class.',
    });
  }
  const hash = createHash('sha256');
  for (const { image, className } of items) hash.update(`${JSON.stringify([image, className ?? null])}\n`);
  return { name, root, items, ignored, sha256: hash.digest('hex') };
}

/** Where the picture is on this machine. */
export function imagePath({ root }: Dataset, { image }: Item): string {
  return isAbsolute(image) ? image : join(root, image);
}

async function listFolder(root: string): Promise<{ items: Item[]; ignored: number }> {
  const items: Item[] = [];
  let ignored = 0;
  const walk = async (parts: readonly string[], above: readonly string[]): Promise<void> => {
    const folder = join(root, ...parts);
    let entries: Dirent[];
    let real: string;
    try {
      [entries, real] = await Promise.all([readdir(folder, { withFileTypes: true }), realpath(folder)]);
    } catch (cause) {
      const code = (cause as NodeJS.ErrnoException).code ?? String(cause);
      throw new EnvironmentError(`cannot read the folder ${printable(folder, 300)}: ${code}`, { cause });
    }
    // A link to a folder above would never end.
    if (above.includes(real)) return;
    const folders: string[] = [];
    for (const entry of entries) {
      const linked = entry.isSymbolicLink()
        ? await stat(join(folder, entry.name)).catch(() => undefined)
        : undefined;
      if ((linked ?? entry).isDirectory()) folders.push(entry.name);
      else if (!EXTENSIONS.has(extname(entry.name).toLowerCase())) ignored += 1;
      else {
        const image = [...parts, entry.name].join('/');
        items.push(parts.length === 0 ? { image } : { image, className: parts[0] });
      }
    }
    for (const name of folders.sort(byName)) await walk([...parts, name], [...above, real]);
  };
  await walk([], []);
  items.sort((a, b) => byName(a.image, b.image));
  return { items, ignored };
}

async function readList(path: string, bytes: number): Promise<Item[]> {
  const file = printable(basename(path));
  if (bytes > MAX_LIST_BYTES)
    throw new InputError(`${file} has ${bytes.toLocaleString('en-US')} bytes; that is no list`);
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(await readFile(path));
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    if (code !== undefined && !code.startsWith('ERR_')) {
      throw new EnvironmentError(`cannot read ${file}: ${code}`, { cause });
    }
    throw new InputError(`${file} is no text; a folder or a CSV file is needed`, { cause });
  }
  const rows = parseCsv(text, file);
  if (HEADINGS.has(rows[0]?.[0].trim().toLowerCase() ?? '')) rows.shift();
  return rows.map((row, i) => {
    const image = row[0].trim();
    if (image === '' || image.includes('\0') || row.length > 2) {
      throw new InputError(
        `${file}: row ${i + 1} has ${row.length} cells, the first is "${printable(image, 60)}"; needed is path,class`,
        { next: 'Put a path that has a comma in it in quotes.' },
      );
    }
    const className = row[1]?.trim();
    return className ? { image, className } : { image };
  });
}
