/**
 * A report as data: what was compared, how far apart it is, and how to do it again. Every format is made from this.
 */
import { arch, cpus, platform, totalmem } from 'node:os';
import type { BeitConfig } from '../../beit.js';
import type { Preprocessing } from '../../image.js';
import type { Statistics } from '../../statistics.js';
import type { LogitsPair } from '../checks/logits.js';
import type { ParityReport } from '../report.js';

/** Raised when a field changes its meaning or goes; `docs/report.schema.json` describes this version. */
export const REPORT_VERSION = 1;

export interface ReportFile {
  readonly name: string;
  readonly bytes: number;
  readonly sha256?: string;
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
  /** differences in noise units: counts in bins of equal width over `[-range, range]` */
  readonly histogram: { readonly range: number; readonly counts: readonly number[] };
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

const MOST_SAMPLES = 600;
const MOST_INPUTS = 16;
const BINS = 41;

/** What the charts need of the logits, bounded however many classes and inputs there are. */
export function logitDetails(pairs: readonly LogitsPair[]): LogitDetails[] {
  return pairs.slice(0, MOST_INPUTS).map(({ name, written: [written], oracle, noise }) => {
    const step = Math.max(1, Math.ceil(oracle.length / MOST_SAMPLES));
    const sample: LogitSample[] = [];
    for (let i = 0; i < oracle.length; i += step) {
      sample.push({ class: i, written: finite(written[i]), oracle: oracle[i] });
    }
    return {
      input: name,
      classes: oracle.length,
      noise,
      sample,
      histogram: histogram(written, oracle, noise),
    };
  });
}

function histogram(written: Float32Array, oracle: Float64Array, noise: number): LogitDetails['histogram'] {
  const unit = noise > 0 ? noise : Number.MIN_VALUE;
  const differences = Array.from(oracle, (value, i) => (written[i] - value) / unit).filter(Number.isFinite);
  const largest = differences.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  // Noise fills about three units: a sound file's bell is always seen in the same frame.
  const range = Math.max(5, largest * 1.0001);
  const counts = new Array<number>(BINS).fill(0);
  for (const value of differences)
    counts[Math.min(BINS - 1, Math.floor(((value + range) / (2 * range)) * BINS))] += 1;
  return { range, counts };
}

function finite(value: number): number {
  return Number.isFinite(value) ? value : 0;
}
