/** `convert-beit list`: the catalog. */
import { Command } from 'commander';
import type { CliDeps } from '../deps.js';
import { OPTIONS, type SourceFlags } from '../options.js';
import { Session } from '../session.js';

export function listCommand(deps: CliDeps): Command {
  return new Command('list')
    .description('list the published checkpoints')
    .addOption(OPTIONS.json())
    .addOption(OPTIONS.verbose())
    .addHelpText(
      'after',
      `
Examples:
  convert-beit list
  convert-beit list --json`,
    )
    .action(async (flags: Pick<SourceFlags, 'json'>) => {
      const session = new Session(deps, flags);
      const { listCatalog } = await session.pipeline();
      const models = listCatalog();
      await session.answer({ models }, async () =>
        (await import('../show/catalog.js')).showCatalog(models, session),
      );
    });
}
