/**
 * What follows from the size of the image: numbers, or in a graph that takes images of any size what it computes from
 * the pixels it is given (any-size.ts).
 */
import { tokenCount, type BeitConfig } from '../beit.js';
import type { Size } from './graph.js';

export interface Sizes {
  /** patches from top to bottom */
  readonly rows: Size;
  /** patches from left to right */
  readonly columns: Size;
  readonly patches: Size;
  /** patches and, where there is one, the class token */
  readonly tokens: Size;
}

export function sizesOf(config: Pick<BeitConfig, 'window' | 'classToken'>): Sizes {
  const [rows, columns] = config.window;
  return {
    rows: { name: 'rows', value: rows },
    columns: { name: 'columns', value: columns },
    patches: { name: 'patches', value: rows * columns },
    tokens: { name: 'tokens', value: tokenCount(config) },
  };
}

/** `[h*P, w*P]` where the graph computes it: the part of the image that whole patches cover. */
export const COVERED = 'covered_pixels';

/** `[h*P - height, w*P - width]` where the graph computes it: what the image lacks of whole patches. */
export const MISSING = 'missing_pixels';
