/** `convert-beit diff`: two checkpoints, tensor by tensor. */
import { Argument, Command } from 'commander';
import type { CliDeps } from '../deps.js';
import { EXIT } from '../exit.js';
import { OPTIONS, text } from '../options.js';
import { ExitRequest, Session, type Verbosity } from '../session.js';
import { SOURCES_HELP } from './convert.js';

export function diffCommand(deps: CliDeps): Command {
  return new Command('diff')
    .description('compare two checkpoints of any layouts, tensor by tensor; exit code 0 only when equal')
    .addArgument(new Argument('<a>', 'a checkpoint: official, hf:<owner>/<repo>, or a path').argParser(text))
    .addArgument(new Argument('<b>', 'the other one').argParser(text))
    .addOption(OPTIONS.all())
    .addOption(OPTIONS.json())
    .addOption(OPTIONS.quiet())
    .addOption(OPTIONS.verbose())
    .addHelpText(
      'after',
      `${SOURCES_HELP}

Tensors are compared under canonical names, so the two may come from different frameworks. Index buffers that only one
side has, and that are what its window gives, are no difference.

Examples:
  convert-beit diff official.safetensors beit.pth
  convert-beit diff hf:timm/beit_base_patch16_224.in22k_ft_in22k_in1k ./mine.safetensors --json`,
    )
    .action(async (a: string, b: string, flags: Verbosity & { readonly all?: boolean }) => {
      const session = new Session(deps, flags);
      const { diff } = await session.pipeline();
      const result = await session.work((common) => diff({ a, b, ...common }));
      await session.answer(result, async () =>
        (await import('../show/diff.js')).showDiff(result, session, flags.all ?? false),
      );
      if (!result.equal) throw new ExitRequest(EXIT.failed);
    });
}
