/**
 * What the verbs take and what they return.
 */
import type { Env } from './env.js';
import type { BeitConfig } from './beit.js';
import type { CheckpointDiff } from './convert/diff.js';
import type { CheckpointInspection } from './convert/load.js';
import type { PublishedFigure } from './convert/published.js';
import type { Preprocessing } from './preprocessing.js';
import type { ModuleCost } from './modules.js';
import type { PrecisionName } from './precision.js';
import type { TaskOptions } from './task.js';
import type { OnProgress } from './progress.js';
import type { WeightStatistics } from './statistics.js';
import type { Resized, ResizeMethod } from './resizing.js';
import type { ParityReport } from './verify/report.js';

/** What every verb takes. */
export interface CommonOptions {
  /** stops the work; nothing half done stays behind */
  readonly signal?: AbortSignal;
  /** how far long steps are */
  readonly onProgress?: OnProgress;
  /** one sentence a person should know, as soon as it is known */
  readonly onNote?: (text: string) => void;
  /** environment variables (`HF_*`, `CONVERT_BEIT_*`); default: those of the process */
  readonly env?: Env;
}

/** How the source is read. */
export interface SourceOptions extends CommonOptions {
  /** `official`, `official:<name>`, `mmpretrain:<name>`, `hf:<owner>/<repo>[@<revision>][/<file>]`, `https://…` or a path */
  readonly src: string;
  /**
   * Read a remote file that is not in a cache where it is, by range requests. Default: `true` for `inspect`, `false`
   * otherwise, because a verified conversion reads the weights more than once.
   */
  readonly stream?: boolean;
  /** a JSON file with what shapes cannot tell (transformers' BEiT field names) */
  readonly configPath?: string;
  /** BEiT 1 or 2, where nothing in the source tells: it decides mean and std of the pictures */
  readonly version?: 1 | 2;
  /** one position table for all blocks: as it is (default), or a copy in every block */
  readonly sharedTable?: 'keep' | 'spread';
  /**
   * File of class names: one per line, a JSON array, a JSON object by id, or a config.json. Or `imagenet-1k`,
   * `imagenet-22k`, `ade20k`: the set of that name, from the hub; `none`: no names. Default: what the source has; for
   * published checkpoints the set they were trained on, if the hub can be reached.
   */
  readonly labels?: string;
  /** the averaged weights of a PyTorch file (`model_ema`, `ema_state_dict`, `state_dict_ema`) */
  readonly ema?: boolean;
  /** dotted path of the weights in a PyTorch file; found where publishers put them by default */
  readonly key?: string;
  /** `official`, `timm`, `transformers` or `mmpretrain`; detected by default */
  readonly layout?: string;
  /** `[height, width]` in pixels: resize to this */
  readonly imageSize?: readonly [number, number];
  /** side of a patch in pixels: resize to this */
  readonly patchSize?: number;
  /** whose arithmetic resizes; `unilm` by default */
  readonly resize?: ResizeMethod;
}

/** How the written file is checked. */
export interface CheckOptions {
  /** number of generated inputs */
  readonly samples?: number;
  /** of the generated inputs; default 0 */
  readonly seed?: number;
  /** image files to check with (and classify) instead of generated inputs */
  readonly images?: readonly string[];
  /** processor cores; default: all */
  readonly threads?: number;
  /** keep a file of lower precision whose logits are worse than its precision should give */
  readonly acceptQuality?: boolean;
  /** find the layer, the step and the mistake where the file leaves the reference */
  readonly layers?: boolean;
  /** files to write the report to; the ending (.html, .json, .md) says the format */
  readonly reports?: readonly string[];
}

