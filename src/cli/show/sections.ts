/**
 * Answers for a person: a title on the left, what there is to say on the right.
 */
import type { Session } from '../session.js';
import type { Style } from '../style.js';
import { columnWidth, padEnd, wrap } from '../text.js';

export interface Section {
  readonly title: string;
  /** may be coloured; long ones are wrapped at blanks */
  readonly lines: readonly string[];
}

/** The part of a session that text is made for. */
export type View = Pick<Session, 'style' | 'width' | 'said' | 'verbose'>;

/** A sha256 and its name fit beside it in 80 columns. */
const INDENT = 9;

/** Columns a section's lines have. */
export function sectionWidth(width: number): number {
  return Math.max(20, width - INDENT);
}

export function renderSections(sections: readonly Section[], width: number, style: Style): string[] {
  return sections.flatMap(({ title, lines }) =>
    lines
      .flatMap((line) => wrapLine(line, sectionWidth(width)))
      .map((line, at) =>
        `${at === 0 ? style.bold(padEnd(title, INDENT)) : ' '.repeat(INDENT)}${line}`.trimEnd(),
      ),
  );
}

/** A line's own indentation is kept by what is wrapped, two columns deeper. */
function wrapLine(line: string, width: number): string[] {
  if (columnWidth(line) <= width) return [line];
  const indent = /^ */.exec(line)![0];
  const [first, ...rest] = wrap(line.slice(indent.length), width - indent.length - 2);
  return [indent + first, ...rest.map((part) => `${indent}  ${part}`)];
}
