/** `convert-beit inspect`: what a checkpoint is; its weights are read with `--stats` only. */
import { Argument, Command } from 'commander';
import type { CliDeps } from '../deps.js';
import { OPTIONS, sourceOptions, text, type SourceFlags } from '../options.js';
import { Session } from '../session.js';
import { SOURCES_HELP } from './convert.js';

interface InspectFlags extends Omit<SourceFlags, 'src'> {
  readonly stats?: boolean;
}

export function inspectCommand(deps: CliDeps): Command {
  return new Command('inspect')
    .description('show what a checkpoint is: layout, config, parameters, FLOPs, every tensor')
    .addArgument(
      new Argument(
        '<source>',
        'official, official:<name>, hf:<owner>/<repo>, https://…, or a path',
      ).argParser(text),
    )
    .addOption(OPTIONS.stream().default(undefined).hideHelp())
    .addOption(OPTIONS.noStream())
    .addOption(OPTIONS.config())
    .addOption(OPTIONS.layout())
    .addOption(OPTIONS.beitVersion())
    .addOption(OPTIONS.ema())
    .addOption(OPTIONS.key())
    .addOption(OPTIONS.stats())
    .addOption(OPTIONS.json())
    .addOption(OPTIONS.quiet())
    .addOption(OPTIONS.verbose())
    .addHelpText(
      'after',
      `${SOURCES_HELP}

Examples:
  convert-beit inspect official
  convert-beit inspect hf:timm/beit_base_patch16_224.in22k_ft_in22k_in1k
  convert-beit inspect ./checkpoint.safetensors --stats
  convert-beit inspect ./checkpoint.safetensors --json`,
    )
    .action(async (src: string, flags: InspectFlags) => {
      const session = new Session(deps, flags);
      const { inspect } = await session.pipeline();
      const { configPath, layout, version, ema, key, stream } = sourceOptions({ ...flags, src });
      const inspection = await session.work((common) =>
        inspect({ src, configPath, layout, version, ema, key, stream, stats: flags.stats, ...common }),
      );
      await session.answer(inspection, async () =>
        (await import('../show/inspection.js')).showInspection(inspection, session),
      );
    });
}
