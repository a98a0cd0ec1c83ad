/** What the charts need of the numbers, bounded however many classes, outputs and inputs there are. */
import type { LogitsPair } from '../checks/logits.js';
import { indexOf, type OutputPair } from '../checks/outputs.js';
import type { Histogram, LogitDetails, LogitSample, OutputDetails, OutputSample } from './data.js';

const MOST_SAMPLES = 600;
const MOST_INPUTS = 16;
const BINS = 41;

export function logitDetails(pairs: readonly LogitsPair[]): LogitDetails[] {
  return pairs.slice(0, MOST_INPUTS).map(({ name, written: [written], oracle, noise }) => {
    const step = Math.max(1, Math.ceil(oracle.length / MOST_SAMPLES));
    const sample: LogitSample[] = [];
    for (let i = 0; i < oracle.length; i += step) {
      sample.push({ class: i, written: written[i], oracle: oracle[i] });
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

const MOST_OUTPUTS = 16;
/** Of all outputs together: the report of a graph with many outputs is no larger than that of one with few. */
const ALL_SAMPLES = 2400;

export function outputDetails(all: readonly OutputPair[]): OutputDetails[] {
  const pairs = all.slice(0, MOST_OUTPUTS);
  const most = Math.min(MOST_SAMPLES, Math.floor(ALL_SAMPLES / Math.max(1, pairs.length)));
  return pairs.map((pair): OutputDetails => {
    const { name, shape, inputs, written, oracle, noise } = pair;
    const each = oracle.length / inputs.length;
    const sample = spread(oracle.length, most).map((i): OutputSample => ({
      input: Math.floor(i / each),
      index: indexOf(pair, i % each),
      written: written[i],
      oracle: oracle[i],
    }));
    const bins = histogram(written, oracle, noise);
    return { output: name, shape, compared: oracle.length, noise, sample, histogram: bins };
  });
}

/**
 * Indices all over `length` elements, ascending: one in each of `most` equal parts, at a place that the golden ratio picks.
 * An even step would fall on one channel again and again where it divides their number.
 */
export function spread(length: number, most: number): number[] {
  if (length <= most) return Array.from({ length }, (_, i) => i);
  const part = length / most;
  return Array.from({ length: most }, (_, i) => Math.floor((i + ((i * 0.6180339887) % 1)) * part));
}

function histogram(written: ArrayLike<number>, oracle: Float64Array, noise: number): Histogram {
  const unit = noise > 0 ? noise : Number.MIN_VALUE;
  let largest = 0;
  for (let i = 0; i < oracle.length; i++) {
    const size = Math.abs(written[i] - oracle[i]) / unit;
    if (Number.isFinite(size)) largest = Math.max(largest, size);
  }
  // Noise fills about three units: a sound file's bell is always seen in the same frame.
  const range = Math.max(5, largest * 1.0001);
  const counts = new Array<number>(BINS).fill(0);
  for (let i = 0; i < oracle.length; i++) {
    const value = (written[i] - oracle[i]) / unit;
    if (Number.isFinite(value))
      counts[Math.min(BINS - 1, Math.floor(((value + range) / (2 * range)) * BINS))] += 1;
  }
  return { range, counts };
}
