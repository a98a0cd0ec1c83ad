/** The commands as a shell needs them: data, made once from the definitions. */
import type { ValueKind } from '../options.js';

/** One option as a shell needs it. */
export interface OptionModel {
  /** `--src`, `-h` */
  readonly names: readonly string[];
  readonly description: string;
  /** absent: the option takes no value */
  readonly value?: ValueModel;
  readonly repeats: boolean;
}

export interface ValueModel {
  readonly name: string;
  readonly kind: ValueKind;
  /** nothing else is taken */
  readonly choices: readonly string[];
  /** offered beside files */
  readonly words: readonly string[];
}

export interface CommandModel {
  readonly name: string;
  readonly description: string;
  readonly options: readonly OptionModel[];
  /** what the first argument is, when there is one */
  readonly argument?: ValueModel;
}

export interface ProgramModel {
  readonly name: string;
  readonly commands: readonly CommandModel[];
  /** the program's own options: `--help`, `--version` */
  readonly options: readonly OptionModel[];
  /** values of a source: `official`, `official:<name>`, `hf:` */
  readonly sources: readonly string[];
}
