/**
 * All outputs of a file against the oracle's, for graphs that are no classifiers.
 */
import { listNames, printable } from '../../errors.js';
import type { PrecisionName } from '../../precision.js';
import { COSINE_NEEDED, NOISE_UNITS_ALLOWED, agree } from '../compare.js';
import type { Check, InputParity, OutputParity } from '../report.js';
import { units } from './logits.js';
import { PLACES, QUALITY, spreadOf } from './quality.js';

/** One output over all inputs: what the file gave and what the oracle reckons, element by element. */
export interface OutputPair {
  readonly name: string;
  /** of one image */
  readonly shape: readonly number[];
  /** names of the inputs */
  readonly inputs: readonly string[];
  /** the places of a map `[K, H, W]` that are here, row-major; absent: all */
  readonly positions?: readonly number[];
  readonly written: Float32Array | Float64Array;
  readonly oracle: Float64Array;
  /** expected rms float32 error of one element */
  readonly noise: number;
  /** length of the last axis, where each place chooses among so many: the visual vocabulary */
  readonly choices?: number;
}

export function checkOutputs(
  pairs: readonly OutputPair[],
  precision: PrecisionName,
): { check: Check; outputs: readonly OutputParity[]; inputs: readonly InputParity[] } {
  const compared = pairs.map((pair) => compare(pair, precision));
  const outputs = compared.map(({ output }) => output);
  const findings = outputs.flatMap((output) => findingsOf(output, precision));
  const worst = outputs.reduce((most, next) => (next.noiseUnits > most.noiseUnits ? next : most));
  const number = outputs.length === 1 ? printable(outputs[0].name) : `${outputs.length} outputs`;
  const amount =
    precision === 'fp32'
      ? `${units(worst.noiseUnits)} of ${NOISE_UNITS_ALLOWED} noise units allowed, max |error| ${worst.maxAbs.toExponential(1)}`
      : `${precision}: cosine ${least(outputs, ({ cosine }) => cosine)!.toFixed(6)}, max |error| ${worst.maxAbs.toExponential(1)}`;
  const same = least(outputs, ({ top1Agreement }) => top1Agreement);
  const choice = same === undefined ? '' : `, ${percent(same)} of the places choose the same`;
  return {
    outputs,
    inputs: pairs[0].inputs.map((name, i) => {
      const each = compared.map(({ output, errors }) => ({ maxAbs: errors[i], noise: output.expectedNoise }));
      return {
        name,
        maxAbs: Math.max(...each.map(({ maxAbs }) => maxAbs)),
        noiseUnits: Math.max(...each.map(({ maxAbs, noise }) => (maxAbs === 0 ? 0 : maxAbs / noise))),
        written: [],
        oracle: [],
      };
    }),
    check: {
      name: 'outputs',
      passed: findings.length === 0,
      detail:
        findings.length === 0
          ? `${number}: ${amount}${choice}`
          : `other outputs than the source: ${listNames(findings, 2)}`,
      findings,
    },
  };
}

/** Index in the whole output of one image, row-major, of an element that was compared. */
export function indexOf(
  { shape, positions }: Pick<OutputPair, 'shape' | 'positions'>,
  element: number,
): number {
  if (!positions) return element;
  const [, height, width] = shape;
  const plane = Math.floor(element / positions.length);
  return plane * height * width + positions[element % positions.length];
}

/** `[y, x]` of a row-major index. */
export function placeOf(shape: readonly number[], index: number): number[] {
  let rest = index;
  return shape
    .toReversed()
    .map((side) => {
      const at = rest % side;
      rest = Math.floor(rest / side);
      return at;
    })
    .reverse();
}

/** Of thousands; rounded down, so that not quite all is not all. */
export function percent(share: number): string {
  return `${Math.floor(share * 1000 + 1e-9) / 10} %`;
}

function least(
  outputs: readonly OutputParity[],
  value: (output: OutputParity) => number | undefined,
): number | undefined {
  const values = outputs.map(value).filter((each) => each !== undefined);
  return values.length > 0 ? Math.min(...values) : undefined;
}

