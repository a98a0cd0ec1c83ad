/**
 * The commands put together, and how commander is told to leave output and exit codes to us.
 */
import type { Argument, CommanderError } from 'commander';
import { Command } from 'commander';
import { UsageError, printable } from '../errors.js';
import { VERSION } from '../version.js';
import { classifyCommand } from './commands/classify.js';
import { completionCommand } from './commands/completion.js';
import { convertCommand } from './commands/convert.js';
import { diffCommand } from './commands/diff.js';
import { evaluateCommand } from './commands/evaluate.js';
import { inspectCommand } from './commands/inspect.js';
import { listCommand } from './commands/list.js';
import { releaseCommand } from './commands/release.js';
import { verifyCommand } from './commands/verify.js';
import { NAME, type CliDeps } from './deps.js';
import { CliOption } from './options.js';
import { createStyle, wantsColour, widthOf } from './style.js';

const DEFAULT_COMMAND = 'convert';
const ROOT_FLAGS = new Set(['-h', '--help', '-V', '--version']);

/**
 * `--src … --out …` without a command is `convert`. Only an option can start it: a first word that is no command is a
 * mistake worth an answer of its own.
 */
export function withDefaultCommand(args: readonly string[]): string[] {
  const [first] = args;
  if (first === undefined || !first.startsWith('-') || ROOT_FLAGS.has(first)) return [...args];
  return [DEFAULT_COMMAND, ...args];
}

export function createProgram(deps: CliDeps): Command {
  const program = new Command(NAME)
    .usage(`--src <source> --out <file> [options]\n       ${NAME} <command> [options]`)
    .description('Official BEiT v1/v2 checkpoints to verified ONNX: no Python, no PyTorch.')
    .version(VERSION, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print help, also for one command: convert-beit <command> --help')
    .helpCommand('help [command]', 'print help for a command')
    .addHelpText(
      'after',
      `
Examples:
  convert-beit --src official --out model.onnx
  convert-beit --src ./checkpoint.safetensors --out model.onnx
  convert-beit --src official --out beit.pth --to mmpretrain
  convert-beit release zoo.yaml --out dist
  convert-beit list
  convert-beit inspect official

Exit codes:
  0 fine, 1 failed (diff: not equal), 2 usage, 3 bad input, 4 parity not reached, 5 network, 130 after Ctrl-C

Environment:
  HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, NO_COLOR, FORCE_COLOR,
  CONVERT_BEIT_CACHE (downloads from addresses), CONVERT_BEIT_MIRROR (<mirror>/<host>/<path>)`,
    );
  program.addCommand(convertCommand(deps));
  program.addCommand(verifyCommand(deps));
  program.addCommand(inspectCommand(deps));
  program.addCommand(diffCommand(deps));
  program.addCommand(releaseCommand(deps));
  program.addCommand(listCommand(deps));
  program.addCommand(classifyCommand(deps));
  program.addCommand(evaluateCommand(deps));
  program.addCommand(completionCommand(deps));
  program.hook('preAction', (_, command) => {
    checkNeeded(command);
  });
  for (const command of [program, ...program.commands]) settle(command, deps);
  return program;
}

function settle(command: Command, deps: CliDeps): void {
  const style = createStyle(true);
  command
    .exitOverride((error) => {
      throw translate(error, command);
    })
    .configureOutput({
      writeOut: (text) => deps.stdout.write(text),
      writeErr: (text) => deps.stderr.write(text),
      // Errors are thrown; whoever catches them prints them.
      outputError: () => undefined,
      getOutHelpWidth: () => helpWidth(deps.stdout),
      getErrHelpWidth: () => helpWidth(deps.stderr),
      getOutHasColors: () => wantsColour(deps.stdout, deps.env),
      getErrHasColors: () => wantsColour(deps.stderr, deps.env),
    })
    .configureHelp({
      styleTitle: (title) => style.bold(title),
      // Commander says [options] for every command; in a list of five it is noise.
      subcommandTerm: (sub) => [sub.name(), ...sub.registeredArguments.map(argumentTerm)].join(' '),
    });
  if (command.parent) command.helpOption('-h, --help', 'print this help');
}

function argumentTerm(argument: Argument): string {
  const name = `${argument.name()}${argument.variadic ? '...' : ''}`;
  return argument.required ? `<${name}>` : `[${name}]`;
}

/** Long lines are hard to read: help is never set wider than this. */
function helpWidth(stream: CliDeps['stdout']): number {
  return Math.min(widthOf(stream), 110);
}

/** Commander's errors as ours; help and version, which it throws too, stay what they are. */
function translate(error: CommanderError, command: Command): Error {
  if (error.code === 'commander.version' || error.code.startsWith('commander.help')) return error;
  const [message, ...rest] = error.message.replace(/^error: /, '').split('\n');
  const suggestion = /^\(Did you mean (.+)\?\)$/.exec(rest.join(' '))?.[1];
  const help = `${pathOf(command)} --help`;
  const next = suggestion === undefined ? `Run ${help}.` : `Did you mean ${suggestion}? Else run ${help}.`;
  if (error.code === 'commander.unknownCommand' && looksLikeSource(command.args[0])) {
    return new UsageError(message, {
      next: `A source is given with --src: ${NAME} --src ${command.args[0]} --out model.onnx.`,
    });
  }
  if (error.code === 'commander.excessArguments') {
    const word = command.args[command.registeredArguments.length];
    const isCommand = command.parent?.commands.some((other) => other.name() === word) ?? false;
    return new UsageError(`unexpected argument '${printable(word)}' after ${pathOf(command)}`, {
      next: isCommand ? `A command comes before its options: ${NAME} ${word}.` : next,
    });
  }
  return new UsageError(message, { next });
}

/**
 * Options a command cannot do without. Commander would check them before it looks for unknown ones, and answer
 * `--otu model.onnx` with a missing `--out`.
 */
function checkNeeded(command: Command): void {
  const missing = command.options
    .filter((option) => option instanceof CliOption && option.needed)
    .filter((option) => command.getOptionValue(option.attributeName()) === undefined);
  if (missing.length === 0) return;
  const example = command.name() === DEFAULT_COMMAND ? `${NAME} --src official --out model.onnx, or ` : '';
  throw new UsageError(`${missing.map((option) => option.flags).join(' and ')} must be given`, {
    next: `Run ${example}${pathOf(command)} --help.`,
  });
}

function pathOf(command: Command): string {
  return command.parent ? `${command.parent.name()} ${command.name()}` : command.name();
}

function looksLikeSource(word: string): boolean {
  return word === 'official' || /[:/.\\]/.test(word);
}
