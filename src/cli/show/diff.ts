/**
 * How two checkpoints differ, for a person: the rows that differ, then a summary.
 */
import { printable } from '../../errors.js';
import type { DiffResult } from '../../pipeline.js';
import { renderTable } from '../table.js';
import { formatInteger } from '../text.js';
import type { View } from './sections.js';

type Row = DiffResult['rows'][number];
type Tensor = NonNullable<Row['a']>;

/** @param all equal tensors too */
export function showDiff(result: DiffResult, { style, width }: View, all: boolean): string[] {
  const shown = result.rows.filter(({ status }) => all || (status !== 'equal' && status !== 'rebuilt'));
  const table = renderTable(
    {
      columns: [
        { title: 'tensor', shrinkTo: 24, cut: 'middle' },
        { title: 'verdict' },
        { title: 'max |a - b|', align: 'right' },
        { title: 'elements', align: 'right', optional: 1 },
        { title: 'a', shrinkTo: 10 },
        { title: 'b', shrinkTo: 10 },
      ],
      rows: shown.map((row) => [
        printable(row.name, 300),
        VERDICT[row.status],
        row.maxAbs === undefined ? '' : formatGap(row.maxAbs),
        row.differing === undefined ? '' : formatInteger(row.differing),
        describe(row.a),
        describe(row.b),
      ]),
    },
    width,
    style,
  );
  return [...(shown.length > 0 ? [...table.lines, ''] : []), ...summaryLines(result, style)];
}

const VERDICT: Readonly<Record<Row['status'], string>> = {
  equal: 'equal',
  different: 'differs',
  dtype: 'other dtype',
  shape: 'other shape',
  'only-a': 'only in a',
  'only-b': 'only in b',
  rebuilt: 'rebuilt index',
};

function describe(tensor: Tensor | undefined): string {
  return tensor ? `${tensor.dtype.toLowerCase()}[${tensor.shape.join(', ')}]` : '-';
}

function formatGap(gap: number): string {
  return gap === 0 ? '0' : Number.isFinite(gap) ? gap.toExponential(2) : String(gap);
}

function summaryLines(result: DiffResult, style: View['style']): string[] {
  const { counts, a, b } = result;
  const side = (name: string, { container, layout, tensors }: DiffResult['a']): string =>
    `${style.bold(name)}  ${tensors} tensors, ${container}, ${layout ? `${layout} layout` : 'names of no known layout'}`;
  const parts = (Object.keys(VERDICT) as Row['status'][])
    .filter((status) => counts[status] > 0)
    .map((status) => `${counts[status]} ${VERDICT[status]}`);
  const verdict = result.equal ? style.green('equal') : style.red('not equal');
  const gap = result.maxAbs === undefined ? '' : `; largest difference ${formatGap(result.maxAbs)}`;
  return [side('a', a), side('b', b), `${verdict}: ${parts.join(', ') || 'both are empty'}${gap}`];
}
