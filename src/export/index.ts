/**
 * The export stage: a model in, an ONNX file out.
 */
import { basename } from 'node:path';
import type { ByteSource } from '../bytes.js';
import { SourceDigest, takeFileDigest, type FileDigest } from '../digest.js';
import { FormatError, printable } from '../errors.js';
import type { BeitModel } from '../model.js';
import { pieceLength, writePieces } from '../sink.js';
import { resolveTask, type Task } from '../task.js';
import type { Port } from './graph.js';
import { buildGraph } from './build.js';
import {
  DEFAULT_OPSET,
  PROTOBUF_LIMIT,
  initializerBytes,
  irVersion,
  layoutOnnx,
  type MetadataEntry,
} from './onnx.js';

export { DEFAULT_OPSET } from './onnx.js';

export interface ExportOptions {
  /** default: what the checkpoint is for */
  readonly task?: Task;
  /** images per run; default: any number */
  readonly batch?: number;
  readonly opset?: number;
  /** `true`: weights in a file of their own; `undefined`: only where one file cannot hold them */
  readonly externalData?: boolean;
  readonly toolVersion: string;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
  /** wait until the bytes are on the disk */
  readonly flush?: boolean;
  /** compute the sha256 of what is written; default true */
  readonly digest?: boolean;
}

export interface ExportedFile {
  readonly path: string;
  readonly bytes: number;
  readonly sha256?: string;
}

export interface Exported {
  readonly model: ExportedFile;
  readonly data?: ExportedFile;
  readonly opset: number;
  readonly irVersion: number;
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  /** sha256 of every file that was read, by name, hashed while it was copied */
  readonly sourceSha256: ReadonlyMap<string, string>;
}

/** Room for nodes, names and metadata besides the weights. */
const OVERHEAD_BYTES = 16 * 1024 * 1024;

/**
 * Stream a classifier to `path` (which must not exist); with external data also to `<path>_data`.
 *
 * @throws UsageError for an unsupported opset; EnvironmentError when the file system refuses
 */
export async function exportOnnx(model: BeitModel, path: string, options: ExportOptions): Promise<Exported> {
  const opset = options.opset ?? DEFAULT_OPSET;
  const ir = irVersion(opset);
  const task = options.task ?? resolveTask(model.config);
  const graph = buildGraph(model.config, model.tensors, task, opset, options.batch);
  const external = options.externalData ?? initializerBytes(graph) + OVERHEAD_BYTES > PROTOBUF_LIMIT;
  const dataPath = external ? `${path}_data` : undefined;

  const digests = sourceDigests(model);
  try {
    let hashed: Promise<ReadonlyMap<string, string>> | undefined;
    const sha256 = (): Promise<ReadonlyMap<string, string>> => (hashed ??= hashSources(model, digests));
    const info = {
      producerVersion: options.toolVersion,
      metadata: metadata(model, options.toolVersion, sha256),
    };
    const layout = await layoutOnnx(graph, info, dataPath === undefined ? undefined : basename(dataPath));
    const dataBytes = layout.data?.reduce((sum, piece) => sum + pieceLength(piece), 0) ?? 0;
    const total = layout.modelBytes + dataBytes;
    const write = async (to: string, pieces: typeof layout.model, before: number): Promise<ExportedFile> => {
      const written = await writePieces(to, pieces, {
        signal: options.signal,
        flush: options.flush,
        digest: options.digest,
        sourceDigests: new Map([...digests].filter(fedDigest)),
        onProgress: (done) => options.onProgress?.(before + done, total),
      });
      return { path: to, ...written };
    };
    const data = layout.data && dataPath !== undefined ? await write(dataPath, layout.data, 0) : undefined;
    const written = await write(path, layout.model, dataBytes);
    return {
      model: written,
      ...(data ? { data } : {}),
      opset,
      irVersion: ir,
      inputs: graph.inputs,
      outputs: graph.outputs,
      sourceSha256: await sha256(),
    };
  } finally {
    for (const digest of digests.values()) digest.abandon();
  }
}

type AnyDigest = SourceDigest | FileDigest;

function sourceDigests(model: BeitModel): ReadonlyMap<ByteSource, AnyDigest> {
  return new Map(
    model.provenance.files.map(({ source }) => {
      const begun = source.file && takeFileDigest(source.file.path);
      return [source, begun ?? new SourceDigest(source)];
    }),
  );
}

function fedDigest(entry: [ByteSource, AnyDigest]): entry is [ByteSource, SourceDigest] {
  return entry[1] instanceof SourceDigest;
}

async function hexOf(source: ByteSource, digest: AnyDigest): Promise<string> {
  if (digest instanceof SourceDigest) return await digest.hex();
  const { hex, identity } = await digest.result();
  if (identity !== (await source.file!.identity())) {
    throw new FormatError(`${printable(basename(source.name))} was changed while it was read`, {
      next: 'Wait until nothing writes to the file, then start again.',
    });
  }
  return hex;
}

/** Digests of what was really read, held against what was stated about the files. */
async function hashSources(
  model: BeitModel,
  digests: ReadonlyMap<ByteSource, AnyDigest>,
): Promise<ReadonlyMap<string, string>> {
  const found = new Map<string, string>();
  for (const { name, source, sha256 } of model.provenance.files) {
    const hex = await hexOf(source, digests.get(source)!);
    if (sha256 !== undefined && sha256 !== hex) {
      throw new FormatError(`${printable(name)} has sha256 ${hex}; ${sha256} was stated for it`, {
        next: 'The file is damaged: remove it (from the cache) and get it again.',
      });
    }
    found.set(name, hex);
  }
  return found;
}

/** Where the model came from, readable by anybody who has the file (`metadata_props`). */
function metadata(
  model: BeitModel,
  toolVersion: string,
  sha256: () => Promise<ReadonlyMap<string, string>>,
): MetadataEntry[] {
  const { provenance, config, preprocessing, labels } = model;
  const digests = (hex: ReadonlyMap<string, string>): string =>
    JSON.stringify(
      provenance.files.map(({ name, source }) => ({ name, bytes: source.size, sha256: hex.get(name) ?? '' })),
    );
  const unknown = new Map(provenance.files.map(({ name }) => [name, '0'.repeat(64)]));
  const entry = (key: string, value: string | undefined): MetadataEntry[] =>
    value === undefined ? [] : [{ key: `convert_beit.${key}`, value }];
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
    {
      key: 'convert_beit.source_files',
      value: digests(unknown),
      final: async () => digests(await sha256()),
    },
  ];
}
