/**
 * A pickle machine that calls nothing. It builds plain data; of classes and functions it knows a closed table
 * (`pickle-globals.ts`), and what is not in it stays an inert placeholder.
 *
 * There is no recursion and no look-up in objects; lengths, memo, stack and the number of values are bounded.
 *
 * @see CPython `Lib/pickle.py` (`_Unpickler`), `Lib/pickletools.py`
 */
import type { FormatError } from '../../errors.js';
import { counted } from '../checkpoint.js';
import { PickleBytes } from './pickle-bytes.js';
import { readLiteral } from './pickle-literal.js';
import { OP, REFUSED_OPCODES, opcodeName } from './pickle-opcodes.js';
import { describeValue, kindOf } from './pickle-print.js';
import { PickleStack } from './pickle-stack.js';
import {
  GlobalRef,
  Inert,
  PyDict,
  PyList,
  PySet,
  PyTuple,
  TensorValue,
  type Value,
} from './pickle-values.js';

export interface PickleOptions {
  /** what is read, for messages: `model.pth: model/data.pkl` */
  readonly subject: string;
  /** position of the pickle's first byte, for messages; 0 by default */
  readonly base?: number;
  /** the class or function of this name: from a closed table, or without a builder */
  findGlobal(module: string, name: string): Value;
  /** what a persistent id stands for; absent: there are none */
  persistent?(id: Value, at: number, fail: (what: string) => FormatError): Value;
}

/**
 * Read one pickle.
 *
 * @param bytes from its first byte on; what follows it is not looked at
 * @returns the value, and the number of bytes up to and with STOP
 * @throws FormatError with the byte offset; PickleCut if the bytes end too early
 */
export function readPickle(bytes: Uint8Array, options: PickleOptions): { value: Value; end: number } {
  return new Machine(bytes, options).run();
}

class Machine {
  readonly #in: PickleBytes;
  readonly #options: PickleOptions;
  readonly #stack: PickleStack;

  constructor(bytes: Uint8Array, options: PickleOptions) {
    this.#in = new PickleBytes(bytes, options.subject, options.base ?? 0);
    this.#stack = new PickleStack(this.#in);
    this.#options = options;
  }

  run(): { value: Value; end: number } {
    const source = this.#in;
    const first = source.opcode();
    if (first !== OP.PROTO) {
      throw source.error(`${opcodeName(first)} where a pickle of protocol 2 to 5 starts with PROTO`);
    }
    this.#proto();
    for (;;) {
      const code = source.opcode();
      if (code === OP.STOP) break;
      this.#step(code);
    }
    const value = this.#stack.pop();
    const { height, marks } = this.#stack;
    if (height + marks > 0) {
      throw source.error(
        `STOP with ${counted(height + 1, 'value')} and ${counted(marks, 'mark')} on the stack`,
      );
    }
    return { value, end: source.at };
  }

