/**
 * Is a file of lower precision good enough for its name? Its logits against the oracle's, over all inputs.
 */
import { listNames } from '../../errors.js';
import type { PrecisionName } from '../../precision.js';
import { agree, best, compareLogits } from '../compare.js';
import type { LogitsParity } from '../report.js';
import { predictions, type LogitsPair, type LogitsResult } from './logits.js';

export interface QualityLimits {
  /** of every input's logits, at least; of all inputs' together where there are {@link FEW_CLASSES few classes} */
  readonly cosine: number;
  /** largest error, in standard deviations of the oracle's logits over the classes, at most */
  readonly deviation: number;
  /** share of the inputs with the same best class, at least */
  readonly top1: number;
  /** share of the inputs with the same five best, at least */
  readonly top5: number;
}

/** Below this many, the direction of one input's logits is an accident: two that are alike point anywhere. */
const FEW_CLASSES = 10;

/** Measurements and reasons: `docs/decisions/0009-precision-thresholds.md`. */
export const QUALITY: Readonly<Record<Exclude<PrecisionName, 'fp32'>, QualityLimits>> = {
  fp16: { cosine: 0.99995, deviation: 0.02, top1: 1, top5: 1 },
  int8: { cosine: 0.998, deviation: 0.2, top1: 1, top5: 0.9 },
  uint8: { cosine: 0.998, deviation: 0.2, top1: 1, top5: 0.9 },
  q8: { cosine: 0.996, deviation: 0.25, top1: 1, top5: 0.9 },
  q4: { cosine: 0.97, deviation: 0.8, top1: 0.9, top5: 0.75 },
  q4f16: { cosine: 0.97, deviation: 0.8, top1: 0.9, top5: 0.75 },
};

/**
 * Where every place of a picture makes a choice (masked-image models): shares of the places, at least. There are thousands
 * of them, so the shares can be nearer to all than those of a few inputs, and need not be all.
 */
export const PLACES: Readonly<Record<keyof typeof QUALITY, Pick<QualityLimits, 'top1' | 'top5'>>> = {
  fp16: { top1: 0.999, top5: 0.999 },
  int8: { top1: 0.99, top5: 0.99 },
  uint8: { top1: 0.99, top5: 0.99 },
  q8: { top1: 0.99, top5: 0.99 },
  q4: { top1: 0.95, top5: 0.95 },
  q4f16: { top1: 0.95, top5: 0.95 },
};

interface Compared {
  readonly name: string;
  readonly cosine: number;
  readonly maxAbs: number;
  readonly maxRel: number;
  readonly deviation: number;
  readonly noiseUnits: number;
  readonly expectedNoise: number;
  readonly top1: boolean;
  readonly top5: boolean;
  readonly strict1: boolean;
}

export function checkQuality(
  pairs: readonly LogitsPair[],
  precision: keyof typeof QUALITY,
  labels?: readonly string[],
): LogitsResult {
  const limits = QUALITY[precision];
  const few = pairs[0].oracle.length < FEW_CLASSES;
  const least = few ? usualSpread(pairs) : 0;
  const compared = pairs.map((pair) => worstOf(pair, limits, least));
  const all = few ? compared.map((each) => ({ ...each, cosine: cosineOfAll(pairs) })) : compared;
  const most = (value: (each: Compared) => number): number => Math.max(...all.map(value));
  const share = (agrees: (each: Compared) => boolean): number => all.filter(agrees).length / all.length;
  const logits: LogitsParity = {
    maxAbs: most(({ maxAbs }) => maxAbs),
    maxRel: most(({ maxRel }) => maxRel),
    cosine: Math.min(...all.map(({ cosine }) => cosine)),
    noiseUnits: most(({ noiseUnits }) => noiseUnits),
    expectedNoise: most(({ expectedNoise }) => expectedNoise),
    top1Agreement: share(({ top1 }) => top1),
    top5Agreement: share(({ top5 }) => top5),
    quality: {
      precision,
      deviation: most(({ deviation }) => deviation),
      top1Strict: share(({ strict1 }) => strict1),
      limits,
    },
  };
  const findings = findingsOf(logits, all, limits);
  const same = `${percent(logits.quality!.top1Strict)} the same best class`;
  return {
    logits,
    inputs: pairs.map((pair, i) => ({
      name: pair.name,
      maxAbs: all[i].maxAbs,
      noiseUnits: all[i].noiseUnits,
      written: predictions(pair.written[0], labels),
      oracle: predictions(pair.oracle, labels),
    })),
    check: {
      name: 'logits',
      passed: findings.length === 0,
      detail:
        findings.length === 0
          ? `${precision}: cosine ${logits.cosine.toFixed(6)} (${limits.cosine} needed), largest error ${logits.quality!.deviation.toPrecision(2)} of the logits' spread (${limits.deviation} allowed), ${same}`
          : `not good enough for ${precision}: ${findings[0]}`,
      findings,
    },
  };
}

