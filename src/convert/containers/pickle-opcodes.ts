/**
 * Opcodes of the pickle machine, protocols 2 to 5.
 *
 * @see CPython `Lib/pickletools.py` (`opcodes`)
 */

/** What the machine does for each opcode it knows. */
export const OP = {
  MARK: 0x28,
  EMPTY_TUPLE: 0x29,
  STOP: 0x2e,
  POP: 0x30,
  POP_MARK: 0x31,
  BINBYTES: 0x42,
  SHORT_BINBYTES: 0x43,
  BINFLOAT: 0x47,
  BININT: 0x4a,
  BININT1: 0x4b,
  BININT2: 0x4d,
  NONE: 0x4e,
  BINPERSID: 0x51,
  REDUCE: 0x52,
  BINSTRING: 0x54,
  SHORT_BINSTRING: 0x55,
  BINUNICODE: 0x58,
  EMPTY_LIST: 0x5d,
  APPEND: 0x61,
  BUILD: 0x62,
  GLOBAL: 0x63,
  APPENDS: 0x65,
  BINGET: 0x68,
  LONG_BINGET: 0x6a,
  BINPUT: 0x71,
  LONG_BINPUT: 0x72,
  SETITEM: 0x73,
  TUPLE: 0x74,
  SETITEMS: 0x75,
  EMPTY_DICT: 0x7d,
  PROTO: 0x80,
  NEWOBJ: 0x81,
  TUPLE1: 0x85,
  TUPLE2: 0x86,
  TUPLE3: 0x87,
  NEWTRUE: 0x88,
  NEWFALSE: 0x89,
  LONG1: 0x8a,
  LONG4: 0x8b,
  SHORT_BINUNICODE: 0x8c,
  BINUNICODE8: 0x8d,
  BINBYTES8: 0x8e,
  EMPTY_SET: 0x8f,
  ADDITEMS: 0x90,
  FROZENSET: 0x91,
  NEWOBJ_EX: 0x92,
  STACK_GLOBAL: 0x93,
  MEMOIZE: 0x94,
  FRAME: 0x95,
  BYTEARRAY8: 0x96,
} as const;

const OLD = 'only protocols 0 and 1 use it, and no checkpoint is written with them';
const EXTENSION = "it looks up a registry of the writer's program";
const BUFFER = 'it needs data outside of the file';

/** Opcodes that exist and are refused, with the reason. */
export const REFUSED_OPCODES: ReadonlyMap<number, readonly [name: string, why: string]> = new Map([
  [0x32, ['DUP', OLD]],
  [0x46, ['FLOAT', OLD]],
  [0x49, ['INT', OLD]],
  [0x4c, ['LONG', OLD]],
  [0x50, ['PERSID', OLD]],
  [0x53, ['STRING', OLD]],
  [0x56, ['UNICODE', OLD]],
  [0x64, ['DICT', OLD]],
  [0x67, ['GET', OLD]],
  [0x69, ['INST', OLD]],
  [0x6c, ['LIST', OLD]],
  [0x6f, ['OBJ', OLD]],
  [0x70, ['PUT', OLD]],
  [0x82, ['EXT1', EXTENSION]],
  [0x83, ['EXT2', EXTENSION]],
  [0x84, ['EXT4', EXTENSION]],
  [0x97, ['NEXT_BUFFER', BUFFER]],
  [0x98, ['READONLY_BUFFER', BUFFER]],
]);

const NAMES: ReadonlyMap<number, string> = new Map(Object.entries(OP).map(([name, code]) => [code, name]));

/** `REDUCE`, or `opcode 0xff`. */
export function opcodeName(code: number): string {
  return (
    NAMES.get(code) ??
    REFUSED_OPCODES.get(code)?.[0] ??
    `the unknown opcode 0x${code.toString(16).padStart(2, '0')}`
  );
}