  #proto(): void {
    const protocol = this.#in.u8();
    if (protocol < 2 || protocol > 5) {
      throw this.#in.error(`pickle protocol ${protocol}; protocols 2 to 5 are read,`);
    }
  }

  #step(code: number): void {
    const source = this.#in;
    const stack = this.#stack;
    const literal = readLiteral(code, source);
    if (literal !== undefined) return stack.push(literal);
    switch (code) {
      case OP.PROTO:
        return this.#proto();
      case OP.FRAME: {
        const length = source.u64();
        source.bytes(length, 'a frame');
        source.at -= length;
        return;
      }
      case OP.MARK:
        return stack.mark();
      case OP.POP:
        return stack.drop();
      case OP.POP_MARK:
        stack.sinceMark();
        return;
      case OP.EMPTY_LIST:
        return stack.push(new PyList());
      case OP.EMPTY_DICT:
        return stack.push(new PyDict());
      case OP.EMPTY_SET:
        return stack.push(new PySet([], 'set'));
      case OP.EMPTY_TUPLE:
        return stack.push(new PyTuple([]));
      case OP.TUPLE1:
      case OP.TUPLE2:
      case OP.TUPLE3:
        return stack.push(new PyTuple(stack.popMany(code - OP.TUPLE1 + 1)));
      case OP.TUPLE:
        return stack.push(new PyTuple(stack.sinceMark()));
      case OP.FROZENSET:
        return stack.push(new PySet(stack.sinceMark(), 'frozenset'));
      case OP.APPEND:
        return this.#append('APPEND', [stack.pop()]);
      case OP.APPENDS:
        return this.#append('APPENDS', stack.sinceMark());
      case OP.ADDITEMS:
        return this.#append('ADDITEMS', stack.sinceMark());
      case OP.SETITEM:
        return this.#setItems('SETITEM', stack.popMany(2));
      case OP.SETITEMS:
        return this.#setItems('SETITEMS', stack.sinceMark());
      case OP.BINPUT:
        return stack.remember(source.u8());
      case OP.LONG_BINPUT:
        return stack.remember(source.u32());
      case OP.MEMOIZE:
        return stack.memoize();
      case OP.BINGET:
        return stack.recall(source.u8());
      case OP.LONG_BINGET:
        return stack.recall(source.u32());
      case OP.GLOBAL: {
        const module = source.line();
        return stack.push(this.#options.findGlobal(module, source.line()));
      }
      case OP.STACK_GLOBAL: {
        const [module, name] = stack.popMany(2);
        if (typeof module !== 'string' || typeof name !== 'string') {
          throw source.error(`STACK_GLOBAL names ${kindOf(module)} and ${kindOf(name)}, not two strings,`);
        }
        return stack.push(this.#options.findGlobal(module, name));
      }
      case OP.REDUCE: {
        const [callee, args] = stack.popMany(2);
        return stack.push(this.#make(callee, args, 'call'));
      }
      case OP.NEWOBJ: {
        const [callee, args] = stack.popMany(2);
        return stack.push(this.#make(callee, args, 'object'));
      }
      case OP.NEWOBJ_EX: {
        const [callee, args, named] = stack.popMany(3);
        if (!(named instanceof PyDict)) throw source.error(`NEWOBJ_EX with ${kindOf(named)} for a dict`);
        const made = this.#make(named.entries.size === 0 ? callee : unknown(callee), args, 'object');
        stack.charge(named.entries.size);
        if (made instanceof Inert) for (const entry of named.entries) made.entries.push(entry);
        return stack.push(made);
      }
      case OP.BUILD:
        return this.#build(stack.pop());
      case OP.BINPERSID:
        return this.#persistent(stack.pop());
      default: {
        const refused = REFUSED_OPCODES.get(code);
        throw source.error(refused ? `${refused[0]} is not read (${refused[1]})` : opcodeName(code));
      }
    }
  }

  #append(opcode: string, items: readonly Value[]): void {
    const target = this.#stack.top(opcode);
    const fits =
      opcode === 'ADDITEMS' ? target instanceof PySet && target.type === 'set' : target instanceof PyList;
    if (!fits && !(target instanceof Inert)) throw this.#in.error(`${opcode} to ${kindOf(target)}`);
    for (const item of items) (target as PyList).items.push(item);
  }

  #setItems(opcode: string, flat: readonly Value[]): void {
    const target = this.#stack.top(opcode);
    if (flat.length % 2 !== 0) throw this.#in.error(`${opcode} with a key but no value`);
    if (!(target instanceof PyDict || target instanceof Inert))
      throw this.#in.error(`${opcode} to ${kindOf(target)}`);
    for (let i = 0; i < flat.length; i += 2) {
      if (target instanceof Inert) target.entries.push([flat[i], flat[i + 1]]);
      else this.#setItem(target, flat[i], flat[i + 1]);
    }
  }

  /** A dict that Python wrote has every key once; the last of two would win there, and hide the first. */
  #setItem(dict: PyDict, key: Value, value: Value): void {
    if (dict.entries.has(key)) throw this.#in.error(`a dict gets the key ${describeValue(key)} twice`);
    dict.entries.set(key, value);
  }

  #make(callee: Value, args: Value, how: 'call' | 'object'): Value {
    if (!(callee instanceof GlobalRef || callee instanceof Inert)) {
      throw this.#in.error(`${kindOf(callee)} is called`);
    }
    if (!(args instanceof PyTuple)) throw this.#in.error(`a call with ${kindOf(args)} for a tuple`);
    const at = this.#in.opAt;
    const built =
      callee instanceof GlobalRef
        ? callee.build?.(args.items, at, (values) => this.#stack.charge(values))
        : undefined;
    return built === undefined ? new Inert(callee, args.items, how, at) : built;
  }

  #build(state: Value): void {
    const target = this.#stack.top('BUILD');
    if (target instanceof Inert) {
      target.state = state;
    } else if (target instanceof TensorValue) {
      target.problem = 'its state is replaced after it was made';
    } else if (!(target instanceof PyDict)) {
      throw this.#in.error(`BUILD on ${kindOf(target)}`);
    }
    // A dict's state are attributes (`_metadata` of a state dict), never its items.
  }

  #persistent(id: Value): void {
    const { persistent } = this.#options;
    if (!persistent) throw this.#in.error('a persistent id where none can be');
    this.#stack.push(persistent(id, this.#in.opAt, (what) => this.#in.error(what)));
  }
}

/** The same name without a builder: keyword arguments are not followed. */
function unknown(callee: Value): Value {
  return callee instanceof GlobalRef ? new GlobalRef(callee.path) : callee;
}
