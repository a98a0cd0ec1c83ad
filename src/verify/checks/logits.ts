/**
 * The written file's logits against the oracle's, over all inputs.
 */
import { listNames } from '../../errors.js';
import {
  COSINE_NEEDED,
  NOISE_UNITS_ALLOWED,
  best,
  compareLogits,
  type LogitsComparison,
} from '../compare.js';
import type { Check, InputParity, LogitsParity, Prediction } from '../report.js';

export interface LogitsPair {
  readonly name: string;
  /** what the file gave for this input: `[classes]` each, once or (in different batches) more often */
  readonly written: readonly Float32Array[];
  readonly oracle: Float64Array;
  /** expected rms float32 error of one logit */
  readonly noise: number;
}

export interface LogitsResult {
  readonly check: Check;
  readonly logits: LogitsParity;
  readonly inputs: readonly InputParity[];
}

/** @param labels class names in order, if known */
export function checkLogits(pairs: readonly LogitsPair[], labels?: readonly string[]): LogitsResult {
  const compared = pairs.map((pair) => ({ pair, worst: worstOf(pair) }));
  const all = compared.map(({ worst }) => worst);
  const most = (value: (each: LogitsComparison) => number): number => Math.max(...all.map(value));
  const share = (agrees: (each: LogitsComparison) => boolean): number =>
    all.filter(agrees).length / all.length;
  const logits: LogitsParity = {
    maxAbs: most(({ maxAbs }) => maxAbs),
    maxRel: most(({ maxRel }) => maxRel),
    cosine: Math.min(...all.map(({ cosine }) => cosine)),
    noiseUnits: most(({ noiseUnits }) => noiseUnits),
    noiseUnitsAllowed: NOISE_UNITS_ALLOWED,
    expectedNoise: most(({ expectedNoise }) => expectedNoise),
    top1Agreement: share(({ top1 }) => top1),
    top5Agreement: share(({ top5 }) => top5),
  };
  const findings = compared.flatMap(({ pair, worst }) => findingsOf(pair.name, worst));
  const broken = pairs.some(({ oracle }) => !oracle.every(Number.isFinite));
  const failed = compared.filter(({ pair, worst }) => findingsOf(pair.name, worst).length > 0);
  return {
    logits,
    inputs: compared.map(({ pair, worst }) => ({
      name: pair.name,
      maxAbs: worst.maxAbs,
      noiseUnits: worst.noiseUnits,
      written: predictions(pair.written[0], labels),
      oracle: predictions(pair.oracle, labels),
    })),
    check: {
      name: 'logits',
      passed: findings.length === 0,
      detail:
        findings.length === 0
          ? `${units(logits.noiseUnits)} of ${NOISE_UNITS_ALLOWED} noise units allowed, max |error| ${logits.maxAbs.toExponential(1)}, same best class for ${all.length === 1 ? 'the input' : `all ${all.length} inputs`}`
          : `${failed.length} of ${all.length} inputs give other logits than the source: ${listNames(
              failed.map(({ pair }) => pair.name),
              3,
            )}${broken ? '; the source itself gives no finite logits: a weight of it is NaN, infinite or far too large' : ''}`,
      findings,
    },
  };
}

function worstOf({ written, oracle, noise }: LogitsPair): LogitsComparison {
  const each = written.map((logits) => compareLogits(logits, oracle, noise));
  return each.reduce((worst, next) => (next.noiseUnits > worst.noiseUnits ? next : worst));
}

function findingsOf(name: string, { noiseUnits, maxAbs, cosine, top1 }: LogitsComparison): string[] {
  const findings: string[] = [];
  if (!(noiseUnits <= NOISE_UNITS_ALLOWED)) {
    const amount = Number.isFinite(maxAbs) ? `max |error| ${maxAbs.toExponential(1)}` : 'not all are finite';
    findings.push(
      `${name}: ${units(noiseUnits)} noise units (${amount}); ${NOISE_UNITS_ALLOWED} are allowed`,
    );
  }
  if (!(cosine >= COSINE_NEEDED))
    findings.push(`${name}: cosine ${cosine.toFixed(7)}; at least ${COSINE_NEEDED} is needed`);
  if (!top1) findings.push(`${name}: another best class than the source`);
  return findings;
}

/** `1.4`, `320`, `5.1 million`. */
export function units(value: number): string {
  if (!Number.isFinite(value)) return 'infinitely many';
  if (value >= 1e6) return `${(value / 1e6).toPrecision(2)} million`;
  return value >= 100 ? Math.round(value).toLocaleString('en-US') : value.toFixed(1);
}

/** Five best classes with their softmax probability, computed in float64. */
export function predictions(logits: Float32Array | Float64Array, labels?: readonly string[]): Prediction[] {
  const order = best(logits, 5);
  const largest = logits[order[0]];
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - largest);
  return order.map((index) => {
    const label = labels?.[index];
    return {
      class: index,
      ...(label === undefined ? {} : { label }),
      probability: Math.exp(logits[index] - largest) / sum,
      logit: logits[index],
    };
  });
}
