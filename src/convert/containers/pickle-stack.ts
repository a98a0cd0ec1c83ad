/**
 * The stack and the memo of a pickle machine: never below a mark, never beyond a bounded number of values.
 */
import { counted, grouped } from '../checkpoint.js';
import type { PickleBytes } from './pickle-bytes.js';
import { PyDict, PyList, PySet, type Value } from './pickle-values.js';

/** A BEiT-large with its optimizer makes fewer than 200,000. */
const MAX_VALUES = 1_000_000;
/** An empty one takes several times the memory of a number. */
const CONTAINER_COST = 4;

export class PickleStack {
  readonly #values: Value[] = [];
  /** heights at which a MARK stands */
  readonly #marks: number[] = [];
  readonly #memo = new Map<number, Value>();
  readonly #in: PickleBytes;
  #cost = 0;

  constructor(source: PickleBytes) {
    this.#in = source;
  }

  get height(): number {
    return this.#values.length;
  }

  get marks(): number {
    return this.#marks.length;
  }

  get #floor(): number {
    return this.#marks.at(-1) ?? 0;
  }

  /** @throws FormatError when a pickle asks for more than any checkpoint holds */
  charge(cost = 1): void {
    this.#cost += cost;
    if (this.#cost > MAX_VALUES) throw this.#in.error(`more than ${grouped(MAX_VALUES)} values`);
  }

  push(value: Value): void {
    const container = value instanceof PyDict || value instanceof PyList || value instanceof PySet;
    this.charge(container ? CONTAINER_COST : 1);
    this.#values.push(value);
  }

  mark(): void {
    this.charge();
    this.#marks.push(this.#values.length);
  }

  pop(): Value {
    return this.popMany(1)[0];
  }

  popMany(count: number): Value[] {
    const available = this.#values.length - this.#floor;
    if (available < count) {
      throw this.#in.error(
        `${counted(available, 'value')} on the stack where ${count} ${count === 1 ? 'is' : 'are'} needed`,
      );
    }
    return this.#values.splice(this.#values.length - count);
  }

  /** POP: as in Python, a mark on top is what is popped. */
  drop(): void {
    if (this.#marks.length > 0 && this.#floor === this.#values.length) this.#marks.pop();
    else this.pop();
  }

  sinceMark(): Value[] {
    const height = this.#marks.pop();
    if (height === undefined) throw this.#in.error('no MARK on the stack');
    return this.#values.splice(height);
  }

  /** The value that an opcode works on, left where it is. */
  top(opcode: string): Value {
    if (this.#values.length <= this.#floor) throw this.#in.error(`${opcode} with nothing on the stack`);
    return this.#values[this.#values.length - 1];
  }

  remember(index: number): void {
    this.charge();
    this.#memo.set(index, this.top('PUT'));
  }

  memoize(): void {
    this.remember(this.#memo.size);
  }

  recall(index: number): void {
    const value = this.#memo.get(index);
    if (value === undefined) throw this.#in.error(`memo ${grouped(index)} is read before it is written`);
    this.push(value);
  }
}
