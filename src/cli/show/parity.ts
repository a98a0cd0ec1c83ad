/**
 * The parity report and what the model saw in the pictures.
 */
import { printable } from '../../errors.js';
import { formatReport, type InputParity, type ParityReport, type Prediction } from '../../verify/report.js';
import type { Style } from '../style.js';
import { cutEnd, padEnd, padStart } from '../text.js';

/** Generated inputs are noise: their best classes say nothing to a person. */
export function isPicture(input: InputParity): boolean {
  return !/^seed \d+ #\d+$/.test(input.name);
}

/**
 * The report's lines under the title `parity`, the verdict in its colour. Inputs are shown one by one where something
 * is wrong or everything is asked for; pictures get a table of their own ({@link predictionLines}).
 */
export function parityLines(report: ParityReport, style: Style, verbose: boolean): string[] {
  const colour = {
    passed: style.green,
    failed: report.accepted ? style.yellow : style.red,
    skipped: style.yellow,
  }[report.verdict];
  const inputs = verbose ? report.inputs.filter((input) => !isPicture(input)) : [];
  const [verdict, ...rest] = formatReport(report.verdict === 'failed' ? report : { ...report, inputs });
  return [colour(verdict.replace(/^parity /, '')), ...rest];
}

/** For a parity error, which carries the report as `unknown`. */
export function failedReportLines(report: unknown): string[] {
  return formatReport(report as ParityReport);
}

const BAR = 24;

/** Five best classes of one picture by the written file, with what the reference says. */
export function predictionLines(input: InputParity, width: number, style: Style): string[] {
  const reference = new Map(input.oracle.map((prediction) => [prediction.class, prediction.probability]));
  const name = (prediction: Prediction): string =>
    prediction.label === undefined ? `class ${prediction.class}` : `${printable(prediction.label, 200)}`;
  const rows = input.written.map((prediction) => ({
    name: name(prediction),
    number: prediction.label === undefined ? '' : String(prediction.class),
    share: percent(prediction.probability),
    bar: '█'.repeat(Math.round(prediction.probability * BAR)) || '▏',
    // Only what is seen to differ is worth a word.
    other: differs(prediction, reference.get(prediction.class)),
  }));
  const names = Math.min(
    Math.max(...rows.map((row) => row.name.length), 0),
    40,
    Math.max(12, width - BAR - 20),
  );
  return [
    `${style.bold(printable(input.name, 200))}  max |error| ${input.maxAbs.toExponential(1)}, ${input.noiseUnits.toFixed(1)} noise units`,
    ...rows.map((row) => {
      const label = padEnd(cutEnd(row.name, names), names);
      const line = `${padStart(row.number, row.number === '' ? 0 : 5)} ${padStart(row.share, 7)} `;
      return `  ${label} ${line}${style.cyan(row.bar)}${row.other}`;
    }),
  ];
}

export function percent(probability: number): string {
  return `${(probability * 100).toFixed(1)} %`;
}

function differs(written: Prediction, reference: number | undefined): string {
  if (reference === undefined) return '  not among the reference’s best five';
  return Math.abs(written.probability - reference) >= 0.0005 ? `  reference ${percent(reference)}` : '';
}
