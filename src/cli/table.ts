/**
 * Aligned tables that give way when the terminal is narrow: first whole columns go, then long cells are cut.
 */
import { columnWidth, cutEnd, cutMiddle, padEnd, padStart } from './text.js';
import type { Style } from './style.js';

export interface Column {
  readonly title: string;
  readonly align?: 'left' | 'right';
  /** the columns with the highest number go first when there is no room; 0 (default) = never */
  readonly optional?: number;
  /** cells may be cut down to this many columns; absent = never */
  readonly shrinkTo?: number;
  /** where a cell is cut; both ends of a tensor's name tell something */
  readonly cut?: 'middle' | 'end';
}

export interface Table {
  readonly columns: readonly Column[];
  /** uncoloured, printable text */
  readonly rows: readonly (readonly string[])[];
}

export interface TableLines {
  readonly lines: readonly string[];
  /** titles of the columns there was no room for */
  readonly hidden: readonly string[];
}

const GAP = 2;

/** @param width columns there are; `Infinity` for a file or a pipe */
export function renderTable(table: Table, width: number, style: Style): TableLines {
  const natural = table.columns.map((column, at) =>
    table.rows.reduce(
      (widest, row) => Math.max(widest, columnWidth(row[at] ?? '')),
      columnWidth(column.title),
    ),
  );
  let shown = table.columns.map((_, at) => at);
  const least = (at: number): number => Math.min(natural[at], table.columns[at].shrinkTo ?? Infinity);
  const total = (widthOfColumn: (at: number) => number): number =>
    shown.reduce((sum, at) => sum + widthOfColumn(at), GAP * (shown.length - 1));

  const hidden: string[] = [];
  while (total(least) > width) {
    const last = Math.max(...shown.map((at) => table.columns[at].optional ?? 0));
    if (last === 0) break;
    const gone = shown.find((at) => table.columns[at].optional === last)!;
    shown = shown.filter((at) => at !== gone);
    hidden.push(table.columns[gone].title);
  }

  const widths = [...natural];
  // The widest column that may shrink gives way first, so that two names end up about equally long.
  for (let over = total((at) => widths[at]) - width; over > 0; over--) {
    const room = shown.filter((at) => widths[at] > least(at));
    if (room.length === 0) break;
    const widest = room.reduce((a, b) => (widths[b] > widths[a] ? b : a));
    widths[widest] -= 1;
  }

  const line = (cells: readonly string[], decorate: (text: string) => string): string =>
    shown
      .map((at, place) => {
        const cut = table.columns[at].cut === 'end' ? cutEnd : cutMiddle;
        const text = cut(cells[at] ?? '', widths[at]);
        if (table.columns[at].align === 'right') return decorate(padStart(text, widths[at]));
        return place === shown.length - 1 ? decorate(text) : decorate(padEnd(text, widths[at]));
      })
      .join(' '.repeat(GAP))
      .trimEnd();
  const plain = (text: string): string => text;
  return {
    lines: [
      line(
        table.columns.map((column) => column.title),
        style.bold,
      ),
      ...table.rows.map((row) => line(row, plain)),
    ],
    hidden,
  };
}
