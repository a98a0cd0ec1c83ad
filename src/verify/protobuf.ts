/**
 * Reading protobuf's wire format by ranges; knows nothing of ONNX. Written apart from the encoder that writes our files,
 * so that a mistake there can't be hidden by the same mistake here.
 *
 * Nothing recurses: who reads a message says what is a message inside it. Groups (deprecated) are refused.
 *
 * @see https://protobuf.dev/programming-guides/encoding/
 */
import type { ByteSource } from '../bytes.js';
import { FormatError } from '../errors.js';

/** 0 varint, 1 eight bytes, 2 length-delimited, 5 four bytes. */
export type WireType = 0 | 1 | 2 | 5;

export interface Field {
  readonly number: number;
  readonly wire: WireType;
  /** content `[start, end)`, offsets in the file (length prefix left out) */
  readonly start: number;
  readonly end: number;
  /** of a varint: unsigned 64 bit */
  readonly value: bigint;
}

/** A message that lies in memory. */
export interface Message {
  readonly bytes: Uint8Array;
  /** offset of `bytes[0]` in the file, for error messages */
  readonly offset: number;
  readonly file: string;
}

/** A key has at most 5 bytes, a length or a varint at most 10. */
const HEAD_BYTES = 20;
const WINDOW_BYTES = 64 * 1024;
const NO_VALUE = 0n;

export function wireError(file: string, offset: number, problem: string): FormatError {
  return new FormatError(
    `${file} is not a valid ONNX file: at byte ${offset.toLocaleString('en-US')} ${problem}`,
    {
      next: 'The file is damaged, cut off, or something else than ONNX.',
    },
  );
}

/**
 * Parse one field's head.
 *
 * @param bytes  holds the head from `at` on, unless the message ends before
 * @param offset of `bytes[0]` in the file
 * @param end    of the enclosing message, offset in the file
 */
function readField(file: string, bytes: Uint8Array, at: number, offset: number, end: number): Field {
  const room = Math.min(bytes.length, end - offset);
  const begin = offset + at;
  const key = readVarint(file, bytes, at, room, offset);
  // Field numbers end at 2^29 - 1, so a key fits 32 bits.
  if (key.high !== 0 || key.low >= 2 ** 32) throw wireError(file, begin, 'is a field key beyond 32 bits');
  const number = Math.floor(key.low / 8);
  const wire = key.low % 8;
  if (number === 0) throw wireError(file, begin, 'is field number 0, which protobuf does not have');
  switch (wire) {
    case 0: {
      const { low, high, next } = readVarint(file, bytes, key.next, room, offset);
      const value = high === 0 ? BigInt(low) : BigInt(low) + (BigInt(high) << 49n);
      return { number, wire, start: offset + key.next, end: offset + next, value };
    }
    case 1:
    case 5: {
      const start = offset + key.next;
      const width = wire === 1 ? 8 : 4;
      if (start + width > end) throw wireError(file, begin, `a field of ${width} bytes leaves its message`);
      return { number, wire, start, end: start + width, value: NO_VALUE };
    }
    case 2: {
      const length = readVarint(file, bytes, key.next, room, offset);
      const start = offset + length.next;
      if (length.high !== 0 || length.low > end - start) {
        throw wireError(
          file,
          begin,
          `field ${number} is longer than what encloses it (${end - start} bytes are left)`,
        );
      }
      return { number, wire, start, end: start + length.low, value: NO_VALUE };
    }
    default:
      throw wireError(file, begin, `is wire type ${wire}, which ONNX does not use`);
  }
}

/** `low` holds the first 49 bits, `high` the other 15: doubles, exact. */
function readVarint(
  file: string,
  bytes: Uint8Array,
  at: number,
  room: number,
  offset: number,
): { low: number; high: number; next: number } {
  let low = 0;
  let high = 0;
  for (let i = 0; i < 10; i++) {
    if (at + i >= room) throw wireError(file, offset + at, 'a number is cut off');
    const byte = bytes[at + i];
    if (i === 9 && byte > 1) break;
    if (i < 7) low += (byte % 128) * 2 ** (7 * i);
    else high += (byte % 128) * 2 ** (7 * (i - 7));
    if (byte < 128) return { low, high, next: at + i + 1 };
  }
  throw wireError(file, offset + at, 'a number has more than 64 bits');
}

/** The fields of a message in memory, in order. */
export function* fieldsOf({ bytes, offset, file }: Message): Generator<Field> {
  const end = offset + bytes.length;
  for (let at = 0; at < bytes.length;) {
    const field = readField(file, bytes, at, offset, end);
    yield field;
    at = field.end - offset;
  }
}

/** A field's content, still in the memory of its message. */
export function contentOf(message: Message, field: Field): Message {
  const { offset, file } = message;
  return {
    bytes: message.bytes.subarray(field.start - offset, field.end - offset),
    offset: field.start,
    file,
  };
}

/** Varints one after the other (a packed repeated field). */
export function* varintsOf({ bytes, offset, file }: Message): Generator<bigint> {
  for (let at = 0; at < bytes.length;) {
    const { low, high, next } = readVarint(file, bytes, at, bytes.length, offset);
    yield high === 0 ? BigInt(low) : BigInt(low) + (BigInt(high) << 49n);
    at = next;
  }
}

/** Walks messages in a file without reading what the caller does not ask for. Holds 64 KiB. */
export class WireReader {
  readonly file: string;
  readonly #source: ByteSource;
  #window: Uint8Array = new Uint8Array(0);
  #start = 0;

  constructor(source: ByteSource, file: string) {
    this.#source = source;
    this.file = file;
  }

  /** The fields of the message `[start, end)`. Contents are not read. */
  async *fields(start: number, end: number): AsyncGenerator<Field> {
    for (let at = start; at < end;) {
      const headEnd = Math.min(at + HEAD_BYTES, end);
      if (at < this.#start || headEnd > this.#start + this.#window.length) await this.#moveTo(at);
      const field = readField(this.file, this.#window, at - this.#start, this.#start, end);
      yield field;
      at = field.end;
    }
  }

  /** The content of a length-delimited field, in fresh memory. The caller has checked its size. */
  async message({ start, end }: Pick<Field, 'start' | 'end'>): Promise<Message> {
    const inside = start >= this.#start && end <= this.#start + this.#window.length;
    const bytes = inside
      ? this.#window.slice(start - this.#start, end - this.#start)
      : await this.#source.read(start, end);
    return { bytes, offset: start, file: this.file };
  }

  async #moveTo(at: number): Promise<void> {
    this.#window = await this.#source.read(at, Math.min(at + WINDOW_BYTES, this.#source.size));
    this.#start = at;
  }
}
