import { expect, it } from 'vitest';
import { Pace } from '../../src/release/pace.js';

it('says what is left at the pace so far, and nothing while nobody knows', () => {
  let now = 0;
  const pace = new Pace([{ seconds: 10 }, { seconds: 20 }, { seconds: 30 }], () => now);
  expect(pace.now()).toEqual({ done: 0 });
  // Twice as long as planned: so will be the others.
  now = 20_000;
  pace.ended(0, true);
  expect(pace.now()).toEqual({ done: 1, secondsLeft: 100 });
  // What is skipped or fails says nothing about the pace.
  pace.ended(1, false);
  expect(pace.now()).toEqual({ done: 2, secondsLeft: 60 });
  pace.ended(2, true);
  expect(pace.now()).toEqual({ done: 3, secondsLeft: 0 });
});

it('does not guess at models of unknown size', () => {
  const pace = new Pace([{ seconds: 10 }, {}], () => 0);
  pace.ended(0, true);
  expect(pace.now()).toEqual({ done: 1 });
});
