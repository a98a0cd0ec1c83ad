/**
 * Where a model came from, as every written file says it, and the digests of what was really read.
 */
import { basename } from 'node:path';
import type { ByteSource } from './bytes.js';
import { SourceDigest, takeFileDigest, type FileDigest } from './digest.js';
import { FormatError, printable } from './errors.js';
import type { BeitModel, SourceFile } from './model.js';
import { RESIZE_RECORD, resizeRecord } from './resizing.js';

/** One line of a file's own metadata. */
export type ProvenanceEntry = readonly [key: string, value: string];

/**
 * Everything about a model's origin that is known before a byte is copied, ready for a file's metadata. Holds no
 * folder and no date: the same model gives the same bytes wherever and whenever it is written.
 */
export function provenanceEntries(model: BeitModel, toolVersion: string): ProvenanceEntry[] {
  const { provenance, config, resized, preprocessing, labels, labelsOrigin } = model;
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
    ...(resized ? [[RESIZE_RECORD, resizeRecord(resized, config)] as const] : []),
    ...entry('preprocessing', JSON.stringify(preprocessing)),
    ...entry('labels', labels ? JSON.stringify(labels) : undefined),
    ...entry('labels_source', labels ? labelsOrigin : undefined),
  ];
}

export const SOURCE_FILES_KEY = 'convert_beit.source_files';

/** Name, length and sha256 of every file that was read, as the value of {@link SOURCE_FILES_KEY}. */
export function sourceFilesValue(
  files: readonly SourceFile[],
  sha256: ReadonlyMap<string, string> | undefined,
): string {
  const hex = (name: string): string | undefined => (sha256 ? sha256.get(name) : '0'.repeat(64));
  return JSON.stringify(files.map(({ name, source }) => ({ name, bytes: source.size, sha256: hex(name) })));
}

/** Digests of all files of a model: fed while their bytes are copied, or begun earlier by a thread of its own. */
export class SourceHashes {
  /** those that want to be fed */
  readonly fed: ReadonlyMap<ByteSource, SourceDigest>;
  readonly #files: readonly SourceFile[];
  readonly #digests: ReadonlyMap<ByteSource, SourceDigest | FileDigest>;
  #hashed: Promise<ReadonlyMap<string, string>> | undefined;

  /** @param wanted files it is `false` for are not hashed; what is stated about them is taken as it is */
  constructor(files: readonly SourceFile[], wanted: (file: SourceFile) => boolean = () => true) {
    this.#files = files;
    const fed = new Map<ByteSource, SourceDigest>();
    this.#digests = new Map<ByteSource, SourceDigest | FileDigest>(
      files.flatMap((file): [ByteSource, SourceDigest | FileDigest][] => {
        const { source } = file;
        const begun = source.file && takeFileDigest(source.file.path);
        if (!wanted(file)) {
          begun?.abandon();
          return [];
        }
        if (begun) return [[source, begun]];
        const digest = new SourceDigest(source);
        fed.set(source, digest);
        return [[source, digest]];
      }),
    );
    this.fed = fed;
  }

  /**
   * Lower-case hex by file name; what was not copied is read now. Ends the digests.
   * @throws FormatError if a file is not the one that was stated (a damaged cache), or changes meanwhile
   */
  sha256(): Promise<ReadonlyMap<string, string>> {
    return (this.#hashed ??= this.#hash());
  }

  /** End without a result. */
  abandon(): void {
    for (const digest of this.#digests.values()) digest.abandon();
  }

  async #hash(): Promise<ReadonlyMap<string, string>> {
    const found = new Map<string, string>();
    for (const { name, source, sha256 } of this.#files) {
      const digest = this.#digests.get(source);
      if (!digest) {
        if (sha256 !== undefined) found.set(name, sha256);
        continue;
      }
      const hex = await hexOf(source, digest);
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

async function hexOf(source: ByteSource, digest: SourceDigest | FileDigest): Promise<string> {
  if (digest instanceof SourceDigest) return await digest.hex();
  const { hex, identity } = await digest.result();
  if (identity !== (await source.file!.identity())) {
    throw new FormatError(`${printable(basename(source.name))} was changed while it was read`, {
      next: 'Wait until nothing writes to the file, then start again.',
    });
  }
  return hex;
}
