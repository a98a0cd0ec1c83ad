/**
 * What a finished model made of pictures, for a person.
 */
import { formatBytes } from '../../bytes.js';
import { printable } from '../../errors.js';
import type { Accuracy, ClassifyResult, Evaluation, EvaluateResult } from '../../pipeline.js';
import { renderTable } from '../table.js';
import { cutEnd, formatInteger, formatSeconds, padEnd, padStart } from '../text.js';
import { describePreprocessing } from './describe.js';
import { percent } from './parity.js';
import { renderSections, sectionWidth, type Section, type View } from './sections.js';

const BAR = 24;
/** Unreadable pictures that are named; all are in the JSON and in the results file. */
const NAMED = 10;

export function showClassification(result: ClassifyResult, view: View): string[] {
  const { style } = view;
  const width = sectionWidth(view.width);
  const lines = result.images.flatMap(({ image, predictions }, i) => {
    const names = predictions.map(({ label, class: number }) =>
      label ? printable(label, 200) : `class ${number}`,
    );
    const widest = Math.min(
      Math.max(...names.map((name) => name.length)),
      40,
      Math.max(12, width - BAR - 20),
    );
    return [
      ...(i > 0 ? [''] : []),
      style.bold(printable(image, 300)),
      ...predictions.map(({ label, class: number, probability }, at) => {
        const share = padStart(percent(probability), 7);
        const bar = '█'.repeat(Math.round(probability * BAR)) || '▏';
        const id = label === undefined ? '' : padStart(String(number), 5);
        return `  ${padEnd(cutEnd(names[at], widest), widest)} ${id} ${share} ${style.cyan(bar)}`;
      }),
    ];
  });
  return [...lines, '', style.dim(describePreprocessing(result.preprocessing))];
}

export function showEvaluation(
  { evaluation, run, peakMemoryBytes }: { evaluation: Evaluation } & Partial<EvaluateResult>,
  view: View,
): string[] {
  const { style } = view;
  const { model, against, agreement, images, dataset, shard } = evaluation;
  const of = shard ? ` (shard ${shard.join('/')} of ${formatInteger(dataset.images)})` : '';
  const counts = [
    `${formatInteger(images.evaluated)} of ${formatInteger(images.total)} pictures${of} of ${printable(dataset.name)}`,
    `classes by ${printable(evaluation.classMapping)}`,
  ];
  const sections: Section[] = [
    { title: 'data', lines: counts },
    { title: 'model', lines: accuracyLines(model, images.labelled, view) },
    ...(against ? [{ title: 'against', lines: accuracyLines(against, images.labelled, view) }] : []),
    ...(agreement ? [{ title: 'agree', lines: agreementLines(agreement, images.labelled) }] : []),
  ];
  if (images.unreadable > 0) {
    const shown = evaluation.unreadable.slice(0, NAMED).map(({ error }) => printable(error, 300));
    const more = images.unreadable - shown.length;
    sections.push({
      title: 'unread',
      lines: [
        style.yellow(
          `could not be read: ${formatInteger(images.unreadable)}; accuracy is that of the others`,
        ),
        ...shown.map((line) => `  ${line}`),
        ...(more > 0 ? [`  and ${formatInteger(more)} more (--json names all)`] : []),
      ],
    });
  }
  if (run) {
    const before = run.resumed > 0 ? `, ${formatInteger(run.resumed)} results were there already` : '';
    const memory = formatBytes((peakMemoryBytes ?? 0) + run.runtimePeakMemoryBytes);
    sections.push({
      title: 'took',
      lines: [
        `${formatSeconds(run.seconds)}, ${run.imagesPerSecond.toFixed(1)} pictures/s${before}, peak memory ${memory}`,
      ],
    });
  }
  const lines = renderSections(sections, view.width, style);
  if (!view.verbose || evaluation.perClass.length === 0) return lines;
  const rows = evaluation.perClass.map(({ class: number, name, images: count, correct1, correct5 }) => [
    String(number),
    printable(name, 60),
    formatInteger(count),
    percent(correct1 / count),
    percent(correct5 / count),
  ]);
  const table = renderTable(
    {
      columns: [
        { title: 'class', align: 'right' },
        { title: 'name', shrinkTo: 12 },
        { title: 'pictures', align: 'right' },
        { title: 'top-1', align: 'right' },
        { title: 'top-5', align: 'right' },
      ],
      rows,
    },
    view.width,
    style,
  );
  return [...lines, '', ...table.lines];
}

function accuracyLines(model: Evaluation['model'], labelled: number, { style }: View): string[] {
  const { top1, top5, correct1, correct5, notFinite }: Accuracy = model;
  const share = (fraction: number, correct: number): string =>
    `${(fraction * 100).toFixed(2)} % (${formatInteger(correct)} of ${formatInteger(labelled)})`;
  return [
    style.bold(printable(model.name, 300)),
    top1 === undefined || top5 === undefined
      ? 'no accuracy: the class of no picture is known'
      : `top-1 ${style.green(share(top1, correct1))}, top-5 ${share(top5, correct5)}`,
    ...(notFinite > 0
      ? [
          style.red(
            `${formatInteger(notFinite)} pictures got scores that are not finite; they count as wrong`,
          ),
        ]
      : []),
    style.dim(describePreprocessing(model.preprocessing)),
  ];
}

function agreementLines(agreement: NonNullable<Evaluation['agreement']>, labelled: number): string[] {
  const { top1, top5, maxDifference, bothRight, onlyModel, onlyAgainst, neither } = agreement;
  return [
    `same best class ${(top1 * 100).toFixed(2)} %, same five best ${(top5 * 100).toFixed(2)} %, scores differ by up to ${maxDifference.toPrecision(3)}`,
    ...(labelled > 0
      ? [
          `right: both ${formatInteger(bothRight)}, only the model ${formatInteger(onlyModel)}, only the other ${formatInteger(onlyAgainst)}, neither ${formatInteger(neither)}`,
        ]
      : []),
  ];
}
