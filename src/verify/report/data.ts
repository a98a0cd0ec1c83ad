/**
 * A report as data: what was compared, how far apart it is, and how to do it again. Every format is made from this.
 */
import { arch, cpus, platform, totalmem } from 'node:os';
import type { BeitConfig } from '../../beit.js';
import type { Preprocessing } from '../../image.js';
import type { Statistics } from '../../statistics.js';
import type { ParityReport } from '../report.js';

/** Raised when a field changes its meaning or goes; `docs/report.schema.json` describes this version. */
export const REPORT_VERSION = 1;

export interface ReportFile {
  readonly name: string;
  readonly bytes: number;
  readonly sha256?: string;
}

export interface ReportLabels {
  readonly count: number;
  readonly origin: string;
  /** of the names as a JSON array */
  readonly sha256: string;
}

export interface ReportSource {
  readonly id: string;
  readonly commit?: string;
  readonly files: readonly ReportFile[];
  readonly container: string;
  readonly layout: string;
  readonly version?: 1 | 2;
  readonly config: BeitConfig;
  readonly parameters: number;
  readonly flops: number;
  readonly preprocessing: Preprocessing;
  /** class names: how many, and where they are from */
  readonly labels?: ReportLabels;
  readonly notes: readonly string[];
}

export interface Machine {
  readonly platform: string;
  readonly arch: string;
  readonly processor: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly node: string;
}

/** One logit each, evenly taken from all of them where there are more. */
export interface LogitSample {
  readonly class: number;
  readonly written: number;
  readonly oracle: number;
}

export interface LogitDetails {
  readonly input: string;
  readonly classes: number;
  /** expected rms float32 noise of one logit */
  readonly noise: number;
  readonly sample: readonly LogitSample[];
  readonly histogram: Histogram;
}

/** Differences, file minus source, in noise units: counts in bins of equal width over `[-range, range]`. */
export interface Histogram {
  readonly range: number;
  readonly counts: readonly number[];
}

/** One element of an output, spread over all inputs and all places. */
export interface OutputSample {
  /** number of the input, from 0: `parity.inputs` */
  readonly input: number;
  /** in the output of one image, row-major */
  readonly index: number;
  readonly written: number;
  readonly oracle: number;
}

/** One output of a graph that is no classifier, over all inputs. */
export interface OutputDetails {
  readonly output: string;
  /** of one image */
  readonly shape: readonly number[];
  /** elements of all inputs */
  readonly compared: number;
  /** expected rms float32 noise of one element */
  readonly noise: number;
  readonly sample: readonly OutputSample[];
  readonly histogram: Histogram;
}

export interface Picture {
  readonly name: string;
  /** `data:image/jpeg;base64,…`, small */
  readonly dataUrl: string;
}

export interface ReportDocument {
  readonly schema: 'convert-beit-report';
  readonly schemaVersion: typeof REPORT_VERSION;
  readonly tool: { readonly name: 'convert-beit'; readonly version: string };
  /** the one command line that does it again */
  readonly command: string;
  readonly source: ReportSource;
  readonly files: readonly ReportFile[];
  /** absent, like `parity.seconds`, from reports that are the same on every machine */
  readonly machine?: Machine;
  readonly parity: Omit<ParityReport, 'seconds'> & { readonly seconds?: number };
  readonly logits: readonly LogitDetails[];
  /** instead of `logits`, for graphs that are no classifiers */
  readonly outputs: readonly OutputDetails[];
  /** by place: `embedding`, `block 0` …, `head` */
  readonly weights: readonly { readonly name: string; readonly statistics: Statistics }[];
  /** what is unusual about the weights, one sentence each */
  readonly unusual: readonly string[];
  readonly pictures: readonly Picture[];
}

export function thisMachine(): Machine {
  const processors = cpus();
  return {
    platform: platform(),
    arch: arch(),
    // Some systems tell no model.
    processor: processors[0]?.model.trim() || 'unknown',
    cores: processors.length,
    memoryBytes: totalmem(),
    node: process.version,
  };
}
