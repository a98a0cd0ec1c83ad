/**
 * The export stage: a model in, an ONNX file out.
 */
import { basename } from 'node:path';
import type { ByteSource } from '../bytes.js';
import { SourceDigest, takeFileDigest, type FileDigest } from '../digest.js';
import { DYNAMIC_KEY, type DynamicMethod } from '../dynamic-size.js';
import { FormatError, printable } from '../errors.js';
import type { BeitModel } from '../model.js';
import { keepPlaces, precision, type PrecisionName } from '../precision.js';
import { RESIZE_RECORD, resizeRecord } from '../resizing.js';
import { pieceLength, writePieces, type Piece, type WriteOptions } from '../sink.js';
import { TASK_KEY, resolveTask, type Task } from '../task.js';
import { buildGraph } from './build.js';
import type { Graph, Port } from './graph.js';
import { linkMetadata, linkWeights } from './link.js';
import {
  DEFAULT_OPSET,
  PROTOBUF_LIMIT,
  initializerBytes,
  irVersion,
  layoutOnnx,
  type MetadataEntry,
  type OnnxLayout,
} from './onnx.js';
import { inPrecision } from './precision/index.js';
import { SharedReads } from './shared-reads.js';

export { DEFAULT_OPSET } from './onnx.js';

export interface ExportOptions {
  /** default: what the checkpoint is for */
  readonly task?: Task;
  /** images per run; default: any number */
  readonly batch?: number;
  /** images of any size: how positions are resized inside the graph */
  readonly dynamic?: DynamicMethod;
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
  /** places whose weights stay float32 (`src/precision.ts`); default: each precision's own */
  readonly keep?: readonly string[];
  /** 7-bit weights for int8 and q8; default: q8 only */
  readonly reduceRange?: boolean;
  /** write only the graph, with references into the source's files */
  readonly link?: LinkOptions;
}

export interface LinkOptions {
  /** where the model will be */
  readonly folder: string;
  /** hash the linked files even if that means reading them only for it */
  readonly digest: boolean;
}

export interface ExportedFile {
  readonly path: string;
  readonly bytes: number;
  readonly sha256?: string;
}

export interface Exported {
  readonly model: ExportedFile;
  readonly data?: ExportedFile;
  readonly precision: PrecisionName;
  readonly opset: number;
  readonly irVersion: number;
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  /** sha256 of every file that was read, by name, hashed while it was copied */
  readonly sourceSha256: ReadonlyMap<string, string>;
}

/** Several files at once share what one alone may take. */
const MANY_BUFFER_BYTES = 256 * 1024;
/** From here on the threads' memory counts more than the time they save. */
const MANY_FILES = 4;
/** Up to here a linked file is hashed whatever was asked: it takes less time than starting the program. */
const QUICK_BYTES = 32 * 1024 * 1024;
/** Room for nodes, names and metadata besides the weights. */
const OVERHEAD_BYTES = 16 * 1024 * 1024;

/** One file of an export. */
export interface ExportedAs {
  /** must not exist */
  readonly path: string;
  readonly precision: PrecisionName;
}

/**
 * Stream a classifier to `path` (which must not exist); with external data also to `<path>_data`.
 *
 * @throws UsageError for an unsupported opset; EnvironmentError when the file system refuses
 */
export async function exportOnnx(model: BeitModel, path: string, options: ExportOptions): Promise<Exported> {
  const [exported] = await exportFiles(model, [{ path, precision: 'fp32' }], options);
  return exported;
}

/**
 * The same in one or several precisions, from one pass over the source.
 *
 * @throws like {@link exportOnnx}; FormatError for weights that a precision cannot hold; UsageError where `link` or
 *   `keep` cannot be done
 */
export async function exportFiles(
  model: BeitModel,
  files: readonly ExportedAs[],
  options: ExportOptions,
): Promise<Exported[]> {
  const opset = options.opset ?? DEFAULT_OPSET;
  irVersion(opset);
  const task = options.task ?? resolveTask(model.config);
  const graph = buildGraph(model.config, model.tensors, task, opset, options.batch, options.dynamic);
  const stop = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, stop.signal]) : stop.signal;
  const digests = sourceDigests(model, options);
  const fed = new Map([...digests].filter(fedDigest));
  try {
    let hashed: Promise<ReadonlyMap<string, string>> | undefined;
    const sha256 = (): Promise<ReadonlyMap<string, string>> => (hashed ??= hashSources(model, digests));
    const shared =
      files.length === 1 && files[0].precision === 'fp32'
        ? undefined
        : new SharedReads(files.length, signal, fed);
    const plans = await Promise.all(
      files.map((file) =>
        planFile(model, shared ? shared.graph(graph) : graph, file, { ...options, task }, sha256),
      ),
    );
    const total = plans.reduce((sum, { bytes }) => sum + bytes, 0);
    const done = plans.map(() => 0);
    const writing = plans.map((plan, i) =>
      writeFile(plan, {
        signal,
        flush: options.flush,
        digest: options.digest,
        sourceDigests: fed,
        ...(files.length > 1 && { bufferBytes: MANY_BUFFER_BYTES }),
        digestHere: files.length >= MANY_FILES,
        onProgress: (bytes) => {
          done[i] = bytes;
          options.onProgress?.(
            done.reduce((sum, each) => sum + each, 0),
            total,
          );
        },
      }),
    );
    try {
      const written = await Promise.all(writing);
      const sourceSha256 = await sha256();
      return written.map((each) => ({ ...each, sourceSha256 }));
    } catch (error) {
      // Writers wait for each other: when one fails, the others must not wait for ever.
      stop.abort(error);
      await Promise.allSettled(writing);
      throw error;
    }
  } finally {
    for (const digest of digests.values()) digest.abandon();
  }
}

