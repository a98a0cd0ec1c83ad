/** `convert-beit evaluate`: accuracy over a folder or list of pictures. */
import { Argument, Command } from 'commander';
import { UsageError } from '../../errors.js';
import type { CliDeps } from '../deps.js';
import { OPTIONS, modelOptions, text, type ModelFlags } from '../options.js';
import { Session } from '../session.js';
import { FEEDING_HELP } from './classify.js';

interface EvaluateFlags extends ModelFlags {
  readonly against?: string;
  readonly classes?: string;
  readonly batch?: number;
  readonly shard?: readonly [number, number];
  readonly results?: string;
  readonly resume?: boolean;
  readonly merge?: readonly string[];
}

export function evaluateCommand(deps: CliDeps): Command {
  return new Command('evaluate')
    .description('measure accuracy over a folder or list of pictures, alone or on many machines')
    .addArgument(new Argument('[model]', 'the ONNX file').argParser(text))
    .addArgument(
      new Argument('[data]', 'a folder with a sub-folder per class, or a CSV file path,class').argParser(
        text,
      ),
    )
    .addOption(OPTIONS.againstModel())
    .addOption(OPTIONS.classes())
    .addOption(OPTIONS.labels())
    .addOption(OPTIONS.preprocess())
    .addOption(OPTIONS.beitVersion())
    .addOption(OPTIONS.results())
    .addOption(OPTIONS.resume())
    .addOption(OPTIONS.shard())
    .addOption(
      OPTIONS.merge().conflicts([
        'against',
        'classes',
        'labels',
        'preprocess',
        'results',
        'resume',
        'shard',
        'batch',
      ]),
    )
    .addOption(OPTIONS.batch())
    .addOption(OPTIONS.threads())
    .addOption(OPTIONS.json())
    .addOption(OPTIONS.quiet())
    .addOption(OPTIONS.verbose())
    .addHelpText(
      'after',
      `${FEEDING_HELP}

Classes of the data: --classes, else the model's class names, else class numbers, else (as many folders as classes) the
sorted order of the folders, which is right for ImageNet's synsets. Pictures that cannot be read are reported and counted.

Examples:
  convert-beit evaluate model.onnx ./imagenet/val
  convert-beit evaluate model.onnx list.csv --results run.jsonl --resume
  convert-beit evaluate model.onnx ./imagenet/val --against int8.onnx --json
  convert-beit evaluate model.onnx ./imagenet/val --shard 2/4 --results part2.jsonl
  convert-beit evaluate --merge part1.jsonl part2.jsonl part3.jsonl part4.jsonl`,
    )
    .action(async (model: string | undefined, data: string | undefined, flags: EvaluateFlags) => {
      const session = new Session(deps, flags);
      const { evaluate, mergeEvaluations } = await session.pipeline();
      const { merge } = flags;
      if (merge) {
        if (model !== undefined) {
          throw new UsageError('--merge takes results files only, no model and no data', {
            next: 'Give the files behind --merge.',
          });
        }
        const merged = await session.work(() => mergeEvaluations(merge));
        await session.answer(merged, async () =>
          (await import('../show/evaluation.js')).showEvaluation(merged, session),
        );
        return;
      }
      if (model === undefined || data === undefined) {
        throw new UsageError('a model and its data are needed', {
          next: 'Run convert-beit evaluate model.onnx <folder or list.csv>, or convert-beit evaluate --help.',
        });
      }
      if (flags.resume && flags.results === undefined) {
        throw new UsageError('--resume needs the file of --results', { next: 'Give --results <file>.' });
      }
      const result = await session.work((common) =>
        evaluate({
          ...modelOptions(flags),
          model,
          data,
          against: flags.against,
          classes: flags.classes,
          batch: flags.batch,
          shard: flags.shard,
          results: flags.results,
          resume: flags.resume,
          ...common,
        }),
      );
      await session.answer(result, async () =>
        (await import('../show/evaluation.js')).showEvaluation(result, session),
      );
    });
}
