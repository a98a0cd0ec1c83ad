/**
 * Arguments in, exit code out. Every failure ends here and is told once.
 */
import { CommanderError } from 'commander';
import type { CliDeps } from './deps.js';
import { EXIT, describeFailure, type Failure } from './exit.js';
import { createProgram, withDefaultCommand } from './program.js';
import { ExitRequest, Interruption } from './session.js';
import { createStyle, wantsColour } from './style.js';

/** @param args without the program's own name */
export async function run(args: readonly string[], deps: CliDeps): Promise<number> {
  try {
    await createProgram(deps).parseAsync(withDefaultCommand(args), { from: 'user' });
    return EXIT.ok;
  } catch (error) {
    // Commander throws after printing help or the version; help nobody asked for is a usage error.
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    if (error instanceof ExitRequest) return error.exitCode;
    const failure =
      error instanceof Interruption ? describeFailure(error.cause, error.signal) : describeFailure(error);
    await tell(failure, args, deps);
    return failure.exitCode;
  }
}

/** Print a failure: on stderr for a person, and on stdout too when JSON was asked for. */
export async function tell(failure: Failure, args: readonly string[], deps: CliDeps): Promise<void> {
  // Read off the raw arguments, because parsing them may be what failed. No value can look like an option.
  const options = args.slice(0, args.includes('--') ? args.indexOf('--') : undefined);
  const style = createStyle(wantsColour(deps.stderr, deps.env));
  const lines: string[] = [];
  const report = failure.report;
  if (report !== undefined && !options.includes('--quiet')) {
    const { failedReportLines } = await import('./show/parity.js');
    lines.push(...failedReportLines(report));
  }
  lines.push(`${style.red(style.bold('error:'))} ${failure.message}`);
  if (failure.next !== undefined) lines.push(`  ${style.bold('next:')} ${failure.next}`);
  if (options.includes('--verbose')) lines.push(...failure.trace.map((line) => style.dim(line)));
  deps.stderr.write(lines.map((line) => `${line}\n`).join(''));
  if (options.includes('--json')) {
    const { kind, message, next, exitCode } = failure;
    const { toJson } = await import('./json.js');
    const object = {
      ok: false,
      error: { kind, message, next, exitCode },
      ...(report ? { parity: report } : {}),
    };
    deps.stdout.write(toJson(object, deps.stdout.isTTY));
  }
}
