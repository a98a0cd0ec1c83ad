/** `convert-beit verify`: an existing file against the checkpoint it was made from. */
import { Argument, Command } from 'commander';
import type { CliDeps } from '../deps.js';
import { OPTIONS, sourceOptions, text, type SourceFlags } from '../options.js';
import { Session } from '../session.js';
import { SOURCES_HELP } from './convert.js';

interface VerifyFlags extends SourceFlags {
  readonly against?: readonly string[];
  readonly golden?: string | true;
  readonly acceptQuality?: boolean;
}

export function verifyCommand(deps: CliDeps): Command {
  return new Command('verify')
    .description('verify an existing ONNX file against the checkpoint it was made from')
    .addArgument(new Argument('<model>', 'the ONNX file').argParser(text))
    .addOption(OPTIONS.src())
    .addOption(OPTIONS.stream())
    .addOption(OPTIONS.config())
    .addOption(OPTIONS.labels())
    .addOption(OPTIONS.layout())
    .addOption(OPTIONS.beitVersion())
    .addOption(OPTIONS.sharedBias())
    .addOption(OPTIONS.ema())
    .addOption(OPTIONS.key())
    .addOption(OPTIONS.imgSize())
    .addOption(OPTIONS.patchSize())
    .addOption(OPTIONS.resize())
    .addOption(OPTIONS.samples())
    .addOption(OPTIONS.seed())
    .addOption(OPTIONS.image())
    .addOption(OPTIONS.acceptQuality())
    .addOption(OPTIONS.layers())
    .addOption(OPTIONS.against())
    .addOption(OPTIONS.golden())
    .addOption(OPTIONS.report())
    .addOption(OPTIONS.threads())
    .addOption(OPTIONS.json())
    .addOption(OPTIONS.quiet())
    .addOption(OPTIONS.verbose())
    .addHelpText(
      'after',
      `${SOURCES_HELP}

Examples:
  convert-beit verify model.onnx --src official
  convert-beit verify model.onnx --src ./checkpoint.safetensors --samples 8 --seed 1
  convert-beit verify model.onnx --src official --image cat.jpg dog.jpg --json
  convert-beit verify exported-elsewhere.onnx --src official --layers --report report.html
  convert-beit verify model.onnx --src official --against other.onnx recorded.safetensors`,
    )
    .action(async (model: string, flags: VerifyFlags) => {
      const session = new Session(deps, flags);
      const { verify } = await session.pipeline();
      const { against, golden, acceptQuality } = flags;
      const result = await session.work((common) =>
        verify({ ...sourceOptions(flags), model, against, golden, acceptQuality, ...common }),
      );
      await session.answer(result, async () =>
        (await import('../show/result.js')).showVerification(result, session),
      );
    });
}
