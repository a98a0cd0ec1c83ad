/** What every verb needs around its work: one meaning of an abort, a clock, the memory it took. */
import { InterruptedError, listNames } from '../errors.js';

/**
 * An abort, wherever it surfaces, is one thing to the caller.
 *
 * @param written names of what has its place already
 */
export async function interruptible<T>(
  signal: AbortSignal | undefined,
  work: () => Promise<T>,
  written: readonly string[] = [],
): Promise<T> {
  try {
    signal?.throwIfAborted();
    return await work();
  } catch (error) {
    if (signal?.aborted) {
      const what =
        written.length === 0
          ? 'nothing was'
          : `${listNames(written, 9)} ${written.length === 1 ? 'was' : 'were'}`;
      throw new InterruptedError(`interrupted; ${what} written`, { cause: error });
    }
    throw error;
  }
}

export function peakMemoryBytes(): number {
  // Node reports kilobytes (of 1024) on every platform.
  return process.resourceUsage().maxRSS * 1024;
}

export function stopwatch(): { lap(): number; total(): number } {
  const start = performance.now();
  let last = start;
  return {
    lap() {
      const before = last;
      last = performance.now();
      return (last - before) / 1000;
    },
    total: () => (performance.now() - start) / 1000,
  };
}
