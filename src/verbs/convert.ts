/** `convert`: a checkpoint becomes verified ONNX files. */
import { constants } from 'node:fs';
import { copyFile, link } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { ResolvedSource } from '../convert/source.js';
import { refuseOtherEnding } from '../convert/writers/container.js';
import { prepareDigest } from '../digest.js';
import { dynamicMethod, requireDynamic } from '../dynamic-size.js';
import { ParityError, listNames } from '../errors.js';
import type { Exported } from '../export/index.js';
import type { BeitModel } from '../model.js';
import {
  SKIPPED,
  checkReports,
  filesOf,
  insist,
  measure,
  report,
  type Measured,
  type Reported,
} from '../parity.js';
import { planPrecisions, requireCompanions } from '../plan.js';
import type { ConvertOptions, ConvertResult, OutputSummary, SourceSummary, WrittenFile } from '../results.js';
import { outputSummary, sourceSummary } from '../summaries.js';
import { openTarget, requireFolderOf, type Target } from '../target.js';
import { resolveTask, type Task } from '../task.js';
import type { Truth } from '../verify/verify.js';
import { VERSION } from '../version.js';
import { interruptible, peakMemoryBytes, stopwatch } from './run.js';
import { checkDigestInName, load, resolve } from './source.js';

/** Called with every file that was written, good or not, while its model is still open. */
export type Watch = (file: Reported & { readonly output: OutputSummary }) => Promise<void>;

/**
 * Convert a BEiT v1 or v2 checkpoint to ONNX, in one precision or several. A file gets its name only after it was
 * verified: what does not compute what the source computes is never there.
 *
 * @returns what was read, every file with its parity report, and how long it took
 * @throws UsageError for options that do not fit together; InputError (also FormatError, LayoutError, ShapeError) for a
 *   source that is no BEiT; NetworkError; EnvironmentError for a full disk or without onnxruntime-node; ParityError, whose
 *   `report` is the {@link ParityReport}; InterruptedError when `signal` fires
 * @example
 * ```js
 * import { convert } from 'convert-beit';
 *
 * const { source, files } = await convert({
 *   src: 'fixtures/demo/beit_demo_patch8_64.safetensors', // or 'official', 'hf:<owner>/<repo>', …
 *   out: 'model.onnx',
 *   precisions: ['fp32', 'q8'],
 * });
 * console.log(source.parameters, source.preprocessing.mean);
 * for (const { output, parity } of files) console.log(output.path, parity.verdict, output.sha256);
 * ```
 */
export async function convert(options: ConvertOptions): Promise<ConvertResult> {
  return await convertWatched(options);
}

/** {@link convert}, and somebody who sees every file while its model is open. */
export async function convertWatched(options: ConvertOptions, watch?: Watch): Promise<ConvertResult> {
  const placed: string[] = [];
  const work = async (): Promise<ConvertResult> => {
    const clock = stopwatch();
    const verifying = options.verify ?? true;
    if (verifying) (await import('../verify/runtime.js')).requireRuntime();
    refuseOtherEnding(options.out);
    const precisions = planPrecisions(options);
    requireCompanions(options);
    const dynamic = dynamicMethod(options);
    await checkReports(options);
    await requireFolderOf(options.out, '--out');
    const resolved = await resolve(options);
    const digest = verifying || (options.digest ?? true);
    if (!options.link || digest) prepareDigest(resolved.path);
    const targets: Target[] = [];
    let model: BeitModel | undefined;
    try {
      for (const { path } of precisions) {
        targets.push(await openTarget(path, { noClobber: options.noClobber, inputs: [resolved.path] }));
      }
      const { exportFiles } = await import('../export/index.js');
      // The method of a graph that resizes is no wish to resize now.
      model = await load(resolved, dynamic ? { ...options, resize: undefined } : options, (config) =>
        ['classify', 'segment'].includes(resolveTask(config, options).name),
      );
      const task = resolveTask(model.config, options);
      if (dynamic) {
        requireDynamic(model.config, task.name, dynamic);
        options.onNote?.(`positions are resized inside the graph, as ${dynamic} does it`);
      }
      if (task.name === 'segment' && model.config.segmentation!.auxiliaryChannels > 0) {
        options.onNote?.('the auxiliary head is left out: it only helps training');
      }
      const read = clock.lap();
      const label = basename(targets[0].path);
      const files = targets.map(({ staged }, i) => ({ path: staged, precision: precisions[i].name }));
      const exported = await exportFiles(model, files, {
        task,
        batch: options.batch,
        dynamic,
        opset: options.opset,
        externalData: options.externalData,
        keep: options.keep,
        reduceRange: options.reduceRange,
        ...(options.link && { link: { folder: dirname(targets[0].path), digest } }),
        toolVersion: VERSION,
        digest,
        signal: options.signal,
        onProgress: (done, total) =>
          options.onProgress?.({ phase: 'write', label, done, total, unit: 'bytes' }),
      });
      checkDigestInName(resolved, model, exported[0].sourceSha256);
      for (const { data } of exported) {
        if (data && options.externalData === undefined) {
          options.onNote?.(`the weights are in ${basename(data.path)}: one ONNX file ends at 2 GiB`);
        }
      }
      const write = clock.lap();
      const source = sourceSummary(model, exported[0].sourceSha256);
      const written = await publishAll(
        targets,
        exported,
        { model, source, resolved, task, placed },
        options,
        watch,
      );
      const verify = clock.lap();
      return {
        source,
        ...written[0],
        files: written,
        seconds: { total: clock.total(), read, write, verify },
        peakMemoryBytes: peakMemoryBytes(),
      };
    } finally {
      await model?.close();
      for (const target of targets) await target.discard();
    }
  };
  return await interruptible(options.signal, work, placed);
}

