/**
 * Wrong rows of a relative position table for a pair of tokens: the ways in which implementations get the index wrong.
 */
import { positionRow } from '../position.js';

export interface RowChoice {
  readonly what: string;
  readonly row: (query: number, key: number) => number;
}

/** @param window `[Wh, Ww]` in patches */
export function rowChoices(window: readonly [number, number]): RowChoice[] {
  const [height, width] = window;
  const grid = (2 * height - 1) * (2 * width - 1);
  const right = (query: number, key: number): number => positionRow(query, key, window);
  /** Only pairs of patches get another row. */
  const patches =
    (row: (a: number, b: number) => number) =>
    (query: number, key: number): number =>
      query === 0 || key === 0 ? right(query, key) : row(query - 1, key - 1);
  return [
    {
      what: 'the position index is transposed: key minus query instead of query minus key',
      row: (query, key) => right(key, query),
    },
    {
      what: 'the position index has its window transposed: rows and columns change roles',
      row: patches((a, b) => {
        const down = Math.floor(a / height) - Math.floor(b / height);
        const across = (a % height) - (b % height);
        return (across + height - 1) * (2 * width - 1) + (down + width - 1);
      }),
    },
    {
      what: 'the position index is that of a window with height and width exchanged',
      row: patches((a, b) => {
        const down = Math.floor(a / height) - Math.floor(b / height) + width - 1;
        const across = (a % height) - (b % height) + height - 1;
        return down * (2 * height - 1) + across;
      }),
    },
    {
      what: 'the position table is read column by column instead of row by row',
      row: patches((a, b) => {
        const down = Math.floor(a / width) - Math.floor(b / width) + height - 1;
        const across = (a % width) - (b % width) + width - 1;
        return across * (2 * height - 1) + down;
      }),
    },
    {
      what: 'the position table is mirrored: displacements have the wrong sign between patches',
      row: patches((a, b) => right(b + 1, a + 1)),
    },
    {
      what: 'the position index is off by one (one row too far)',
      row: (query, key) => right(query, key) + 1,
    },
    {
      what: 'the position index is off by one (one row too early)',
      row: (query, key) => right(query, key) - 1,
    },
    {
      what: 'the rows for class-to-patch and patch-to-class are swapped',
      row: (query, key) =>
        query === 0 && key !== 0 ? grid + 1 : query !== 0 && key === 0 ? grid : right(query, key),
    },
  ];
}
