/**
 * Pickles from lines of text: one opcode each, by its name in CPython's `Lib/pickletools.py`, with its operand.
 *
 * `STR model`, `INT 5`, `KEY`, `TENSOR` and `DICT` are short for what PyTorch writes for such a value.
 */
import { OP } from '../../src/convert/containers/pickle-opcodes.js';

const CODES: ReadonlyMap<string, number> = new Map([
  ...Object.entries(OP),
  ['DUP', 0x32],
  ['FLOAT', 0x46],
  ['INST', 0x69],
  ['EXT1', 0x82],
  ['NEXT_BUFFER', 0x97],
]);

/** Bytes of the operand that follows an opcode. */
const OPERANDS: ReadonlyMap<string, (operand: string) => Buffer> = new Map([
  ['PROTO', (operand) => sized(Number(operand), 1)],
  ['BININT', (operand) => signed(Number(operand))],
  ['BININT1', (operand) => sized(Number(operand), 1)],
  ['BININT2', (operand) => sized(Number(operand), 2)],
  ['BINFLOAT', (operand) => float(Number(operand))],
  ['BINPUT', (operand) => sized(Number(operand), 1)],
  ['BINGET', (operand) => sized(Number(operand), 1)],
  ['LONG_BINPUT', (operand) => sized(Number(operand), 4)],
  ['LONG_BINGET', (operand) => sized(Number(operand), 4)],
  ['FRAME', (operand) => wide(BigInt(operand))],
  ['LONG1', (operand) => prefixed(Buffer.from(operand, 'hex'), 1)],
  ['LONG4', (operand) => prefixed(Buffer.from(operand, 'hex'), 4)],
  ['SHORT_BINUNICODE', (operand) => prefixed(Buffer.from(operand), 1)],
  ['BINUNICODE', (operand) => prefixed(Buffer.from(operand), 4)],
  ['SHORT_BINBYTES', (operand) => prefixed(Buffer.from(operand), 1)],
  ['BINSTRING', (operand) => prefixed(Buffer.from(operand), 4)],
  ['EXT1', (operand) => sized(Number(operand), 1)],
  ['GLOBAL', (operand) => Buffer.from(`${operand.split(' ').join('\n')}\n`)],
]);

function sized(value: number, bytes: number): Buffer {
  const out = Buffer.alloc(bytes);
  out.writeUIntLE(value, 0, bytes);
  return out;
}

function signed(value: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeInt32LE(value);
  return out;
}

function wide(value: bigint): Buffer {
  const out = Buffer.alloc(8);
  out.writeBigUInt64LE(value);
  return out;
}

function float(value: number): Buffer {
  const out = Buffer.alloc(8);
  out.writeDoubleBE(value);
  return out;
}

const prefixed = (bytes: Buffer, width: number): Buffer => Buffer.concat([sized(bytes.length, width), bytes]);

/** `TENSOR name key class length offset 2,3 3,1`: name and tensor, as an item of a dict. */
export function tensorLines(
  name: string,
  key: string,
  type: string,
  length: number,
  shape: readonly number[],
  strides: readonly number[] = rowMajor(shape),
  offset = 0,
): string[] {
  const tuple = (numbers: readonly number[]): string[] => [
    'MARK',
    ...numbers.map((n) => `INT ${n}`),
    'TUPLE',
  ];
  return [
    `STR ${name}`,
    'GLOBAL torch._utils _rebuild_tensor_v2',
    'MARK',
    ...['MARK', 'STR storage', `GLOBAL torch ${type}`, `STR ${key}`, 'STR cpu', `INT ${length}`],
    ...['TUPLE', 'BINPERSID', `INT ${offset}`, ...tuple(shape), ...tuple(strides)],
    ...['NEWFALSE', 'GLOBAL collections OrderedDict', 'EMPTY_TUPLE', 'REDUCE', 'TUPLE', 'REDUCE'],
  ];
}

export function rowMajor(shape: readonly number[]): number[] {
  return shape.map((_, i) => shape.slice(i + 1).reduce((product, side) => product * side, 1));
}

/** What a line is short for; the line itself when it is an opcode. */
function expand(line: string): string[] {
  const [op, ...operands] = line.split(' ');
  const numbers = (text: string): number[] => (text === '-' ? [] : text.split(',').map(Number));
  if (op === 'STR') return [`BINUNICODE ${line.slice(4)}`];
  if (op === 'INT') {
    const value = Number(operands[0]);
    if (Number.isInteger(value) && value >= 0 && value < 256) return [`BININT1 ${value}`];
    if (Math.abs(value) < 2 ** 31) return [`BININT ${value}`];
    const bytes = Buffer.alloc(9);
    bytes.writeBigInt64LE(BigInt(operands[0]));
    return [`LONG1 ${bytes.toString('hex')}`];
  }
  if (op === 'TENSOR') {
    const [name, key, type, length, offset, shape, strides] = operands;
    return tensorLines(name, key, type, Number(length), numbers(shape), numbers(strides), Number(offset));
  }
  return [line];
}

/** `REPEAT 3 NONE` is `NONE` three times; `HEX 80ff` is these bytes. */
export function assemble(lines: readonly string[]): Buffer {
  const out: Buffer[] = [];
  for (const line of lines) {
    const [op, first] = line.split(' ');
    if (op === 'HEX') {
      out.push(Buffer.from(line.slice(4), 'hex'));
      continue;
    }
    if (op === 'REPEAT') {
      const piece = assemble(line.slice(`REPEAT ${first} `.length).split('; '));
      out.push(Buffer.alloc(piece.length * Number(first), piece));
      continue;
    }
    const expanded = expand(line);
    if (expanded.length > 1 || expanded[0] !== line) {
      out.push(assemble(expanded));
      continue;
    }
    const code = CODES.get(op);
    if (code === undefined) throw new Error(`no opcode ${op}`);
    const operand = OPERANDS.get(op);
    out.push(Buffer.from([code]), operand ? operand(line.slice(op.length + 1)) : Buffer.alloc(0));
  }
  return Buffer.concat(out);
}
