/**
 * Opcodes that push a value of their own: numbers, text, bytes.
 */
import type { PickleBytes } from './pickle-bytes.js';
import { OP } from './pickle-opcodes.js';
import { PyFloat, type Value } from './pickle-values.js';

/** The value of a literal, `undefined` for every other opcode. */
export function readLiteral(code: number, source: PickleBytes): Value | undefined {
  switch (code) {
    case OP.NONE:
      return null;
    case OP.NEWTRUE:
      return true;
    case OP.NEWFALSE:
      return false;
    case OP.BININT:
      return source.i32();
    case OP.BININT1:
      return source.u8();
    case OP.BININT2:
      return source.u16();
    case OP.LONG1:
      return source.long(source.u8());
    case OP.LONG4:
      return source.long(source.i32());
    case OP.BINFLOAT:
      return new PyFloat(source.f64());
    case OP.SHORT_BINUNICODE:
      return source.text(source.u8());
    case OP.BINUNICODE:
      return source.text(source.u32());
    case OP.BINUNICODE8:
      return source.text(source.u64());
    case OP.SHORT_BINSTRING:
      return source.oldText(source.u8());
    case OP.BINSTRING:
      return source.oldText(source.u32());
    case OP.SHORT_BINBYTES:
      return source.bytes(source.u8());
    case OP.BINBYTES:
      return source.bytes(source.u32());
    case OP.BINBYTES8:
    case OP.BYTEARRAY8:
      return source.bytes(source.u64());
    default:
      return undefined;
  }
}
