/**
 * Completion scripts, made from the commands themselves: a new option is known to the shells without another word.
 */
import type { Command, Option } from 'commander';
import { CliOption, type ValueKind } from './options.js';
import type { CommandModel, OptionModel, ProgramModel } from './shells/model.js';

export type Shell = 'bash' | 'zsh' | 'fish';

const ARGUMENT_KINDS: ReadonlyMap<string, ValueKind> = new Map([
  ['source', 'source'],
  ['model', 'file'],
  ['a', 'source'],
]);

function optionModel(option: Option): OptionModel {
  const names = [option.short, option.long].filter((name) => name !== undefined);
  const value = /[<[]([^>\].]+)/.exec(option.flags)?.[1];
  return {
    names,
    description: option.description,
    repeats: option.variadic,
    ...(value === undefined
      ? {}
      : {
          value: {
            name: value,
            kind: option instanceof CliOption ? option.valueKind : 'none',
            choices: option.argChoices ?? [],
            words: option instanceof CliOption ? option.words : [],
          },
        }),
  };
}

/** @param models the catalog's sources, as `official:<name>` */
export function describeProgram(program: Command, models: readonly string[]): ProgramModel {
  const visible = (command: Command): OptionModel[] =>
    command.createHelp().visibleOptions(command).map(optionModel);
  const commands = program
    .createHelp()
    .visibleCommands(program)
    .map((command): CommandModel => {
      const [argument] = command.registeredArguments;
      const help = command.name() === 'help';
      const choices = help ? program.commands.map((other) => other.name()) : (argument?.argChoices ?? []);
      return {
        name: command.name(),
        description: command.description(),
        options: help ? [] : visible(command),
        ...(argument
          ? {
              argument: {
                name: argument.name(),
                kind: ARGUMENT_KINDS.get(argument.name()) ?? 'none',
                choices,
                words: [],
              },
            }
          : {}),
      };
    });
  return {
    name: program.name(),
    commands,
    options: visible(program),
    sources: ['official', ...models, 'hf:'],
  };
}

/** The first command is the default one: its options may stand without a command. */
export function completionScript(shell: Shell, program: Command, models: readonly string[]): Promise<string> {
  const model = describeProgram(program, models);
  switch (shell) {
    case 'bash':
      return import('./shells/bash.js').then(({ bashScript }) => bashScript(model));
    case 'zsh':
      return import('./shells/zsh.js').then(({ zshScript }) => zshScript(model));
    case 'fish':
      return import('./shells/fish.js').then(({ fishScript }) => fishScript(model));
  }
}
