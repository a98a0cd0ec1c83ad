/** How far a release is as a whole. */
import type { PlannedItem } from './plan.js';

export interface Reached {
  /** items that have come to an end */
  readonly done: number;
  /** estimated, for all that have not; `undefined` while nobody knows */
  readonly secondsLeft?: number;
}

/** Time left by the plan's estimates, and by how wrong they have been so far. */
export class Pace {
  readonly #clock: () => number;
  readonly #start: number;
  readonly #plans: readonly Pick<PlannedItem, 'seconds'>[];
  readonly #open: Set<number>;
  /** planned seconds of what was really built */
  #built = 0;

  /** @param clock milliseconds, steadily rising */
  constructor(plans: readonly Pick<PlannedItem, 'seconds'>[], clock: () => number = () => performance.now()) {
    this.#clock = clock;
    this.#start = clock();
    this.#plans = plans;
    this.#open = new Set(plans.keys());
  }

  ended(index: number, isBuilt: boolean): void {
    this.#open.delete(index);
    if (isBuilt) this.#built += this.#plans[index].seconds ?? 0;
  }

  now(): Reached {
    const done = this.#plans.length - this.#open.size;
    const planned = [...this.#open].map((index) => this.#plans[index].seconds);
    if (this.#built === 0 || planned.includes(undefined)) return { done };
    const left = planned.reduce<number>((sum, seconds) => sum + (seconds ?? 0), 0);
    const slower = (this.#clock() - this.#start) / 1000 / this.#built;
    return { done, secondsLeft: left * slower };
  }
}
