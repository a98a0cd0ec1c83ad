/** A release, and the plan of one, for a person. */
import { formatBytes } from '../../bytes.js';
import { printable } from '../../errors.js';
import type { PlannedItem, ReleaseResult, ReleasedStatus } from '../../release/index.js';
import { renderTable } from '../table.js';
import { formatCount, formatSeconds } from '../text.js';
import type { View } from './sections.js';

type Width = Pick<View, 'style' | 'width'>;

const orDash = <T>(value: T | undefined, show: (value: T) => string): string =>
  value === undefined ? '-' : show(value);

export function showPlan(items: readonly PlannedItem[], { style, width }: Width): string[] {
  const { lines, hidden } = renderTable(
    {
      columns: [
        { title: 'name' },
        { title: 'px', align: 'right', optional: 3 },
        { title: 'params', align: 'right', optional: 2 },
        { title: 'precisions', optional: 4 },
        { title: 'size', align: 'right' },
        { title: 'time', align: 'right' },
        { title: 'memory', align: 'right', optional: 5 },
        { title: 'from', shrinkTo: 12 },
      ],
      rows: items.map((item) => [
        item.name,
        orDash(item.imageSize, ([height, wide]) => (height === wide ? String(height) : `${height}×${wide}`)),
        orDash(item.parameters, formatCount),
        item.dtypes.join(',') +
          (item.files.some(({ path }) => path === 'model.safetensors') ? '+weights' : ''),
        orDash(item.bytes, (bytes) => `~${formatBytes(bytes)}`),
        orDash(item.seconds, (seconds) => `~${formatSeconds(Math.ceil(seconds))}`),
        orDash(item.memory, (bytes) => `~${formatBytes(bytes)}`),
        printable(item.source, 300),
      ]),
    },
    width,
    style,
  );
  return [
    ...lines,
    '',
    planTotals(items),
    ...items
      .filter(({ missing }) => missing)
      .map(({ name, source }) => `${style.red(`${name}:`)} ${printable(source, 300)} is not there`),
    ...(hidden.length > 0
      ? [style.dim(`no room for ${hidden.join(', ')}: see --json, or a wider terminal`)]
      : []),
  ];
}

function planTotals(items: readonly PlannedItem[]): string {
  const sum = (of: (item: PlannedItem) => number | undefined): number =>
    items.reduce((total, item) => total + (of(item) ?? 0), 0);
  const counted = (count: number, what: string): string => `${count} ${what}${count === 1 ? '' : 's'}`;
  const unknown = items.filter(({ bytes }) => bytes === undefined).length;
  const size = formatBytes(sum(({ bytes }) => bytes));
  const time = formatSeconds(Math.ceil(sum(({ seconds }) => seconds)));
  return [
    counted(items.length, 'model'),
    counted(
      sum(({ files }) => files.length),
      'file',
    ),
    ...(unknown < items.length
      ? [`about ${size} and ${time} one after another on two cores, downloads not counted`]
      : []),
    ...(unknown > 0 ? [`${counted(unknown, 'model')} of unknown size`] : []),
  ].join(', ');
}

export function showRelease(result: ReleaseResult, { style, width }: Width): string[] {
  const { items } = result;
  const { lines } = renderTable(
    {
      columns: [
        { title: 'name' },
        { title: 'outcome' },
        { title: 'files', align: 'right', optional: 2 },
        { title: 'size', align: 'right', optional: 1 },
        { title: 'parity', optional: 3 },
        { title: 'time', align: 'right', optional: 4 },
      ],
      rows: items.map((item) => [
        item.name,
        item.status,
        orDash(item.released, ({ files }) => String(files.length)),
        orDash(item.bytes, formatBytes),
        parityOf(item),
        formatSeconds(item.seconds),
      ]),
    },
    width,
    style,
  );
  const failed = items.filter(({ error }) => error);
  return [
    ...lines,
    '',
    ...failed.flatMap(({ name, error }) => [
      `${style.red(`${name}:`)} ${printable(error!.message, 2000)}`,
      ...(error!.next === undefined ? [] : [`  ${style.bold('next:')} ${printable(error!.next, 1000)}`]),
    ]),
    `${items.length - failed.length} of ${items.length} models are in ${printable(result.out, 300)} (${formatSeconds(result.seconds)}, peak memory ${formatBytes(result.peakMemoryBytes)})`,
  ];
}

function parityOf({ released }: ReleasedStatus): string {
  const verdicts = new Set(released?.models.map(({ parity }) => parity.verdict));
  return verdicts.size === 0 ? '-' : [...verdicts].join(', ');
}
