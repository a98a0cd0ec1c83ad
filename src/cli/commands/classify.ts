/** `convert-beit classify`: the best classes of pictures. */
import { Argument, Command } from 'commander';
import type { CliDeps } from '../deps.js';
import { LABEL_WORDS } from '../../label-sets.js';
import { OPTIONS, modelOptions, text, texts, type ModelFlags } from '../options.js';
import { Session } from '../session.js';

interface ClassifyFlags extends ModelFlags {
  readonly top?: number;
}

export const FEEDING_HELP = `
How pictures are prepared is told by the model's own metadata (convert-beit writes it); for other models by the
preprocessor_config.json beside the file, or by --preprocess. Class names: --labels (a file, or a
set: ${LABEL_WORDS}), else the metadata, else config.json beside the file.`;

export function classifyCommand(deps: CliDeps): Command {
  return new Command('classify')
    .description('name what pictures show, with a converted model')
    .addArgument(new Argument('<model>', 'the ONNX file').argParser(text))
    .addArgument(new Argument('<image...>', 'pictures: JPEG, PNG, WebP, GIF, TIFF, AVIF').argParser(texts))
    .addOption(OPTIONS.top())
    .addOption(OPTIONS.labels())
    .addOption(OPTIONS.preprocess())
    .addOption(OPTIONS.beitVersion())
    .addOption(OPTIONS.threads())
    .addOption(OPTIONS.json())
    .addOption(OPTIONS.quiet())
    .addOption(OPTIONS.verbose())
    .addHelpText(
      'after',
      `${FEEDING_HELP}

Examples:
  convert-beit classify model.onnx cat.jpg
  convert-beit classify model.onnx *.jpg --top 1 --json
  convert-beit classify other.onnx cat.jpg --preprocess timm --labels imagenet.txt`,
    )
    .action(async (model: string, images: readonly string[], flags: ClassifyFlags) => {
      const session = new Session(deps, flags);
      const { classify } = await session.pipeline();
      const result = await session.work((common) =>
        classify({ ...modelOptions(flags), model, images, top: flags.top, ...common }),
      );
      await session.answer(result, async () =>
        (await import('../show/evaluation.js')).showClassification(result, session),
      );
    });
}
