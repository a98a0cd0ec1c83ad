/**
 * The operands of a pickle: every length is held against the bytes that are there before anything is made of it.
 */
import { FormatError } from '../../errors.js';
import { counted, grouped } from '../checkpoint.js';

/** The bytes at hand end before the pickle does. More may follow in the file, up to `needed`. */
export class PickleCut extends FormatError {
  /** bytes from the pickle's start that the operation under way takes */
  readonly needed: number;

  constructor(message: string, needed: number) {
    super(message, { next: 'Download or copy it again.' });
    this.name = 'FormatError';
    this.needed = needed;
  }
}

/** An integer of more bytes is no size, no seed, nothing that a checkpoint holds. */
const MAX_LONG_BYTES = 1024;
/** `module` and `name` of a global, each. */
const MAX_NAME_BYTES = 1024;

export class PickleBytes {
  /** of the next byte, from the pickle's start */
  at = 0;
  /** of the opcode that is being read */
  opAt = 0;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #subject: string;
  readonly #base: number;
  readonly #decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

  /**
   * @param bytes   of one pickle, with or without what follows it
   * @param subject what is read, for messages
   * @param base    position of the first byte, for messages
   */
  constructor(bytes: Uint8Array, subject: string, base: number) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#subject = subject;
    this.#base = base;
  }

  /** `subject: what at byte n` */
  error(what: string, at = this.opAt): FormatError {
    return new FormatError(`${this.#subject}: ${what} at byte ${this.#base + at}`);
  }

  #take(length: number, what: string): number {
    const start = this.at;
    if (length > this.#bytes.length - start) {
      const left = this.#bytes.length - start;
      throw new PickleCut(
        `${this.#subject}: ${what} of ${grouped(length)} bytes with ${counted(left, 'byte')} left at byte ${this.#base + this.opAt}`,
        start + length,
      );
    }
    this.at = start + length;
    return start;
  }

  opcode(): number {
    this.opAt = this.at;
    if (this.at >= this.#bytes.length) {
      throw new PickleCut(
        `${this.#subject}: the pickle ends without STOP at byte ${this.#base + this.at}`,
        this.at + 1,
      );
    }
    return this.#bytes[this.at++];
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1, 'an operand'));
  }

  u16(): number {
    return this.#view.getUint16(this.#take(2, 'an operand'), true);
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4, 'an operand'), true);
  }

  i32(): number {
    return this.#view.getInt32(this.#take(4, 'an operand'), true);
  }

  /** A length. As a double it may round beyond 2^53, where every comparison with a real size fails the same. */
  u64(): number {
    const start = this.#take(8, 'an operand');
    return this.#view.getUint32(start + 4, true) * 2 ** 32 + this.#view.getUint32(start, true);
  }

  f64(): number {
    return this.#view.getFloat64(this.#take(8, 'an operand'), false);
  }

  /** A view, no copy. */
  bytes(length: number, what = 'a byte string'): Uint8Array {
    const start = this.#take(length, what);
    return this.#bytes.subarray(start, start + length);
  }

  text(length: number): string {
    const bytes = this.bytes(length, 'a string');
    try {
      return this.#decoder.decode(bytes);
    } catch {
      throw this.error('a string that is not valid UTF-8');
    }
  }

  /** A string of Python 2: text if it can be, bytes otherwise. */
  oldText(length: number): string | Uint8Array {
    const bytes = this.bytes(length, 'a string');
    try {
      return this.#decoder.decode(bytes);
    } catch {
      return bytes;
    }
  }

  /** Up to the line's end. */
  line(): string {
    const most = Math.min(this.#bytes.length, this.at + MAX_NAME_BYTES + 1);
    const end = this.#bytes.subarray(this.at, most).indexOf(0x0a);
    if (end < 0) {
      if (most === this.#bytes.length && most - this.at <= MAX_NAME_BYTES) {
        throw new PickleCut(
          `${this.#subject}: the pickle ends within a name at byte ${this.#base + this.opAt}`,
          most + 1,
        );
      }
      throw this.error(`a name of more than ${grouped(MAX_NAME_BYTES)} bytes`);
    }
    const text = this.text(end);
    this.at += 1;
    return text;
  }

  /** Two's complement, little-endian. */
  long(length: number): number | bigint {
    if (length < 0) throw this.error(`an integer of ${length} bytes`);
    const bytes = this.bytes(length, 'an integer');
    if (length > MAX_LONG_BYTES) throw this.error(`an integer of ${grouped(length)} bytes`);
    let value = 0n;
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]);
    if (length > 0 && bytes[length - 1] >= 0x80) value -= 1n << BigInt(8 * length);
    const number = Number(value);
    return Number.isSafeInteger(number) ? number : value;
  }
}