interface FilePlan {
  readonly file: ExportedAs;
  readonly graph: Graph;
  readonly layout: OnnxLayout;
  readonly dataPath?: string;
  readonly bytes: number;
}

async function planFile(
  model: BeitModel,
  graph: Graph,
  file: ExportedAs,
  options: ExportOptions,
  sha256: () => Promise<ReadonlyMap<string, string>>,
): Promise<FilePlan> {
  const row = precision(file.precision);
  const keep = keepPlaces(options.keep ?? row.keep, model.config.depth);
  const reduceRange = row.weights === 'int8' && (options.reduceRange ?? row.name === 'q8');
  const converted = inPrecision(graph, row.name, { keep, reduceRange });
  const links = options.link ? await linkWeights(model, converted, options.link.folder) : undefined;
  const info = {
    producerVersion: options.toolVersion,
    metadata: [
      ...metadata(model, options.toolVersion, links ? await sha256() : sha256),
      ...taskMetadata(options.task),
      ...(options.dynamic ? [{ key: DYNAMIC_KEY, value: options.dynamic }] : []),
      ...(row.name === 'fp32' ? [] : precisionMetadata(row.name, keep.places, reduceRange)),
      ...(links ? [await linkMetadata(links.files, await sha256())] : []),
    ],
  };
  const external =
    !links && (options.externalData ?? initializerBytes(converted) + OVERHEAD_BYTES > PROTOBUF_LIMIT);
  const dataPath = external ? `${file.path}_data` : undefined;
  const layout = await layoutOnnx(
    converted,
    info,
    links?.place ?? (dataPath === undefined ? undefined : basename(dataPath)),
  );
  const dataBytes = layout.data?.reduce((sum, piece) => sum + pieceLength(piece), 0) ?? 0;
  return { file, graph: converted, layout, dataPath, bytes: layout.modelBytes + dataBytes };
}

/** The data file first: a model is only there when its weights are. */
async function writeFile(
  { file, graph, layout, dataPath, bytes }: FilePlan,
  options: WriteOptions,
): Promise<Omit<Exported, 'sourceSha256'>> {
  const write = async (to: string, pieces: readonly Piece[], before: number): Promise<ExportedFile> => ({
    path: to,
    ...(await writePieces(to, pieces, {
      ...options,
      onProgress: (done) => options.onProgress?.(before + done),
    })),
  });
  const data = layout.data && dataPath !== undefined ? await write(dataPath, layout.data, 0) : undefined;
  return {
    model: await write(file.path, layout.model, bytes - layout.modelBytes),
    ...(data ? { data } : {}),
    precision: file.precision,
    opset: graph.opset,
    irVersion: irVersion(graph.opset),
    inputs: graph.inputs,
    outputs: graph.outputs,
  };
}

function precisionMetadata(
  name: PrecisionName,
  kept: readonly string[],
  reduceRange: boolean,
): MetadataEntry[] {
  return [
    { key: 'convert_beit.dtype', value: name },
    { key: 'convert_beit.kept', value: kept.join(',') },
    ...(reduceRange ? [{ key: 'convert_beit.reduce_range', value: 'true' }] : []),
  ];
}

type AnyDigest = SourceDigest | FileDigest;

function sourceDigests(model: BeitModel, { link }: ExportOptions): ReadonlyMap<ByteSource, AnyDigest> {
  return new Map(
    model.provenance.files.flatMap(({ source }): [ByteSource, AnyDigest][] => {
      const begun = source.file && takeFileDigest(source.file.path);
      if (link && !link.digest && source.size > QUICK_BYTES) {
        begun?.abandon();
        return [];
      }
      return [[source, begun ?? new SourceDigest(source)]];
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
    const digest = digests.get(source);
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

/** Classification goes without saying. */
function taskMetadata(task: Task | undefined): MetadataEntry[] {
  return task === undefined || task.name === 'classify'
    ? []
    : [{ key: TASK_KEY, value: JSON.stringify(task) }];
}

/** Where the model came from, readable by anybody who has the file (`metadata_props`). */
function metadata(
  model: BeitModel,
  toolVersion: string,
  sha256: ReadonlyMap<string, string> | (() => Promise<ReadonlyMap<string, string>>),
): MetadataEntry[] {
  const { provenance, config, resized, preprocessing, labels } = model;
  const digests = (hex: ReadonlyMap<string, string>): string =>
    JSON.stringify(
      provenance.files.map(({ name, source }) => ({ name, bytes: source.size, sha256: hex.get(name) })),
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
    ...(resized ? [{ key: RESIZE_RECORD, value: resizeRecord(resized, config) }] : []),
    ...entry('preprocessing', JSON.stringify(preprocessing)),
    ...entry('labels', labels ? JSON.stringify(labels) : undefined),
    {
      key: 'convert_beit.source_files',
      // Linked weights don't pass by: what is known of them is known now.
      ...(typeof sha256 !== 'function'
        ? { value: digests(sha256) }
        : { value: digests(unknown), final: async () => digests(await sha256()) }),
    },
  ];
}
