/**
 * Canonical weights → another framework's files.
 */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { prepareDigest, sha256Of, takeFileDigest } from '../../digest.js';
import { UsageError, printable } from '../../errors.js';
import { openFile } from '../../file-source.js';
import type { BeitModel } from '../../model.js';
import {
  SOURCE_FILES_KEY,
  SourceHashes,
  provenanceEntries,
  sourceFilesValue,
  type ProvenanceEntry,
} from '../../provenance.js';
import { pieceLength, writePieces, type Deferred, type Piece } from '../../sink.js';
import type { Layout } from '../layout.js';
import { LAYOUTS } from '../layouts/index.js';
import { containerOf, type WeightsContainer } from './container.js';
import type { Expressed } from './express.js';
import type { PickleValue } from './pickle.js';
import { safetensorsPieces } from './safetensors.js';
import { torchPieces, type Nesting } from './torch.js';
import { configJson, preprocessorJson } from './transformers-folder.js';

export { checkWeights, type WeightsCheck } from './check.js';
export { express, type Expressed } from './express.js';

/** Files of a folder that transformers loads, in the order in which they get their places. */
export const FOLDER_FILES = ['preprocessor_config.json', 'config.json', 'model.safetensors'] as const;

/** What `--out` and `--to` ask for. */
export interface OutputPlan {
  readonly layout: Layout;
  readonly container: WeightsContainer;
  /** a folder with config files, not one file */
  readonly folder: boolean;
}

/**
 * @param out a file name with a known ending, or a folder (existing, or ending in a slash)
 * @throws UsageError for an unknown layout or ending, or a folder for another framework than transformers
 */
export async function planOutput(out: string, to = 'mmpretrain'): Promise<OutputPlan> {
  const layout = LAYOUTS.find(({ name }) => name === to);
  if (!layout) {
    throw new UsageError(`there is no layout "${printable(to)}" to write`, {
      next: `Layouts: ${LAYOUTS.map(({ name }) => name).join(', ')}.`,
    });
  }
  const folder = /[\\/]$/.test(out) || ((await stat(out).catch(() => undefined))?.isDirectory() ?? false);
  const shown = printable(out, 300);
  if (folder && layout.name !== 'transformers') {
    throw new UsageError(`--out ${shown} is a folder; ${layout.name} loads a file`, {
      next: `Give a file name, e.g. ${printable(join(out, 'model.pth'), 300)}; folders are for --to transformers.`,
    });
  }
  const container = folder ? 'safetensors' : containerOf(out);
  if (!container) {
    throw new UsageError(`--out ${shown} does not say what to write for ${layout.name}`, {
      next: `End it with .safetensors, .pth, .pt or .bin${layout.name === 'transformers' ? ', or with / for a folder' : ''}.`,
    });
  }
  return { layout, container, folder };
}

export interface WriteWeightsOptions {
  readonly toolVersion: string;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
  /** compute the sha256 of what is written, where the container lets it be known while streaming; default true */
  readonly digest?: boolean;
}

export interface WrittenWeights {
  readonly path: string;
  readonly bytes: number;
  /** absent for safetensors: its header names the sources' digests, so it is final only at the end */
  readonly sha256?: string;
  /** sha256 of every file that was read, by name, hashed while it was copied */
  readonly sourceSha256: ReadonlyMap<string, string>;
}

/**
 * Stream a model's weights to `path`, which must not exist. The same model gives the same bytes.
 *
 * @throws FormatError for a dtype the container has no name for, or a source that is not the one that was stated;
 *   EnvironmentError when the file system refuses
 */
export async function writeWeights(
  model: BeitModel,
  expressed: Expressed,
  container: WeightsContainer,
  path: string,
  options: WriteWeightsOptions,
): Promise<WrittenWeights> {
  const { files } = model.provenance;
  const hashes = new SourceHashes(files);
  const known: ProvenanceEntry[] = [
    ...provenanceEntries(model, options.toolVersion),
    ['convert_beit.layout', expressed.layout.name],
    ...(expressed.dropped.length > 0
      ? [['convert_beit.dropped', JSON.stringify(expressed.dropped)] as const]
      : []),
  ];
  const entries = (sha256?: ReadonlyMap<string, string>): Map<string, string> =>
    new Map([...known, [SOURCE_FILES_KEY, sourceFilesValue(files, sha256)]]);
  try {
    const pieces = assemble(model, expressed, container, entries, () => hashes.sha256());
    const total = pieces.reduce((sum, piece) => sum + pieceLength(piece), 0);
    const written = await writePieces(path, pieces, {
      signal: options.signal,
      digest: options.digest,
      sourceDigests: hashes.fed,
      onProgress: (done) => options.onProgress?.(done, total),
    });
    return { path, ...written, sourceSha256: await hashes.sha256() };
  } finally {
    hashes.abandon();
  }
}