function findingsOf(logits: LogitsParity, all: readonly Compared[], limits: QualityLimits): string[] {
  const findings: string[] = [];
  const names = (bad: (each: Compared) => boolean): string =>
    listNames(
      all.filter(bad).map(({ name }) => name),
      3,
    );
  const { deviation } = logits.quality!;
  if (!(logits.cosine >= limits.cosine)) {
    findings.push(
      `cosine ${logits.cosine.toFixed(6)} where ${limits.cosine} is needed (${names(({ cosine }) => !(cosine >= limits.cosine))})`,
    );
  }
  if (!(deviation <= limits.deviation)) {
    const amount = Number.isFinite(deviation)
      ? `the largest error is ${deviation.toPrecision(2)} of the logits' spread`
      : 'not all logits are finite';
    findings.push(
      `${amount}; ${limits.deviation} is allowed (${names((each) => !(each.deviation <= limits.deviation))})`,
    );
  }
  if (logits.top1Agreement < limits.top1) {
    findings.push(`another best class for ${names(({ top1 }) => !top1)}; ${percent(limits.top1)} must agree`);
  }
  if (logits.top5Agreement < limits.top5) {
    findings.push(
      `other five best classes for ${names(({ top5 }) => !top5)}; ${percent(limits.top5)} must agree`,
    );
  }
  return findings;
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`;
}

/** The run (an input may be run in several batches) with the largest error. */
function worstOf(
  { name, written, oracle, noise }: LogitsPair,
  limits: QualityLimits,
  leastSpread: number,
): Compared {
  const spread = Math.max(spreadOf(oracle), leastSpread);
  const each = written.map((logits): Compared => {
    const compared = compareLogits(logits, oracle, noise);
    return {
      ...compared,
      name,
      deviation: compared.maxAbs === 0 ? 0 : compared.maxAbs / spread,
      top1: agree(logits, oracle, 1, limits.deviation * spread),
      top5: agree(logits, oracle, 5, limits.deviation * spread),
      strict1: best(logits, 1)[0] === best(oracle, 1)[0],
    };
  });
  return each.reduce((worst, next) => (next.deviation > worst.deviation ? next : worst));
}

/** Standard deviation over the classes; softmax does not see their mean. One class alone has no spread: its size. */
export function spreadOf(oracle: Float64Array): number {
  const mean = oracle.reduce((sum, value) => sum + value, 0) / oracle.length;
  const variance = oracle.reduce((sum, value) => sum + (value - mean) ** 2, 0) / oracle.length;
  return Math.sqrt(variance) || Math.abs(mean) || 1;
}

/** Among a few classes one input may have all logits alike: an error there is no worse than the same one elsewhere. */
function usualSpread(pairs: readonly LogitsPair[]): number {
  const squares = pairs.map(({ oracle }) => spreadOf(oracle) ** 2);
  return Math.sqrt(squares.reduce((sum, square) => sum + square, 0) / squares.length);
}

function cosineOfAll(pairs: readonly LogitsPair[]): number {
  let [product, writtenSquares, oracleSquares] = [0, 0, 0];
  for (const { written, oracle } of pairs) {
    for (const logits of written) {
      for (const [i, value] of logits.entries()) {
        product += value * oracle[i];
        writtenSquares += value * value;
        oracleSquares += oracle[i] * oracle[i];
      }
    }
  }
  const cosine = product / Math.sqrt(writtenSquares * oracleSquares);
  return Number.isFinite(cosine) ? cosine : 0;
}
