/**
 * One run of one command: where its output goes, what it may show, and when it has to stop.
 */
import { printable } from '../errors.js';
import type { CommonOptions } from '../pipeline.js';
import { VERSION } from '../version.js';
import { NAME, type CliDeps, type Pipeline } from './deps.js';
import { watchSignals } from './interrupt.js';
import type { ProgressLine } from './progress.js';
import { createStyle, wantsColour, widthOf, type Style } from './style.js';

export interface Verbosity {
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly verbose?: boolean;
}

export class Session {
  readonly pipeline: () => Promise<Pipeline>;
  readonly json: boolean;
  readonly quiet: boolean;
  readonly verbose: boolean;
  /** of stdout */
  readonly style: Style;
  /** columns of stdout; `Infinity` when it is not a terminal */
  readonly width: number;
  /** what a person was told already, on stderr */
  readonly said = new Set<string>();
  readonly #deps: CliDeps;
  readonly #live: boolean;
  #progress: ProgressLine | undefined;
  readonly #errorStyle: Style;

  constructor(deps: CliDeps, verbosity: Verbosity) {
    this.#deps = deps;
    this.pipeline = deps.loadPipeline;
    this.json = verbosity.json ?? false;
    this.quiet = verbosity.quiet ?? false;
    this.verbose = verbosity.verbose ?? false;
    this.style = createStyle(wantsColour(deps.stdout, deps.env));
    this.width = widthOf(deps.stdout);
    this.#errorStyle = createStyle(wantsColour(deps.stderr, deps.env));
    this.#live = deps.stderr.isTTY === true && !this.quiet && deps.env['TERM'] !== 'dumb';
  }

  /**
   * Run a verb of the pipeline with progress, notes and a signal that stops it.
   *
   * @throws Interruption if a signal arrived and the work did not get to its end
   */
  async work<T>(verb: (common: Required<CommonOptions>) => Promise<T>): Promise<T> {
    const interrupt = watchSignals(this.#deps.signals, this.#deps.exit, () => {
      this.#progress?.clear();
      if (!this.quiet) this.#deps.stderr.write('stopping and tidying up; once more to stop at once\n');
    });
    try {
      if (this.#live) this.#progress = new (await import('./progress.js')).ProgressLine(this.#deps.stderr);
      return await verb({
        signal: interrupt.signal,
        onProgress: (event) => {
          if (!interrupt.signal.aborted) this.#progress?.update(event);
        },
        onNote: (text) => {
          this.#note(text);
        },
        env: this.#deps.env,
      });
    } catch (error) {
      const signal = interrupt.caught();
      throw signal === undefined ? error : new Interruption(signal, error);
    } finally {
      interrupt.stop();
      this.#progress?.clear();
    }
  }

  #note(text: string): void {
    if (this.said.has(text)) return;
    this.said.add(text);
    if (this.quiet) return;
    this.#progress?.clear();
    this.#deps.stderr.write(`${this.#errorStyle.yellow('note:')} ${printable(text, 400)}\n`);
  }

  /** One line for a person on stderr, unless quiet. */
  say(line: string): void {
    if (this.quiet) return;
    this.#progress?.clear();
    this.#deps.stderr.write(`${printable(line, 1000)}\n`);
  }

  /** The one JSON object of this run, if that is what was asked for; else lines for a person, unless quiet. */
  async answer(data: object, forPerson: () => Promise<readonly string[]>): Promise<void> {
    if (this.json) {
      const { toJson } = await import('./json.js');
      const object = { ok: true, tool: { name: NAME, version: VERSION }, ...data };
      this.#deps.stdout.write(toJson(object, this.#deps.stdout.isTTY));
    } else if (!this.quiet) {
      this.#deps.stdout.write((await forPerson()).map((line) => `${line}\n`).join(''));
    }
  }
}

/** Thrown in place of whatever the work threw after a signal told it to stop. */
export class Interruption extends Error {
  readonly signal: NodeJS.Signals;

  constructor(signal: NodeJS.Signals, cause: unknown) {
    super(`stopped by ${signal}`, { cause });
    this.name = 'Interruption';
    this.signal = signal;
  }
}

/** Thrown when everything was said, and the answer is an exit code other than 0. */
export class ExitRequest extends Error {
  readonly exitCode: number;

  constructor(exitCode: number) {
    super(`exit code ${exitCode}`);
    this.name = 'ExitRequest';
    this.exitCode = exitCode;
  }
}
