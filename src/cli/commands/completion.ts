/** `convert-beit completion`: scripts that teach a shell these commands. */
import { Argument, Command } from 'commander';
import type { CliDeps } from '../deps.js';
import { OPTIONS } from '../options.js';

const SHELLS = ['bash', 'zsh', 'fish'] as const;

export function completionCommand(deps: CliDeps): Command {
  return new Command('completion')
    .description('print a completion script for bash, zsh or fish')
    .addArgument(new Argument('<shell>', 'which shell').choices(SHELLS))
    .addOption(OPTIONS.verbose())
    .addHelpText(
      'after',
      `
Examples:
  convert-beit completion bash > ~/.local/share/bash-completion/completions/convert-beit
  convert-beit completion zsh > "\${fpath[1]}/_convert-beit"
  convert-beit completion fish > ~/.config/fish/completions/convert-beit.fish
  source <(convert-beit completion bash)        # only in this shell`,
    )
    .action(async (shell: (typeof SHELLS)[number], _flags: unknown, command: Command) => {
      const [{ completionScript }, { listCatalog }] = await Promise.all([
        import('../completion.js'),
        deps.loadPipeline(),
      ]);
      const names = listCatalog().map((entry) => entry.src);
      deps.stdout.write(await completionScript(shell, command.parent ?? command, names));
    });
}
