/** `diff`: two checkpoints, tensor by tensor. */
import type { Checkpoint } from '../convert/checkpoint.js';
import type { DiffOptions, DiffResult } from '../results.js';
import { interruptible, peakMemoryBytes, stopwatch } from './run.js';
import { resolve } from './source.js';

/**
 * Compare two checkpoints of any layouts, tensor by tensor under canonical names. They need not be whole models.
 *
 * @returns one row a tensor; `equal` is true only when every tensor has the same dtype, shape and bits
 * @throws InputError, FormatError, UsageError, NetworkError, InterruptedError
 * @example
 * ```js
 * import { diff } from 'convert-beit';
 *
 * const { equal, counts, rows } = await diff({
 *   a: 'fixtures/demo/beit_demo_patch8_64.safetensors',
 *   b: 'weights.pth', // what convertWeights wrote
 * });
 * console.log(equal, counts, rows[0].name);
 * ```
 */
export async function diff(options: DiffOptions): Promise<DiffResult> {
  return await interruptible(options.signal, async () => {
    const clock = stopwatch();
    const { diffCheckpoints, isEqual } = await import('../convert/diff.js');
    const { openCheckpoint } = await import('../convert/open.js');
    const opened: Checkpoint[] = [];
    try {
      for (const src of [options.a, options.b]) {
        const { path, open } = await resolve({ ...options, src });
        opened.push(await openCheckpoint(path, {}, open));
      }
      const [a, b] = opened;
      const result = await diffCheckpoints(a, b, {
        signal: options.signal,
        onProgress: (done, total) =>
          options.onProgress?.({ phase: 'compare', label: 'tensors', done, total, unit: 'bytes' }),
      });
      return {
        equal: isEqual(result),
        ...result,
        seconds: clock.total(),
        peakMemoryBytes: peakMemoryBytes(),
      };
    } finally {
      for (const checkpoint of opened) await checkpoint.close();
    }
  });
}
