/** `convert-beit convert`: the default command. */
import { Command } from 'commander';
import { UsageError } from '../../errors.js';
import { LABEL_SETS } from '../../label-sets.js';
import type { TaskOptions } from '../../task.js';
import type { CliDeps } from '../deps.js';
import { OPTIONS, sourceOptions } from '../options.js';
import { Session } from '../session.js';
import { FOLDER_ONLY, convertToFolder, writesFolder, type FolderFlags } from './convert-folder.js';

interface ConvertFlags extends Omit<FolderFlags, 'to'>, Omit<TaskOptions, 'outTypes'> {
  readonly outType?: TaskOptions['outTypes'];
  readonly batch?: number;
  readonly dynamicSize?: boolean;
  readonly to?: 'official' | 'timm' | 'transformers' | 'mmpretrain';
  readonly drop?: readonly string[];
}

export const SOURCES_HELP = `
Sources:
  official                 the default official model: BEiT-base, ImageNet-22k to 1k, 224×224
  official:<name>          any row of convert-beit list
  mmpretrain:<name>        OpenMMLab's rows of convert-beit list
  hf:<owner>/<repo>[@<revision>][/<file>]
                           a repository on the Hugging Face hub
  https://<address>        a file anywhere; -<8 hex digits> at the end of its
                           name are checked as the start of its sha256
  <path>                   a checkpoint file, or the folder it is in`;

const LABELS_HELP = `
Class names: --labels, else what the weights have. Published checkpoints get those they were trained on
(${LABEL_SETS.map(({ name }) => name).join(', ')}) from the hub, a small file; if it cannot be had, a note says so.`;