/** What is converted, to what, and how it is checked. */
export interface ConvertOptions extends SourceOptions, CheckOptions, TaskOptions {
  /** images per run; default: any number */
  readonly batch?: number;
  /** images of any size: positions are resized inside the graph, as `resize` (`transformers` by default) does */
  readonly dynamicSize?: boolean;
  /** where the file goes; several precisions go beside it: `model.onnx`, `model_fp16.onnx`, … */
  readonly out: string;
  /** default: `['fp32']` */
  readonly precisions?: readonly PrecisionName[];
  /** places that stay float32, or `['none']`; default: what each precision is known to need */
  readonly keep?: readonly string[];
  /** 7-bit weights in int8 and q8, for processors whose 8-bit products saturate; default: q8 only */
  readonly reduceRange?: boolean;
  /** write only the graph, which refers to the weights in the checkpoint beside it */
  readonly link?: boolean;
  /** 17 (default) to 23 */
  readonly opset?: number;
  /** `undefined`: only where one file cannot hold the weights */
  readonly externalData?: boolean;
  /** default true; without it nothing is known of the file but that it was written */
  readonly verify?: boolean;
  /** an existing file is an error instead of being replaced */
  readonly noClobber?: boolean;
  /** compute the written file's sha256 also without verification; default true */
  readonly digest?: boolean;
}

/** How weights are written for another framework. */
export interface WeightsOptions extends SourceOptions {
  /** `.safetensors`, `.pth`, `.pt` or `.bin`; for transformers also a folder (existing, or ending in a slash) */
  readonly out: string;
  /** layout to write; default `mmpretrain` */
  readonly to?: 'official' | 'timm' | 'transformers' | 'mmpretrain';
  /** tensors that the layout cannot express and that may be left out; a `*` stands for any part of a name */
  readonly drop?: readonly string[];
  /** read the file back and compare every tensor; default true */
  readonly verify?: boolean;
  /** an existing file is an error instead of being replaced */
  readonly noClobber?: boolean;
  /** compute the written files' sha256 also without verification; default true */
  readonly digest?: boolean;
}

/** What is verified, against what. */
export interface VerifyOptions extends SourceOptions, CheckOptions {
  /** the ONNX file */
  readonly model: string;
  /** other exports (.onnx) or recorded outputs (.safetensors, .json) to compare with */
  readonly against?: readonly string[];
  /** compare with the values published for this checkpoint (`true`: the source's own catalog row) on the one image */
  readonly golden?: string | true;
}

/** A file that was read or written. */
export interface FileSummary {
  /** where it is now */
  readonly path: string;
  readonly bytes: number;
  /** absent only where it was not asked for */
  readonly sha256?: string;
}

/** Class names that were written. */
export interface LabelsSummary {
  readonly count: number;
  /** `imagenet-1k, hf:<repo>@<commit>/config.json`, the name of a file, or what else they were found in */
  readonly origin: string;
  /** of the names as a JSON array */
  readonly sha256: string;
}

/** What was read: what it is, where it is from. */
export interface SourceSummary {
  /** `hf:<owner>/<repo>@<commit>/<file>`, an address, or a file name without its folder */
  readonly id: string;
  /** of the hub’s repository */
  readonly commit?: string;
  readonly files: readonly { readonly name: string; readonly bytes: number; readonly sha256?: string }[];
  /** `safetensors`, `PyTorch (zip)`, … */
  readonly container: string;
  /** whose tensor names: `official`, `timm`, `transformers`, `mmpretrain` */
  readonly layout: string;
  /** stripped from every name */
  readonly prefix?: string;
  readonly version?: 1 | 2;
  /** what tells the version, one sentence */
  readonly versionEvidence: string;
  readonly config: BeitConfig;
  /** what it was before it was resized to `config` */
  readonly resized?: Resized;
  readonly parameters: number;
  /** as {@link complexity} counts */
  readonly flops: number;
  readonly preprocessing: Preprocessing;
  /** absent: no class names were written */
  readonly labels?: LabelsSummary;
  /** one sentence per assumption a person should know */
  readonly notes: readonly string[];
}

/** An input or output of a graph. */
export interface PortSummary {
  readonly name: string;
  readonly dtype: 'float32' | 'bool';
  /** a free side is a name: `batch` */
  readonly shape: readonly (number | string)[];
}

/** An ONNX file that was written. */
export interface OutputSummary extends FileSummary {
  readonly precision: PrecisionName;
  /** weights beside the graph */
  readonly externalData?: FileSummary;
  readonly opset: number;
  readonly irVersion: number;
  readonly inputs: readonly PortSummary[];
  readonly outputs: readonly PortSummary[];
}

