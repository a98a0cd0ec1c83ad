/**
 * Where a model came from, as every written file says it, and the digests of what was really read.
 */
import type { ByteSource } from './bytes.js';
import { SourceDigest } from './digest.js';
import { FormatError, printable } from './errors.js';
import type { BeitModel, SourceFile } from './model.js';

/** One line of a file's own metadata. */
export type ProvenanceEntry = readonly [key: string, value: string];

/**
 * Everything about a model's origin that is known before a byte is copied, ready for a file's metadata. Holds no
 * folder and no date: the same model gives the same bytes wherever and whenever it is written.
 */
export function provenanceEntries(model: BeitModel, toolVersion: string): ProvenanceEntry[] {
  const { provenance, config, preprocessing, labels } = model;
  const entry = (key: string, value: string | undefined): ProvenanceEntry[] =>
    value === undefined ? [] : [[`convert_beit.${key}`, value]];
  return [
    ...entry('version', toolVersion),
    ...entry('source', provenance.id),
    ...entry('source_commit', provenance.commit),
    ...entry('source_layout', provenance.layout),
    ...entry('source_container', provenance.container),
    ...entry('beit_version', provenance.version?.toString()),
    ...entry('config', JSON.stringify(config)),
    ...entry('preprocessing', JSON.stringify(preprocessing)),
    ...entry('labels', labels ? JSON.stringify(labels) : undefined),
  ];
}

export const SOURCE_FILES_KEY = 'convert_beit.source_files';

/** Name, length and sha256 of every file that was read, as the value of {@link SOURCE_FILES_KEY}. */
export function sourceFilesValue(
  files: readonly SourceFile[],
  sha256: ReadonlyMap<string, string> | undefined,
): string {
  const hex = (name: string): string => (sha256 ? (sha256.get(name) ?? '') : '0'.repeat(64));
  return JSON.stringify(files.map(({ name, source }) => ({ name, bytes: source.size, sha256: hex(name) })));
}

/** Digests of all files of a model, fed while their bytes are copied. */
export class SourceHashes {
  readonly digests: ReadonlyMap<ByteSource, SourceDigest>;
  readonly #files: readonly SourceFile[];
  #hashed: Promise<ReadonlyMap<string, string>> | undefined;

  constructor(files: readonly SourceFile[]) {
    this.#files = files;
    this.digests = new Map(files.map(({ source }) => [source, new SourceDigest(source)]));
  }

  /**
   * Lower-case hex by file name; what was not copied is read now. Ends the digests.
   * @throws FormatError if a file is not the one that was stated (a damaged cache)
   */
  sha256(): Promise<ReadonlyMap<string, string>> {
    return (this.#hashed ??= this.#hash());
  }

  /** End without a result. */
  abandon(): void {
    for (const digest of this.digests.values()) digest.abandon();
  }

  async #hash(): Promise<ReadonlyMap<string, string>> {
    const found = new Map<string, string>();
    for (const { name, source, sha256 } of this.#files) {
      const hex = await this.digests.get(source)!.hex();
      if (sha256 !== undefined && sha256 !== hex) {
        throw new FormatError(`${printable(name)} has sha256 ${hex}; ${sha256} was stated for it`, {
          next: 'The file is damaged: remove it (from the cache) and get it again.',
        });
      }
      found.set(name, hex);
    }
    return found;
  }
}
