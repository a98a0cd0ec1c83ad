/**
 * All outputs of a file against the oracle's, for graphs that are no classifiers.
 */
import { listNames, printable } from '../../errors.js';
import type { PrecisionName } from '../../precision.js';
import { COSINE_NEEDED, NOISE_UNITS_ALLOWED } from '../compare.js';
import type { Check, OutputParity } from '../report.js';
import { units } from './logits.js';
import { QUALITY } from './quality.js';

/** One output over all inputs: what the file gave and what the oracle reckons, element by element. */
export interface OutputPair {
  readonly name: string;
  readonly shape: readonly number[];
  readonly written: Float32Array | Float64Array;
  readonly oracle: Float64Array;
  /** expected rms float32 error of one element */
  readonly noise: number;
}

export function checkOutputs(
  pairs: readonly OutputPair[],
  precision: PrecisionName,
): { check: Check; outputs: readonly OutputParity[] } {
  const outputs = pairs.map(compare);
  const findings = outputs.flatMap((output) => findingsOf(output, precision));
  const worst = outputs.reduce((most, next) => (next.noiseUnits > most.noiseUnits ? next : most));
  const number = outputs.length === 1 ? printable(outputs[0].name) : `${outputs.length} outputs`;
  const amount =
    precision === 'fp32'
      ? `${units(worst.noiseUnits)} of ${NOISE_UNITS_ALLOWED} noise units allowed, max |error| ${worst.maxAbs.toExponential(1)}`
      : `${precision}: cosine ${Math.min(...outputs.map(({ cosine }) => cosine)).toFixed(6)}, max |error| ${worst.maxAbs.toExponential(1)}`;
  return {
    outputs,
    check: {
      name: 'outputs',
      passed: findings.length === 0,
      detail:
        findings.length === 0
          ? `${number}: ${amount}`
          : `other outputs than the source: ${listNames(findings, 2)}`,
      findings,
    },
  };
}

function compare({ name, shape, written, oracle, noise }: OutputPair): OutputParity {
  let maxAbs = 0;
  let largest = 0;
  let [product, writtenSquares, oracleSquares, sum] = [0, 0, 0, 0];
  for (let i = 0; i < oracle.length; i++) {
    const error = Math.abs(written[i] - oracle[i]);
    maxAbs = Math.max(maxAbs, Number.isFinite(error) ? error : Infinity);
    largest = Math.max(largest, Math.abs(oracle[i]));
    product += written[i] * oracle[i];
    writtenSquares += written[i] ** 2;
    oracleSquares += oracle[i] ** 2;
    sum += oracle[i];
  }
  const mean = sum / oracle.length;
  const spread = Math.sqrt(Math.max(0, oracleSquares / oracle.length - mean * mean)) || Math.abs(mean) || 1;
  const cosine = product / Math.sqrt(writtenSquares * oracleSquares);
  // As for logits: a float32 result can't be nearer than its own rounding.
  const expectedNoise = Math.max(noise, (largest * 2 ** -24) / Math.sqrt(3));
  return {
    name,
    shape,
    compared: oracle.length,
    maxAbs,
    maxRel: maxAbs === 0 ? 0 : maxAbs / largest,
    cosine: maxAbs === 0 ? 1 : Number.isFinite(cosine) ? cosine : 0,
    noiseUnits: maxAbs === 0 ? 0 : maxAbs / expectedNoise,
    expectedNoise,
    deviation: maxAbs / spread,
  };
}

function findingsOf(
  { name, noiseUnits, maxAbs, cosine, deviation }: OutputParity,
  precision: PrecisionName,
): string[] {
  const amount = Number.isFinite(maxAbs) ? `max |error| ${maxAbs.toExponential(1)}` : 'not all are finite';
  const of = printable(name);
  if (precision === 'fp32') {
    return [
      ...(noiseUnits <= NOISE_UNITS_ALLOWED
        ? []
        : [`${of}: ${units(noiseUnits)} noise units (${amount}); ${NOISE_UNITS_ALLOWED} are allowed`]),
      ...(cosine >= COSINE_NEEDED
        ? []
        : [`${of}: cosine ${cosine.toFixed(7)}; at least ${COSINE_NEEDED} is needed`]),
    ];
  }
  const limits = QUALITY[precision];
  return [
    ...(cosine >= limits.cosine
      ? []
      : [`${of}: cosine ${cosine.toFixed(6)}; at least ${limits.cosine} is needed for ${precision}`]),
    // Thousands of elements instead of one vector of logits: their largest error is that much further out.
    ...(deviation <= 3 * limits.deviation
      ? []
      : [`${of}: the largest error is ${deviation.toPrecision(2)} of the spread (${amount})`]),
  ];
}
