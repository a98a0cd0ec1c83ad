/** The page's part about graphs that are no classifiers: every output, every input, and charts of the worst outputs. */
import { placeOf } from '../checks/outputs.js';
import type { OutputDetails, ReportDocument } from './data.js';
import { inputColumns, inputRows, isWithin, outputColumns, outputLimits, outputRows } from './facts.js';
import { escapeHtml as e } from './charts.js';
import { section, table, valueCharts } from './html-parts.js';

const MOST_ROWS = 40;
/** A pair of charts each; all outputs are in the table, and in the JSON report. */
const MOST_CHARTS = 4;

export function outputs(document: ReportDocument, prefix: string): string {
  const { parity, outputs: details } = document;
  const all = parity.outputs ?? [];
  if (all.length === 0) return '';
  const failed = all.filter((output) => !isWithin(output)).map(({ name }) => name);
  const more = (count: number, what: string): string =>
    count > MOST_ROWS ? `<p class="soft">and ${count - MOST_ROWS} more ${what}</p>` : '';
  const verdict =
    failed.length === 0
      ? ''
      : `<p class="bad">Beyond what is allowed: ${e(failed.slice(0, MOST_ROWS).join(', '))}</p>`;
  return (
    section(
      'Output by output',
      `${verdict}<p class="soft">${e(outputLimits(all))}</p>` +
        table(outputColumns(all), outputRows(all.slice(0, MOST_ROWS))) +
        more(all.length, 'outputs') +
        '<h3>The same, input by input</h3>' +
        table(inputColumns(all, parity.inputs), inputRows(all, parity.inputs.slice(0, MOST_ROWS))) +
        more(parity.inputs.length, 'inputs'),
    ) + charts(document, details, prefix)
  );
}

function charts({ parity }: ReportDocument, details: readonly OutputDetails[], prefix: string): string {
  if (details.length === 0) return '';
  const error = new Map(parity.outputs!.map(({ name, noiseUnits }) => [name, noiseUnits]));
  const off = ({ output }: OutputDetails): number => error.get(output) ?? 0;
  const worst = new Set([...details].sort((a, b) => off(b) - off(a)).slice(0, MOST_CHARTS));
  const shown = details.filter((each) => worst.has(each));
  const body = shown.map((each, at) => {
    const { output, shape, compared, noise, sample, histogram } = each;
    return (
      `<h3>${e(output)}</h3>` +
      valueCharts({
        prefix: `${prefix}${at === 0 ? '' : `output-${at}-`}`,
        what: 'value',
        where: `of ${output}`,
        all: compared,
        noise,
        histogram,
        points: sample.map(({ input, index, written, oracle }) => ({
          x: oracle,
          y: written,
          says: `${parity.inputs[input]?.name ?? `input ${input}`} [${placeOf(shape, index).join(', ')}]: file ${written.toPrecision(6)}, source ${oracle.toPrecision(6)}`,
        })),
      })
    );
  });
  const left = (parity.outputs?.length ?? 0) - shown.length;
  const rest =
    left > 0
      ? `<p class="soft">The ${shown.length} outputs with the largest errors in noise units; the other ${left} are in the table above.</p>`
      : '';
  return section('Values', rest + body.join(''));
}
