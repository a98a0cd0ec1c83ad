/** `verify`: an ONNX file, by whomever, against the checkpoint it was made from. */
import { basename } from 'node:path';
import { sha256Of } from '../digest.js';
import { printable } from '../errors.js';
import type { BeitModel } from '../model.js';
import { refuseNotOnnx } from '../not-onnx.js';
import { checkReports, insist, measure, report } from '../parity.js';
import { requireCompanions } from '../plan.js';
import type { VerifyOptions, VerifyResult } from '../results.js';
import { sourceSummary } from '../summaries.js';
import { interruptible, peakMemoryBytes, stopwatch } from './run.js';
import { checkDigestInName, load, resolve } from './source.js';

/**
 * Verify an existing ONNX file, by whatever tool, against the checkpoint it was made from.
 *
 * @throws like {@link convert}; ParityError when it is not the same model: its `report` says where and why
 * @example
 * ```js
 * import { ParityError, verify } from 'convert-beit';
 *
 * try {
 *   const src = 'fixtures/demo/beit_demo_patch8_64.safetensors';
 *   const { parity } = await verify({ model: 'model.onnx', src, layers: true });
 *   console.log(parity.verdict, parity.logits?.noiseUnits, 'of', parity.logits?.noiseUnitsAllowed);
 * } catch (error) {
 *   if (!(error instanceof ParityError)) throw error;
 *   console.log(error.message, error.report);
 * }
 * ```
 */
export async function verify(options: VerifyOptions): Promise<VerifyResult> {
  return await interruptible(options.signal, async () => {
    const clock = stopwatch();
    await checkReports(options);
    await refuseNotOnnx(options.model);
    const file = await (await import('../file-source.js')).openFile(options.model);
    let model: BeitModel | undefined;
    try {
      const resolved = await resolve(options);
      const asked = await likeTheFile(options);
      requireCompanions(asked);
      model = await load(resolved, asked, () => (options.images?.length ?? 0) > 0);
      const measured = await measure(options.model, model, asked, resolved);
      const sha256 = await sha256Of(file, options.signal);
      const sources = new Map<string, string>();
      for (const { name, source, sha256: known } of model.provenance.files) {
        sources.set(name, known ?? (await sha256Of(source, options.signal)));
      }
      checkDigestInName(resolved, model, sources);
      const source = sourceSummary(model, sources);
      const summary = { path: options.model, bytes: file.size, sha256 };
      await report(options, { ...measured, model, source, resolved, files: [summary] });
      insist(measured.parity, options.model, model);
      return {
        source,
        file: summary,
        parity: measured.parity,
        seconds: clock.total(),
        peakMemoryBytes: peakMemoryBytes(),
      };
    } finally {
      await model?.close();
      await file.close();
    }
  });
}

/** Resize the source as the written file says it was resized; what is asked for in words comes first. */
async function likeTheFile(options: VerifyOptions): Promise<VerifyOptions> {
  const { readResizing } = await import('../verify/resizing.js');
  const recorded = await readResizing(options.model);
  if (recorded === undefined) return options;
  const { imageSize, patchSize, method } = recorded;
  const asked = { imageSize, patchSize, resize: method, ...withoutUndefined(options) };
  const size = `${asked.imageSize.join('×')} with patches of ${asked.patchSize}`;
  options.onNote?.(
    `${printable(basename(options.model))} is recorded as resized: so is the source, to ${size} (${asked.resize})`,
  );
  return asked;
}

function withoutUndefined<T extends object>(options: T): T {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as T;
}
