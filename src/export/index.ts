/**
 * The export stage: a model in, an ONNX file out.
 */
import { basename } from 'node:path';
import { DYNAMIC_KEY, type DynamicMethod } from '../dynamic-size.js';
import { padsImages, type BeitModel } from '../model.js';
import { keepPlaces, precision, type PrecisionName } from '../precision.js';
import { SOURCE_FILES_KEY, SourceHashes, provenanceEntries, sourceFilesValue } from '../provenance.js';
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
  const dynamic = options.dynamic && {
    method: options.dynamic,
    pads: padsImages(model.provenance.layout),
  };
  const graph = buildGraph(model.config, model.tensors, task, opset, options.batch, dynamic);
  const stop = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, stop.signal]) : stop.signal;
  const { link } = options;
  const hashes = new SourceHashes(
    model.provenance.files,
    ({ source }) => !link || link.digest || source.size <= QUICK_BYTES,
  );
  try {
    const shared =
      files.length === 1 && files[0].precision === 'fp32'
        ? undefined
        : new SharedReads(files.length, signal, hashes.fed);
    const plans = await Promise.all(
      files.map((file) =>
        planFile(model, shared ? shared.graph(graph) : graph, file, { ...options, task }, hashes),
      ),
    );
    const total = plans.reduce((sum, { bytes }) => sum + bytes, 0);
    const done = plans.map(() => 0);
    const writing = plans.map((plan, i) =>
      writeFile(plan, {
        signal,
        flush: options.flush,
        digest: options.digest,
        sourceDigests: hashes.fed,
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
      const sourceSha256 = await hashes.sha256();
      return written.map((each) => ({ ...each, sourceSha256 }));
    } catch (error) {
      // Writers wait for each other: when one fails, the others must not wait for ever.
      stop.abort(error);
      await Promise.allSettled(writing);
      throw error;
    }
  } finally {
    hashes.abandon();
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
  hashes: SourceHashes,
): Promise<FilePlan> {
  const row = precision(file.precision);
  const keep = keepPlaces(options.keep ?? row.keep, model.config.depth);
  const reduceRange = row.weights === 'int8' && (options.reduceRange ?? row.name === 'q8');
  const converted = inPrecision(graph, row.name, { keep, reduceRange });
  const links = options.link ? await linkWeights(model, converted, options.link.folder) : undefined;
  const info = {
    producerVersion: options.toolVersion,
    metadata: [
      ...(await metadata(model, options.toolVersion, hashes, links !== undefined)),
      ...taskMetadata(options.task),
      ...(options.dynamic ? [{ key: DYNAMIC_KEY, value: options.dynamic }] : []),
      ...(row.name === 'fp32' ? [] : precisionMetadata(row.name, keep.places, reduceRange)),
      ...(links ? [await linkMetadata(links.files, await hashes.sha256())] : []),
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

/** Classification goes without saying. */
function taskMetadata(task: Task | undefined): MetadataEntry[] {
  return task === undefined || task.name === 'classify'
    ? []
    : [{ key: TASK_KEY, value: JSON.stringify(task) }];
}

/** Where the model came from, readable by anybody who has the file (`metadata_props`). */
async function metadata(
  model: BeitModel,
  toolVersion: string,
  hashes: SourceHashes,
  linked: boolean,
): Promise<MetadataEntry[]> {
  const { files } = model.provenance;
  const entries = provenanceEntries(model, toolVersion).map(([key, value]) => ({ key, value }));
  // Linked weights don't pass by: what is known of them is known now.
  const last = linked
    ? { value: sourceFilesValue(files, await hashes.sha256()) }
    : {
        value: sourceFilesValue(files, undefined),
        final: async () => sourceFilesValue(files, await hashes.sha256()),
      };
  return [...entries, { key: SOURCE_FILES_KEY, ...last }];
}