/** @returns the comparison, and the largest error of every input */
function compare(
  pair: OutputPair,
  precision: PrecisionName,
): { output: OutputParity; errors: readonly number[] } {
  const { name, shape, inputs, written, oracle, noise } = pair;
  const each = oracle.length / inputs.length;
  const errors = new Array<number>(inputs.length).fill(0);
  let [maxAbs, place] = [0, 0];
  let largest = 0;
  let [product, writtenSquares, oracleSquares, sum] = [0, 0, 0, 0];
  for (let i = 0; i < oracle.length; i++) {
    const difference = Math.abs(written[i] - oracle[i]);
    const error = Number.isFinite(difference) ? difference : Infinity;
    if (error > maxAbs) [maxAbs, place] = [error, i];
    const input = Math.floor(i / each);
    if (error > errors[input]) errors[input] = error;
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
  const output: OutputParity = {
    name,
    shape,
    compared: oracle.length,
    maxAbs,
    maxRel: maxAbs === 0 ? 0 : maxAbs / largest,
    cosine: maxAbs === 0 ? 1 : Number.isFinite(cosine) ? cosine : 0,
    noiseUnits: maxAbs === 0 ? 0 : maxAbs / expectedNoise,
    expectedNoise,
    deviation: maxAbs / spread,
    ...(maxAbs > 0 && {
      worst: { input: inputs[Math.floor(place / each)], at: placeOf(shape, indexOf(pair, place % each)) },
    }),
    ...(precision === 'fp32'
      ? { noiseUnitsAllowed: NOISE_UNITS_ALLOWED }
      : {
          quality: {
            precision,
            limits: { ...outputLimits(precision), ...(pair.choices !== undefined && PLACES[precision]) },
          },
        }),
    ...(pair.choices !== undefined && agreement(pair, pair.choices, expectedNoise, precision)),
  };
  return { output, errors };
}

/** Thousands of elements instead of one vector of logits: their largest error is that much further out. */
function outputLimits(precision: Exclude<PrecisionName, 'fp32'>): { cosine: number; deviation: number } {
  const { cosine, deviation } = QUALITY[precision];
  return { cosine, deviation: Number((3 * deviation).toPrecision(6)) };
}

/** Shares of the places whose best and five best choices are the oracle's; ties as among a classifier's classes. */
function agreement(
  { written, oracle }: OutputPair,
  choices: number,
  noise: number,
  precision: PrecisionName,
): Pick<OutputParity, 'top1Agreement' | 'top5Agreement'> {
  let [first, five] = [0, 0];
  for (let at = 0; at < oracle.length; at += choices) {
    const found = written.subarray(at, at + choices);
    const right = oracle.subarray(at, at + choices);
    const tie =
      precision === 'fp32' ? 2 * NOISE_UNITS_ALLOWED * noise : QUALITY[precision].deviation * spreadOf(right);
    if (agree(found, right, 1, tie)) first += 1;
    if (agree(found, right, 5, tie)) five += 1;
  }
  const places = oracle.length / choices;
  return { top1Agreement: first / places, top5Agreement: five / places };
}

function findingsOf(output: OutputParity, precision: PrecisionName): string[] {
  const { name, noiseUnits, maxAbs, cosine, deviation, top1Agreement = 1, top5Agreement = 1 } = output;
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
  const limits = outputLimits(precision);
  return [
    ...(cosine >= limits.cosine
      ? []
      : [`${of}: cosine ${cosine.toFixed(6)}; at least ${limits.cosine} is needed for ${precision}`]),
    ...(deviation <= limits.deviation
      ? []
      : [`${of}: the largest error is ${deviation.toPrecision(2)} of the spread (${amount})`]),
    ...(top1Agreement >= PLACES[precision].top1
      ? []
      : [
          `${of}: ${percent(top1Agreement)} of the places make the same best choice; ${percent(PLACES[precision].top1)} must`,
        ]),
    ...(top5Agreement >= PLACES[precision].top5
      ? []
      : [
          `${of}: ${percent(top5Agreement)} of the places have the same five best choices; ${percent(PLACES[precision].top5)} must`,
        ]),
  ];
}