/** Every file that is good gets its name; when one is not, the others keep theirs and the error says so. */
async function publishAll(
  targets: readonly Target[],
  exported: readonly Exported[],
  of: {
    readonly model: BeitModel;
    readonly source: SourceSummary;
    readonly resolved: ResolvedSource;
    readonly task: Task;
    /** names of what has its place, told as it happens */
    readonly placed: string[];
  },
  options: ConvertOptions,
  watch?: Watch,
): Promise<WrittenFile[]> {
  const { model, resolved } = of;
  const written: WrittenFile[] = [];
  const refused: ParityError[] = [];
  const truth: Truth = {};
  const checked = await withSamples(options, exported, model);
  for (const [i, target] of targets.entries()) {
    const each = exported[i];
    const output = outputSummary(each, target.path);
    let measured: Measured = { parity: SKIPPED, pairs: [], outputs: [] };
    if (options.verify ?? true) {
      if (options.link) await lendSources(model, dirname(target.staged));
      measured = await measure(each.model.path, model, checked, resolved, {
        exported: each,
        truth,
        task: of.task,
      });
    }
    const tell = async (): Promise<void> => {
      const reported = { ...measured, ...of, files: filesOf(output) };
      await report(options, reported, reportsOf(options, each, i));
      await watch?.({ ...reported, output });
    };
    try {
      insist(measured.parity, target.path, model, each);
    } catch (error) {
      await tell();
      if (!(error instanceof ParityError) || exported.length === 1) throw error;
      refused.push(error);
      continue;
    }
    options.signal?.throwIfAborted();
    await target.publish([...(each.data ? [basename(each.data.path)] : []), basename(each.model.path)]);
    of.placed.push(basename(target.path));
    await tell();
    written.push({ output, parity: measured.parity });
  }
  if (refused.length === 0) return written;
  const names = written.map(({ output }) => basename(output.path));
  throw new ParityError(refused.map(({ message }) => message).join('; '), refused[0].report, {
    next: `${names.length === 0 ? 'Nothing was written' : `Written were ${listNames(names, 9)}, the others not`}. ${refused[0].next ?? ''}`,
  });
}

/** One report a file: those of further precisions carry their name, as the models do. */
function reportsOf(
  { reports }: ConvertOptions,
  { precision }: Exported,
  index: number,
): readonly string[] | undefined {
  return index === 0 ? reports : reports?.map((path) => path.replace(/(\.\w+)$/, `_${precision}$1`));
}

/** All files are compared on the same inputs, so that the reference is computed once. */
async function withSamples(
  options: ConvertOptions,
  exported: readonly Exported[],
  { config }: BeitModel,
): Promise<ConvertOptions> {
  if (options.samples !== undefined || exported.every(({ precision }) => precision === 'fp32'))
    return options;
  const { samplesForQuality } = await import('../verify/verify.js');
  return { ...options, samples: samplesForQuality(config) };
}

/** A linked model finds its weights beside it: while it is checked in its own folder, they need a name there. */
async function lendSources(model: BeitModel, folder: string): Promise<void> {
  for (const { source } of model.provenance.files) {
    if (!source.file) continue;
    const place = join(folder, basename(source.name));
    // Some file systems have no hard links, some systems forbid them for other people's files.
    await link(source.file.path, place).catch(() =>
      copyFile(source.file!.path, place, constants.COPYFILE_FICLONE),
    );
  }
}
