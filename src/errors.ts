/**
 * The few error classes, each with the exit code the command line ends with.
 *
 * A message says: subject, found, needed; `next` says what to do about it. Text that comes from a file or a server
 * goes through {@link printable} first, so that it can neither move the cursor nor flood the terminal.
 */

export interface ErrorDetails {
  /** What the person can do now, one sentence. */
  readonly next?: string;
  readonly cause?: unknown;
}

/**
 * Base of every error this package throws on purpose; anything else is a bug in it. Exit code 1.
 *
 * @example
 * ```js
 * import { ConvertBeitError, inspect } from 'convert-beit';
 *
 * try {
 *   await inspect({ src: 'no-such-file.pth' });
 * } catch (error) {
 *   if (!(error instanceof ConvertBeitError)) throw error;
 *   console.log(error.name, error.exitCode, error.message, error.next);
 * }
 * ```
 */
export class ConvertBeitError extends Error {
  /** what the command line ends with */
  readonly exitCode: number = 1;
  /** what the person can do now, one sentence */
  readonly next: string | undefined;

  constructor(message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = new.target.name;
    this.next = details.next;
  }
}

/** Something outside the input failed: disk full, missing package, no permission. Exit code 1. */
export class EnvironmentError extends ConvertBeitError {}

/** The command line or an option is wrong. Exit code 2. */
export class UsageError extends ConvertBeitError {
  override readonly exitCode = 2;
}

/** The input is not what it should be. Exit code 3. */
export class InputError extends ConvertBeitError {
  override readonly exitCode: number = 3;
}

/** The bytes break the rules of their own container format. Exit code 3. */
export class FormatError extends InputError {}

/** The tensors are well formed but are not the ones a BEiT of this config has. Exit code 3. */
export class LayoutError extends InputError {}

/** A shape does not fit. Exit code 3. */
export class ShapeError extends InputError {}

/** The written file does not reproduce the source. Exit code 4. `report` is the ParityReport that says how far. */
export class ParityError extends ConvertBeitError {
  override readonly exitCode = 4;
  /** {@link ParityReport} */
  readonly report: unknown;

  constructor(message: string, report: unknown, details: ErrorDetails = {}) {
    super(message, details);
    this.report = report;
  }
}

/** A server could not be reached or answered wrongly. Exit code 5. */
export class NetworkError extends ConvertBeitError {
  override readonly exitCode = 5;
}

/** The person pressed Ctrl-C. Exit code 130. */
export class InterruptedError extends ConvertBeitError {
  override readonly exitCode = 130;
}

// C0 and C1 controls, line/paragraph separators, bidirectional overrides, zero-width and lone surrogates.

const UNSAFE =
  /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]/gu;

/** Make text of foreign origin fit for one line of a terminal: controls escaped, cut at `limit` characters. */
export function printable(text: string, limit = 120): string {
  const cut = text.length > limit ? text.slice(0, limit) : text;
  const safe = cut.replace(UNSAFE, (c) => `\\u{${(c.codePointAt(0) ?? 0).toString(16)}}`);
  return text.length > limit ? `${safe}… (${text.length} characters)` : safe;
}

/** `a, b, c and 9,997 more`: a list of names that stays readable whatever its length. */
export function listNames(names: Iterable<string>, most = 5): string {
  const all = [...names];
  const shown = all.slice(0, most).map((name) => printable(name));
  const rest = all.length - shown.length;
  return rest > 0 ? `${shown.join(', ')} and ${rest.toLocaleString('en-US')} more` : shown.join(', ');
}
