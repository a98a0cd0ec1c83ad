/** `convert-beit convert`: the default command. */
import { Command } from 'commander';
import type { CliDeps } from '../deps.js';
import { OPTIONS, sourceOptions, type SourceFlags } from '../options.js';
import { Session } from '../session.js';

interface ConvertFlags extends SourceFlags {
  readonly out: string;
  readonly opset?: number;
  readonly externalData?: boolean;
  readonly verify: boolean;
  readonly clobber: boolean;
}

export const SOURCES_HELP = `
Sources:
  official                 the default official model: BEiT-base, ImageNet-22k to 1k, 224×224
  official:<name>          any row of convert-beit list
  hf:<owner>/<repo>[@<revision>][/<file>]
                           a repository on the Hugging Face hub
  <path>                   a checkpoint file, or the folder it is in`;

export function convertCommand(deps: CliDeps): Command {
  return new Command('convert')
    .description('convert a checkpoint to ONNX and verify what was written (the default command)')
    .addOption(OPTIONS.src())
    .addOption(OPTIONS.out())
    .addOption(OPTIONS.config())
    .addOption(OPTIONS.layout())
    .addOption(OPTIONS.beitVersion())
    .addOption(OPTIONS.sharedBias())
    .addOption(OPTIONS.ema())
    .addOption(OPTIONS.key())
    .addOption(OPTIONS.opset())
    .addOption(OPTIONS.externalData())
    .addOption(OPTIONS.clobber())
    .addOption(OPTIONS.verify())
    .addOption(OPTIONS.samples())
    .addOption(OPTIONS.seed())
    .addOption(OPTIONS.image())
    .addOption(OPTIONS.threads())
    .addOption(OPTIONS.json())
    .addOption(OPTIONS.quiet())
    .addOption(OPTIONS.verbose())
    .addHelpText(
      'after',
      `${SOURCES_HELP}

Examples:
  convert-beit --src official --out model.onnx
  convert-beit --src official:beitv2_base_patch16_224_pt1k_ft21kto1k --out v2.onnx --image cat.jpg
  convert-beit --src ./checkpoint.safetensors --config ./config.json --out model.onnx --json`,
    )
    .action(async (flags: ConvertFlags) => {
      const session = new Session(deps, flags);
      const { convert } = await session.pipeline();
      const result = await session.work((common) =>
        convert({
          ...sourceOptions(flags),
          out: flags.out,
          opset: flags.opset,
          externalData: flags.externalData,
          verify: flags.verify,
          // Without a proof and without a program that reads it, nobody waits for the digest either.
          ...(!flags.verify && flags.json !== true && { digest: false }),
          noClobber: !flags.clobber,
          ...common,
        }),
      );
      await session.answer(result, async () =>
        (await import('../show/result.js')).showConversion(result, session),
      );
    });
}
