/** `convertWeights`: a checkpoint becomes another framework’s weights. */
import { basename } from 'node:path';
import { containerOf } from '../convert/writers/container.js';
import type { Expressed, WrittenOutput } from '../convert/writers/index.js';
import { prepareDigest } from '../digest.js';
import { ParityError } from '../errors.js';
import type { BeitModel } from '../model.js';
import { SKIPPED } from '../parity.js';
import { requireCompanions } from '../plan.js';
import type { WeightsOptions, WeightsResult } from '../results.js';
import { sourceSummary, weightsSummary } from '../summaries.js';
import { flushFile, openFolderTarget, openTarget, requireFolderOf } from '../target.js';
import type { ParityReport } from '../verify/report.js';
import { VERSION } from '../version.js';
import { interruptible, peakMemoryBytes, stopwatch } from './run.js';
import { checkDigestInName, load, resolve } from './source.js';

/**
 * Write a checkpoint's weights for another framework; the file (or folder) gets its name only after it was read back and
 * every tensor compared.
 *
 * @throws like {@link convert}; LayoutError naming every tensor that the layout cannot express
 * @example
 * ```js
 * import { convertWeights } from 'convert-beit';
 *
 * const { output } = await convertWeights({
 *   src: 'fixtures/demo/beit_demo_patch8_64.safetensors',
 *   out: 'weights.pth',
 *   to: 'mmpretrain',
 * });
 * console.log(output.layout, output.container, output.tensors);
 * ```
 */
export async function convertWeights(options: WeightsOptions): Promise<WeightsResult> {
  return await interruptible(options.signal, async () => {
    const clock = stopwatch();
    const verifying = options.verify ?? true;
    const writers = await import('../convert/writers/index.js');
    const plan = await writers.planOutput(options.out, options.to);
    requireCompanions(options);
    await requireFolderOf(options.out, '--out');
    const resolved = await resolve(options);
    prepareDigest(resolved.path);
    const guards = { noClobber: options.noClobber, inputs: [resolved.path] };
    const target = plan.folder
      ? await openFolderTarget(options.out, { ...guards, files: writers.FOLDER_FILES })
      : await openTarget(options.out, guards);
    let model: BeitModel | undefined;
    try {
      model = await load(
        resolved,
        options,
        () => plan.layout.name === 'transformers' || plan.layout.name === 'mmpretrain',
      );
      const expressed = await writers.express(model, plan.layout, options.drop);
      for (const note of expressed.notes) options.onNote?.(note);
      const read = clock.lap();
      const written = await writers.writeOutput(model, expressed, plan, target.staged, {
        toolVersion: VERSION,
        digest: verifying || (options.digest ?? true),
        signal: options.signal,
        onProgress: (done, total) =>
          options.onProgress?.({ phase: 'write', label: basename(target.path), done, total, unit: 'bytes' }),
      });
      checkDigestInName(resolved, model, written.sourceSha256);
      const write = clock.lap();
      const parity = verifying
        ? await checkWritten(target.staged, written, model, expressed, options)
        : SKIPPED;
      const verify = clock.lap();
      const sha256 = await written.sha256();
      options.signal?.throwIfAborted();
      await target.publish(written.files.map(({ path }) => basename(path)));
      return {
        source: sourceSummary(model, written.sourceSha256),
        output: weightsSummary(written, sha256, expressed, plan, target.path),
        parity,
        notes: expressed.notes,
        seconds: { total: clock.total(), read, write, verify },
        peakMemoryBytes: peakMemoryBytes(),
      };
    } finally {
      await model?.close();
      await target.discard();
    }
  });
}

/** Is this output a weights file, or a folder of one, rather than ONNX? */
export function writesWeights(options: Pick<WeightsOptions, 'out' | 'to'>): boolean {
  return options.to !== undefined || containerOf(options.out) !== undefined;
}

async function checkWritten(
  path: string,
  { files, weights }: WrittenOutput,
  model: BeitModel,
  expressed: Expressed,
  options: WeightsOptions,
): Promise<ParityReport> {
  const clock = stopwatch();
  const flushed = Promise.all(files.map((file) => flushFile(file.path)));
  flushed.catch(() => undefined);
  const { checkWeights } = await import('../convert/writers/index.js');
  const checks = await checkWeights(path, model, expressed, {
    folder: weights.path !== path,
    signal: options.signal,
    onProgress: (done, total) =>
      options.onProgress?.({ phase: 'compare', label: basename(path), done, total, unit: 'steps' }),
  });
  const passed = checks.every((check) => check.passed);
  const report: ParityReport = {
    verdict: passed ? 'passed' : 'failed',
    checks,
    inputs: [],
    seconds: clock.total(),
  };
  if (passed) {
    await flushed;
    return report;
  }
  const details = checks.filter((check) => !check.passed && !check.notRun).map(({ detail }) => detail);
  throw new ParityError(
    `${basename(path)} does not reproduce ${model.provenance.id}: ${details.join('; ')}`,
    report,
    { next: 'Nothing was written. Please report this with the output of --json.' },
  );
}
