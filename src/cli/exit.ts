/**
 * Exit codes, and how a failure is told: to a person on stderr, to a program as JSON.
 */
import { ConvertBeitError, InterruptedError, ParityError, UsageError, printable } from '../errors.js';

export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  input: 3,
  parity: 4,
  network: 5,
} as const;

/** A shell's own convention: 128 + the signal's number. */
export const SIGNAL_EXIT: ReadonlyMap<NodeJS.Signals, number> = new Map([
  ['SIGHUP', 129],
  ['SIGINT', 130],
  ['SIGTERM', 143],
]);

/** A failure as data: what `--json` prints and what the lines on stderr are made of. */
export interface Failure {
  /** `usage`, `input`, `format`, `layout`, `shape`, `environment`, `parity`, `network`, `interrupted`, `failed`; `unexpected` = a bug */
  readonly kind: string;
  readonly message: string;
  readonly next?: string;
  readonly exitCode: number;
  /** the report of a parity check that was not passed */
  readonly report?: unknown;
  /** stack trace and causes; shown with `--verbose` only */
  readonly trace: readonly string[];
}

/**
 * Any thrown value as a {@link Failure}.
 *
 * @param signal what the person or the system asked the program to stop with, if so: whatever was thrown after that is
 *   the interruption, because a cut download or a killed worker fails in its own way
 */
export function describeFailure(error: unknown, signal?: NodeJS.Signals): Failure {
  const trace = traceOf(error);
  if (signal !== undefined) {
    const own = error instanceof InterruptedError ? error : undefined;
    return {
      kind: 'interrupted',
      message: own ? lines(own.message) : 'interrupted',
      next: own?.next,
      exitCode: SIGNAL_EXIT.get(signal) ?? EXIT.failed,
      trace,
    };
  }
  if (error instanceof ConvertBeitError) {
    return {
      kind: kindOf(error),
      message: lines(error.message),
      next: error.next === undefined ? undefined : lines(error.next),
      exitCode: error.exitCode,
      report: error instanceof ParityError ? error.report : undefined,
      // Where in the program a wrong option was noticed helps nobody.
      trace: error instanceof UsageError ? [] : trace,
    };
  }
  const what = error instanceof Error ? `${error.name}: ${error.message}` : `thrown: ${String(error)}`;
  return {
    kind: 'unexpected',
    message: `unexpected error, please report it (${printable(what, 300)})`,
    next: 'Run the same command with --verbose to see where it came from.',
    exitCode: EXIT.failed,
    trace,
  };
}

/** `FormatError` → `format`; the base class itself → `failed`. */
function kindOf(error: ConvertBeitError): string {
  return error.name === 'ConvertBeitError' ? 'failed' : error.name.replace(/Error$/, '').toLowerCase();
}

/** Own messages may have several lines; whatever else is in them must not reach a terminal. */
function lines(text: string): string {
  return text
    .split('\n')
    .map((line) => printable(line, 4000))
    .join('\n');
}

function traceOf(error: unknown): string[] {
  const out: string[] = [];
  const seen = new Set<unknown>();
  for (let at: unknown = error; at instanceof Error && !seen.has(at); at = at.cause) {
    if (seen.size > 0) out.push('caused by');
    seen.add(at);
    out.push(...(at.stack ?? String(at)).split('\n').map((line) => printable(line, 500)));
  }
  return out;
}
