/**
 * What a container gives: tensors by the names in the file, and nothing about what they mean.
 */
import type { ByteSource } from '../bytes.js';
import { printable } from '../errors.js';
import type { SourceFile } from '../model.js';
import type { StateDict } from '../tensor.js';

export interface Checkpoint {
  /** name of the container: `safetensors`, `sharded safetensors` */
  readonly container: string;
  /** in the file's own order and names */
  readonly tensors: StateDict;
  /** free text of the container, never used to decide how weights are read */
  readonly metadata: ReadonlyMap<string, string>;
  /** every file that was opened, the given one first */
  readonly files: readonly SourceFile[];
  close(): Promise<void>;
}

/** Opens a file of the same folder by its plain name. */
export type OpenSibling = (name: string) => Promise<ByteSource>;

export interface Container {
  readonly name: string;
  /** file name endings that promise this container, for files whose first bytes don't say what they are */
  readonly endings: readonly string[];
  /** Do these first bytes (up to {@link HEAD_BYTES}) say it? Never true for another format's files. */
  matches(head: Uint8Array, name: string): boolean;
  /** @throws FormatError if any rule of the format is broken; the source is the caller's to close then */
  open(source: ByteSource, sibling: OpenSibling): Promise<Checkpoint>;
}

/** Enough for every signature: tar's lies at byte 257, an index names its `weight_map` early. */
export const HEAD_BYTES = 4096;

/** The last part of a path or URL, as it is. */
export function baseName(path: string): string {
  const parts = path.split(/[\\/]/).filter((part) => part !== '');
  return parts.at(-1) ?? path;
}

/** The last part of a path or URL, fit for a message. */
export function shortName(source: Pick<ByteSource, 'name'> | string): string {
  return printable(baseName(typeof source === 'string' ? source : source.name));
}

/** `1,234,567`, as messages show counts. */
export function grouped(count: number | bigint): string {
  return count.toLocaleString('en-US');
}
