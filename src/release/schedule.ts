/**
 * Jobs side by side within a memory budget. Jobs start in their order; one that does not fit waits for others to end,
 * and one that alone is beyond the budget runs alone.
 */

export interface Job<T> {
  /** bytes it may need at its peak */
  readonly memory: number;
  run(): Promise<T>;
}

export interface Limits {
  readonly jobs: number;
  readonly memory: number;
}

export type Outcome<T> = { readonly value: T } | { readonly error: unknown };

/** All outcomes, in the jobs' order. A job's failure is its outcome and stops no other; nothing is thrown. */
export async function runJobs<T>(jobs: readonly Job<T>[], limits: Limits): Promise<Outcome<T>[]> {
  const outcomes = new Array<Outcome<T>>(jobs.length);
  const running = new Set<Promise<void>>();
  let used = 0;
  for (const [index, job] of jobs.entries()) {
    while (running.size > 0 && (running.size >= limits.jobs || used + job.memory > limits.memory)) {
      await Promise.race(running);
    }
    used += job.memory;
    const ended: Promise<void> = job
      .run()
      .then(
        (value) => {
          outcomes[index] = { value };
        },
        (error: unknown) => {
          outcomes[index] = { error };
        },
      )
      .finally(() => {
        used -= job.memory;
        running.delete(ended);
      });
    running.add(ended);
  }
  await Promise.all(running);
  return outcomes;
}
