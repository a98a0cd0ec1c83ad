import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { runJobs } from '../../src/release/schedule.js';

describe('runJobs', () => {
  it.each([
    ['one at a time', { jobs: 1, memory: 100 }, 1],
    ['two at a time', { jobs: 2, memory: 100 }, 2],
    ['as many as memory allows', { jobs: 9, memory: 30 }, 3],
    ['one, where each is beyond the budget', { jobs: 9, memory: 5 }, 1],
  ])('%s', async (_, limits, expected) => {
    let now = 0;
    let most = 0;
    const order: number[] = [];
    const jobs = Array.from({ length: 8 }, (__, i) => ({
      memory: 10,
      run: async () => {
        order.push(i);
        most = Math.max(most, ++now);
        await sleep(5);
        now -= 1;
        return i;
      },
    }));
    const outcomes = await runJobs(jobs, limits);
    expect(outcomes).toEqual(jobs.map((__, i) => ({ value: i })));
    expect(order).toEqual(jobs.map((__, i) => i));
    expect(most).toBe(expected);
  });

  it('goes on when one fails', async () => {
    const error = new Error('no');
    const outcomes = await runJobs(
      [
        { memory: 1, run: () => Promise.reject(error) },
        { memory: 1, run: () => Promise.resolve(2) },
      ],
      { jobs: 1, memory: 1 },
    );
    expect(outcomes).toEqual([{ error }, { value: 2 }]);
  });
});
