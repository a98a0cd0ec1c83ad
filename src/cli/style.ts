/**
 * Colour, and when there is none.
 */

/** The part of a stream that decides how it is written to. */
export interface TerminalStream {
  readonly isTTY?: boolean;
  readonly columns?: number;
}

export interface Style {
  readonly enabled: boolean;
  bold(text: string): string;
  dim(text: string): string;
  red(text: string): string;
  green(text: string): string;
  yellow(text: string): string;
  cyan(text: string): string;
}

/**
 * Whether a stream gets colour: `NO_COLOR` (set and not empty) says no, else `FORCE_COLOR` says yes (or no with `0` or
 * `false`), else a terminal that is not `dumb` does.
 *
 * @see https://no-color.org, https://force-color.org
 */
export function wantsColour(stream: TerminalStream, env: NodeJS.ProcessEnv): boolean {
  if (env['NO_COLOR']) return false;
  const forced = env['FORCE_COLOR'];
  if (forced !== undefined && forced !== '') return forced !== '0' && forced !== 'false';
  return stream.isTTY === true && env['TERM'] !== 'dumb';
}

export function createStyle(enabled: boolean): Style {
  const wrap = (on: number, off: number) => (text: string) =>
    enabled && text !== '' ? `\u001b[${on}m${text}\u001b[${off}m` : text;
  return {
    enabled,
    bold: wrap(1, 22),
    dim: wrap(2, 22),
    red: wrap(31, 39),
    green: wrap(32, 39),
    yellow: wrap(33, 39),
    cyan: wrap(36, 39),
  };
}

/** Columns there is room for: the terminal's, or no limit for a file or a pipe. */
export function widthOf(stream: TerminalStream): number {
  return stream.isTTY === true && stream.columns !== undefined && stream.columns > 0
    ? stream.columns
    : Infinity;
}
