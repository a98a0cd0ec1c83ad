/**
 * What a container gives: tensors by the names in the file, and nothing about what they mean.
 */
import { grouped, shortName, type ByteSource } from '../bytes.js';
import { UsageError } from '../errors.js';
import type { SourceFile } from '../model.js';
import type { StateDict } from '../tensor.js';

export { baseName, grouped, shortName } from '../bytes.js';

export interface Checkpoint {
  /** name of the container: `safetensors`, `sharded safetensors`, `PyTorch (zip)`, … */
  readonly container: string;
  /** in the file's own order and names */
  readonly tensors: StateDict;
  /** free text of the container, never used to decide how weights are read */
  readonly metadata: ReadonlyMap<string, string>;
  /** every file that was opened, the given one first */
  readonly files: readonly SourceFile[];
  /** what a pickle holds beside the weights; containers of tensors alone have none */
  readonly contents?: PickleContents;
  /** one sentence per choice that a person should know */
  readonly notes?: readonly string[];
  close(): Promise<void>;
}

export interface ContentEntry {
  /** dotted place in the pickle, printable */
  readonly path: string;
  /** what is there, one printable line */
  readonly what: string;
}

export interface PickleContents {
  /** dotted path of the dict that the weights are from, `''` for the top level itself */
  readonly weightsAt: string;
  /** what else the top level holds */
  readonly entries: readonly ContentEntry[];
  /** objects of classes and functions that mean nothing here: never built, never called */
  readonly inert: readonly ContentEntry[];
  /** how many there are, also where not all are listed */
  readonly inertCount: number;
  /** class names that the publisher put beside the weights */
  readonly labels?: readonly string[];
}

/** Which of several sets of weights to open. */
export interface OpenOptions {
  /** the averaged ones (`model_ema`, `ema_state_dict`, `state_dict_ema`) */
  readonly ema?: boolean;
  /** dotted path of the dict that holds them */
  readonly key?: string;
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
  open(source: ByteSource, sibling: OpenSibling, options?: OpenOptions): Promise<Checkpoint>;
}

/** @throws UsageError when a container of tensors alone is asked for one of several sets of weights */
export function refuseChoice(source: ByteSource, { ema, key }: OpenOptions): void {
  if (ema !== true && key === undefined) return;
  throw new UsageError(
    `${shortName(source)} holds its tensors directly: there is nothing to choose with ${ema === true ? '--ema' : '--key'}`,
    { next: 'Leave the option out; it is for PyTorch files with several sets of weights.' },
  );
}

/** Enough for every signature: tar's lies at byte 257, an index names its `weight_map` early. */
export const HEAD_BYTES = 4096;

/** `1 byte`, `1,234 bytes`. */
export function counted(count: number, one: string): string {
  return `${grouped(count)} ${count === 1 ? one : `${one}s`}`;
}
