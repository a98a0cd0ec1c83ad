/** `inspect`: what a checkpoint is. */
import type { ResolvedSource } from '../convert/source.js';
import type { InspectOptions, Inspection } from '../results.js';
import { interruptible } from './run.js';
import { loadOptions, resolve } from './source.js';

/**
 * What a checkpoint is; its weights are read for statistics only, when these are asked for. Of a remote one that is not in
 * a cache only the needed parts are read. A checkpoint that cannot be converted is no error: `problem` says why.
 *
 * @throws InputError, FormatError for a file that is no checkpoint at all; UsageError; NetworkError; InterruptedError
 * @example
 * ```js
 * import { inspect } from 'convert-beit';
 *
 * const { layout, config, parameters, tensors, problem } = await inspect({
 *   src: 'fixtures/demo/beit_demo_patch8_64.safetensors',
 * });
 * console.log(layout, config?.imageSize, parameters, tensors.length, problem?.message ?? 'can be converted');
 * ```
 */
export async function inspect(options: InspectOptions): Promise<Inspection> {
  return await interruptible(options.signal, async () => {
    const resolved = await resolve({ ...options, stream: options.stream ?? true });
    const { inspectCheckpoint } = await import('../convert/load.js');
    const inspection = await inspectCheckpoint(resolved.path, loadOptions(resolved, options));
    return {
      ...inspection,
      id: resolved.id,
      ...(resolved.commit === undefined ? {} : { commit: resolved.commit }),
      ...(inspection.config && !inspection.problem ? await modelDetails(resolved, options) : {}),
    };
  });
}

/** What can be said of a model that can be converted. */
async function modelDetails(resolved: ResolvedSource, options: InspectOptions): Promise<Partial<Inspection>> {
  const [{ moduleTree }, { publishedFigures }, { loadModel }] = await Promise.all([
    import('../modules.js'),
    import('../convert/published.js'),
    import('../convert/load.js'),
  ]);
  const model = await loadModel(resolved.path, { ...loadOptions(resolved, options), checkBuffers: false });
  try {
    const statistics = options.stats
      ? await (
          await import('../statistics.js')
        ).weightStatistics(model.tensors, options.signal, (done, total) =>
          options.onProgress?.({
            phase: 'compare',
            label: resolved.id,
            done: 4 * done,
            total: 4 * total,
            unit: 'bytes',
          }),
        )
      : undefined;
    return {
      modules: moduleTree(model.config),
      published: publishedFigures(model.config, resolved.row),
      preprocessing: model.preprocessing,
      ...(statistics && { statistics }),
    };
  } finally {
    await model.close();
  }
}