export function convertCommand(deps: CliDeps): Command {
  return new Command('convert')
    .description(
      'convert a checkpoint to ONNX, or to another framework’s weights, and verify it (the default command)',
    )
    .optionsGroup('Options:')
    .addOption(OPTIONS.src())
    .addOption(OPTIONS.out())
    .addOption(OPTIONS.dtype())
    .optionsGroup('The source:')
    .addOption(OPTIONS.stream())
    .addOption(OPTIONS.config())
    .addOption(OPTIONS.labels())
    .addOption(OPTIONS.layout())
    .addOption(OPTIONS.beitVersion())
    .addOption(OPTIONS.sharedBias())
    .addOption(OPTIONS.ema())
    .addOption(OPTIONS.key())
    .optionsGroup('Another size:')
    .addOption(OPTIONS.imgSize())
    .addOption(OPTIONS.patchSize())
    .addOption(OPTIONS.resize())
    .addOption(OPTIONS.dynamicSize())
    .optionsGroup('What the graph computes:')
    .addOption(OPTIONS.task())
    .addOption(OPTIONS.outTypes())
    .addOption(OPTIONS.outIndices())
    .addOption(OPTIONS.finalNorm())
    .addOption(OPTIONS.noFinalNorm())
    .addOption(OPTIONS.dropHead())
    .addOption(OPTIONS.featureTaps())
    .addOption(OPTIONS.upsample())
    .addOption(OPTIONS.batchSize())
    .optionsGroup('The file:')
    .addOption(OPTIONS.opset())
    .addOption(OPTIONS.externalData())
    .addOption(OPTIONS.link())
    .addOption(OPTIONS.keep())
    .addOption(OPTIONS.reduceRange())
    .addOption(OPTIONS.fullRange())
    .addOption(OPTIONS.clobber())
    .optionsGroup('Weights for another framework:')
    .addOption(OPTIONS.to())
    .addOption(OPTIONS.drop())
    .optionsGroup('A folder for the hub:')
    .addOption(OPTIONS.format())
    .addOption(OPTIONS.withWeights())
    .addOption(OPTIONS.push())
    .addOption(OPTIONS.dryRun())
    .addOption(OPTIONS.private())
    .addOption(OPTIONS.pr())
    .optionsGroup('The proof:')
    .addOption(OPTIONS.image())
    .addOption(OPTIONS.report())
    .addOption(OPTIONS.layers())
    .addOption(OPTIONS.samples())
    .addOption(OPTIONS.seed())
    .addOption(OPTIONS.acceptQuality())
    .addOption(OPTIONS.verify())
    .addOption(OPTIONS.threads())
    .optionsGroup('What is printed:')
    .addOption(OPTIONS.json())
    .addOption(OPTIONS.quiet())
    .addOption(OPTIONS.verbose())
    .addHelpText(
      'after',
      `${SOURCES_HELP}
${LABELS_HELP}

Examples:
  convert-beit --src official --out model.onnx
  convert-beit --src official:beitv2_base_patch16_224_pt1k_ft21kto1k --out v2.onnx --image cat.jpg
  convert-beit --src official --img-size 384 --out model-384.onnx
  convert-beit --src ./checkpoint.safetensors --config ./config.json --out model.onnx --json
  convert-beit --src official --out model.onnx --dtype fp32,fp16,q8,q4
  convert-beit --src official --out beit/ --dtype fp32,q8 --push me/beit --dry-run
  convert-beit --src official --out beit.pth
  convert-beit --src ./mmpretrain.pth --out model/ --to transformers`,
    )
    .action(async (flags: ConvertFlags) => {
      const session = new Session(deps, flags);
      if (writesFolder(flags)) {
        refuse(flags, WEIGHTS_ONLY, 'is for weights, --out says a folder for the hub');
        await convertToFolder(flags, session);
        return;
      }
      refuse(flags, FOLDER_ONLY, 'is for a folder (--out ends in /, no --to)');
      const { convert, convertWeights, writesWeights } = await session.pipeline();
      const common = {
        out: flags.out,
        verify: flags.verify,
        // Without a proof and without a program that reads it, nobody waits for the digest either.
        ...(!flags.verify && flags.json !== true && !flags.report && { digest: false }),
        noClobber: !flags.clobber,
      };
      if (writesWeights(flags)) {
        refuse(flags, ONNX_ONLY, 'is for ONNX, --out and --to say weights');
        const { to, drop } = flags;
        const result = await session.work((rest) =>
          convertWeights({ ...sourceOptions(flags), to, drop, ...common, ...rest }),
        );
        await session.answer(result, async () =>
          (await import('../show/weights.js')).showWeights(result, session),
        );
        return;
      }
      refuse(flags, WEIGHTS_ONLY, 'is for weights, --out says ONNX');
      const { opset, externalData, link, dtype, keep, reduceRange, acceptQuality } = flags;
      const {
        task,
        outType: outTypes,
        outIndices,
        finalNorm,
        dropHead,
        featureTaps,
        upsample,
        batch,
        dynamicSize,
      } = flags;
      const purpose = {
        task,
        outTypes,
        outIndices,
        finalNorm,
        dropHead,
        featureTaps,
        upsample,
        batch,
        dynamicSize,
      };
      const graph = { opset, externalData, link, precisions: dtype, keep, reduceRange, acceptQuality };
      const result = await session.work((rest) =>
        convert({ ...sourceOptions(flags), ...purpose, ...graph, ...common, ...rest }),
      );
      await session.answer(result, async () =>
        (await import('../show/result.js')).showConversion(result, session),
      );
    });
}

const ONNX_ONLY = [
  'task',
  'outType',
  'outIndices',
  'finalNorm',
  'dropHead',
  'featureTaps',
  'upsample',
  'batch',
  'dynamicSize',
  'opset',
  'externalData',
  'link',
  'dtype',
  'keep',
  'reduceRange',
  'acceptQuality',
  'samples',
  'seed',
  'image',
  'threads',
  'layers',
  'report',
] as const;
const WEIGHTS_ONLY = ['drop'] as const;

/** An option that would have no effect is a mistake, not a wish to ignore. */
function refuse(flags: ConvertFlags, names: readonly (keyof ConvertFlags)[], why: string): void {
  const given = names.find((name) => flags[name] !== undefined);
  if (given === undefined) return;
  const option = `--${given.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
  throw new UsageError(`${option} ${why}`, { next: 'Leave it out, or give another --out.' });
}
