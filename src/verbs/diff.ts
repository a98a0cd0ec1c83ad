/** `diff`: two checkpoints, tensor by tensor. */
import type { Checkpoint } from '../convert/checkpoint.js';
import type { DiffOptions, DiffResult } from '../results.js';
import { interruptible, peakMemoryBytes, stopwatch } from './run.js';
import { resolve } from './source.js';

/** Two checkpoints of any layouts, tensor by tensor. Same errors as `inspect`. */
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