/** A weights file, or the folder it is in. */
export interface WeightsOutput extends FileSummary {
  /** of the weights file; with a folder, everything that was written is in `files` */
  readonly path: string;
  readonly container: 'safetensors' | 'PyTorch (zip)';
  readonly layout: string;
  /** in the written layout's names, index buffers among them */
  readonly tensors: number;
  /** index buffers, which the layout's own files have and which are rebuilt */
  readonly buffers: number;
  /** zeros that the layout cannot be without and the source does not have */
  readonly added: number;
  /** what was left out on request, in the source's names */
  readonly dropped: readonly string[];
  /** every file, when a folder was written */
  readonly files?: readonly FileSummary[];
}

/** What {@link convertWeights} returns. */
export interface WeightsResult {
  readonly source: SourceSummary;
  readonly output: WeightsOutput;
  /** the file read back: `structure`, `inventory`, `provenance`; no inputs, because nothing is computed */
  readonly parity: ParityReport;
  readonly notes: readonly string[];
  readonly seconds: ConvertResult['seconds'];
  readonly peakMemoryBytes: number;
}

/** Two checkpoints, tensor by tensor. */
export interface DiffResult extends CheckpointDiff {
  /** same dtype, shape and bits everywhere */
  readonly equal: boolean;
  readonly seconds: number;
  readonly peakMemoryBytes: number;
}

/** What is compared. */
export interface DiffOptions extends CommonOptions {
  /** a source each: `official…`, `hf:…` or a path */
  readonly a: string;
  readonly b: string;
}

/** One file that was written. */
export interface WrittenFile {
  readonly output: OutputSummary;
  readonly parity: ParityReport;
}

/** What {@link convert} returns; `output` and `parity` are those of the first file. */
export interface ConvertResult extends WrittenFile {
  readonly source: SourceSummary;
  /** every file, in the order of the precisions; the first is `output` and `parity` above */
  readonly files: readonly WrittenFile[];
  readonly seconds: {
    readonly total: number;
    readonly read: number;
    readonly write: number;
    readonly verify: number;
  };
  /** resident memory of this process; the runtime’s own process is not in it */
  readonly peakMemoryBytes: number;
}

/** What {@link verify} returns. */
export interface VerifyResult {
  readonly source: SourceSummary;
  readonly file: FileSummary;
  readonly parity: ParityReport;
  readonly seconds: number;
  readonly peakMemoryBytes: number;
}

/** What is inspected; a remote file is read in parts. */
export interface InspectOptions extends Omit<SourceOptions, 'sharedTable'> {
  /** read every weight, for their statistics */
  readonly stats?: boolean;
}

/** What {@link inspect} returns. */
export interface Inspection extends CheckpointInspection {
  readonly id: string;
  readonly commit?: string;
  /** parameters and FLOPs as a tree; the rest of these, too, only of a model that can be converted */
  readonly modules?: ModuleCost;
  /** what others say of such a model */
  readonly published?: readonly PublishedFigure[];
  /** what will be done with pictures, and what told it (`origin`) */
  readonly preprocessing?: Preprocessing;
  /** with `stats` only */
  readonly statistics?: WeightStatistics;
}

/** A published checkpoint that has a name. */
export interface CatalogEntry {
  readonly name: string;
  /** what to give as `src` */
  readonly src: string;
  readonly publisher: 'official' | 'mmpretrain';
  readonly task: 'classification' | 'pre-training';
  readonly version: 1 | 2;
  /** `base` or `large` */
  readonly arch: string;
  /** side of the square input in pixels */
  readonly imageSize: number;
  /** 0 for pre-training */
  readonly classes: number;
  /** of classifiers */
  readonly parameters?: number;
  /** as {@link complexity} counts */
  readonly flops?: number;
  /** ImageNet-1k validation, percent, as published */
  readonly top1?: number;
  readonly top5?: number;
  /** where it is downloaded first */
  readonly source: string;
  /** what `official` alone means */
  readonly isDefault: boolean;
}