function assemble(
  model: BeitModel,
  { tensors, layout }: Expressed,
  container: WeightsContainer,
  entries: (sha256?: ReadonlyMap<string, string>) => Map<string, string>,
  sha256: () => Promise<ReadonlyMap<string, string>>,
): Piece[] {
  if (container === 'PyTorch (zip)') {
    const text = (hex?: ReadonlyMap<string, string>): Uint8Array =>
      Buffer.from(JSON.stringify(Object.fromEntries(entries(hex)), undefined, 2));
    const provenance: Deferred = { length: text().length, bytes: async () => text(await sha256()) };
    return torchPieces(tensors, nestingOf(model, layout, entries()), provenance);
  }
  // What transformers and others look for before they trust a file to hold PyTorch's layout of tensors.
  const format = ['format', 'pt'] as const;
  return safetensorsPieces(tensors, {
    provisional: new Map([format, ...entries()]),
    final: async () => new Map([format, ...entries(await sha256())]),
  });
}

/** Where each framework's loader looks for the weights. */
function nestingOf(model: BeitModel, layout: Layout, entries: ReadonlyMap<string, string>): Nesting {
  const { labels, config } = model;
  const classes = labels && ({ list: labels } as const);
  const origin: [string, PickleValue][] = ['version', 'source', 'source_commit'].flatMap((key) => {
    const value = entries.get(`convert_beit.${key}`);
    return value === undefined ? [] : [[`convert_beit_${key}`, value]];
  });
  const openMmlab =
    (extra: [string, PickleValue][]): Nesting =>
    (stateDict) => ({
      dict: [
        ['state_dict', stateDict],
        ['meta', { dict: [...origin, ...extra] }],
      ],
    });
  // mmengine `runner/checkpoint.py`: state_dict; mmpretrain `apis/model.py`: class names in meta.dataset_meta
  if (layout.name === 'mmpretrain') {
    return openMmlab(classes ? [['dataset_meta', { dict: [['classes', classes]] }]] : []);
  }
  // unilm's segmentation checkpoints are mmsegmentation's of that time
  if (layout.name === 'official' && config.kind === 'segmentation') {
    return openMmlab(classes ? [['CLASSES', classes]] : []);
  }
  // unilm `run_class_finetuning.py`: --model_key model|module
  if (layout.name === 'official') return (stateDict) => ({ dict: [['model', stateDict]] });
  // timm `models/_helpers.py` and transformers `modeling_utils.py` take the bare dictionary
  return (stateDict) => stateDict;
}

export interface WrittenFile {
  readonly path: string;
  readonly bytes: number;
  readonly sha256?: string;
}

export interface WrittenOutput {
  /** in the order in which they get their places; the weights last */
  readonly files: readonly WrittenFile[];
  readonly weights: WrittenFile;
  readonly sourceSha256: ReadonlyMap<string, string>;
  /** of the weights, when a digest was asked for: computed by a thread from now on where streaming could not */
  sha256(): Promise<string | undefined>;
}

/**
 * Write everything that a plan asks for.
 *
 * @param staged the file that does not exist yet, or the empty folder
 * @throws like {@link writeWeights}
 */
export async function writeOutput(
  model: BeitModel,
  expressed: Expressed,
  plan: OutputPlan,
  staged: string,
  options: WriteWeightsOptions,
): Promise<WrittenOutput> {
  const path = plan.folder ? join(staged, 'model.safetensors') : staged;
  const texts = plan.folder ? [preprocessorJson(model.preprocessing), configJson(model)] : [];
  const { sourceSha256, ...weights } = await writeWeights(model, expressed, plan.container, path, options);
  const known = weights.sha256 !== undefined || options.digest === false;
  if (!known) prepareDigest(path);
  const small: WrittenFile[] = [];
  for (const [i, text] of texts.entries()) {
    const file = join(staged, FOLDER_FILES[i]);
    small.push({ path: file, ...(await writePieces(file, [Buffer.from(text)])) });
  }
  return {
    files: [...small, weights],
    weights,
    sourceSha256,
    sha256: async () => (known ? weights.sha256 : await digestOf(path, options.signal)),
  };
}

/** Large files are being hashed by a thread already. */
async function digestOf(path: string, signal: AbortSignal | undefined): Promise<string> {
  const begun = takeFileDigest(path);
  if (begun) return (await begun.result()).hex;
  const source = await openFile(path);
  try {
    return await sha256Of(source, signal);
  } finally {
    await source.close();
  }
}
