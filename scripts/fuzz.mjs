/**
 * Hostile input until the time is over: `npm run fuzz -- --seconds 30 [--target pickle] [--seed 1]`.
 *
 * Golden files are mutated (bytes, lengths, pieces moved, cut and repeated), opened through `dist/`, and all tensors
 * read. A case fails when something else than one of the package's own errors is thrown, when it takes longer than
 * SLOWEST_MS, or when the heap grows beyond MOST_HEAP_BYTES. A case is a function of seed and number alone:
 * `--seed S --case N` repeats it.
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { brotliDecompressSync, crc32, deflateRawSync } from 'node:zlib';
import { memorySource } from '../dist/bytes.js';
import { openSource } from '../dist/convert/open.js';
import { findGlobal } from '../dist/convert/containers/pickle-globals.js';
import { describeValue, listInert } from '../dist/convert/containers/pickle-print.js';
import { readPickle } from '../dist/convert/containers/pickle.js';
import { readTorchPickle } from '../dist/convert/containers/torch-pickle.js';
import { readZipDirectory } from '../dist/convert/containers/zip-directory.js';
import { ConvertBeitError } from '../dist/errors.js';

const SLOWEST_MS = 3000;
const MOST_HEAP_BYTES = 512 * 1024 * 1024;

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '30' },
    target: { type: 'string' },
    seed: { type: 'string' },
    case: { type: 'string' },
  },
});
const seed = values.seed === undefined ? Date.now() % 1_000_000_000 : Number(values.seed);

/** Files of the fixtures, as PyTorch and safetensors wrote them. */
function goldens() {
  const packed = brotliDecompressSync(readFileSync(new URL('../fixtures/pth.br', import.meta.url)));
  const line = packed.indexOf('\n');
  const files = new Map();
  let at = line + 1;
  for (const [name, size] of JSON.parse(packed.toString('utf8', 0, line))) {
    files.set(name, packed.subarray(at, (at += size)));
  }
  return files;
}

const files = [...goldens()];
const named = (test) => files.filter(([name]) => test(name)).map(([, bytes]) => bytes);
const zips = named((name) => name.startsWith('zip_') && name.endsWith('.pth'));

/** The first record of a golden zip, `data.pkl`: where it lies, and where the directory has its entry. */
function firstRecord(zip) {
  const entry = zip.readUInt32LE(zip.lastIndexOf('PK\u0005\u0006', undefined, 'latin1') + 16);
  const start = 30 + zip.readUInt16LE(26) + zip.readUInt16LE(28);
  return { entry, start, size: zip.readUInt32LE(entry + 24) };
}

function pickleOf(zip) {
  const { start, size } = firstRecord(zip);
  return zip.subarray(start, start + size);
}

/** The same zip with every record deflated: PyTorch never writes one, repacking tools do. */
function deflated(zip) {
  const parts = [];
  const central = [];
  let at = 0;
  const end = zip.lastIndexOf('PK\u0005\u0006', undefined, 'latin1');
  for (let entry = zip.readUInt32LE(end + 16); zip.readUInt32LE(entry) === 0x02014b50;) {
    const name = zip.subarray(entry + 46, entry + 46 + zip.readUInt16LE(entry + 28));
    const local = zip.readUInt32LE(entry + 42);
    const start = local + 30 + zip.readUInt16LE(local + 26) + zip.readUInt16LE(local + 28);
    const content = zip.subarray(start, start + zip.readUInt32LE(entry + 24));
    const data = deflateRawSync(content);
    const fields = Buffer.alloc(26);
    fields.writeUInt16LE(20, 0);
    fields.writeUInt16LE(8, 4);
    fields.writeUInt32LE(crc32(content), 10);
    fields.writeUInt32LE(data.length, 14);
    fields.writeUInt32LE(content.length, 18);
    fields.writeUInt16LE(name.length, 22);
    const offset = Buffer.alloc(4);
    offset.writeUInt32LE(at);
    parts.push(Buffer.from('PK\u0003\u0004'), fields, name, data);
    central.push(
      Buffer.concat([
        Buffer.from('PK\u0001\u0002'),
        Buffer.from([20, 0]),
        fields,
        Buffer.alloc(10),
        offset,
        name,
      ]),
    );
    at += 30 + name.length + data.length;
    entry += 46 + name.length + zip.readUInt16LE(entry + 30) + zip.readUInt16LE(entry + 32);
  }
  const directory = Buffer.concat(central);
  const last = Buffer.alloc(22);
  last.write('PK\u0005\u0006', 'latin1');
  last.writeUInt16LE(central.length, 8);
  last.writeUInt16LE(central.length, 10);
  last.writeUInt32LE(directory.length, 12);
  last.writeUInt32LE(at, 16);
  return Buffer.concat([...parts, directory, last]);
}

const HEAD = Buffer.from([0x80, 2]);
const OPCODES = Buffer.from(
  '()].012]aebcdehjlqrstu}NKMJGBCXTUQRoi\u0081\u0085\u0086\u0087\u0088\u0089\u008a\u008b\u008c\u008d\u008e\u008f\u0090\u0091\u0092\u0093\u0094\u0095\u0096',
  'latin1',
);

const TARGETS = {
  pickle: { inputs: zips.map(pickleOf), run: runPickle, grammar: true },
  zip: { inputs: [...zips, ...zips.slice(0, 4).map(deflated)], run: runFile, repair: true },
  legacy: { inputs: named((name) => name.startsWith('legacy_')), run: runFile },
  safetensors: { inputs: named((name) => name.endsWith('.safetensors')), run: runFile },
};

/** xorshift32: small, and the same on every machine. */
function random(state) {
  let x = state >>> 0 || 1;
  return (below) => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % below;
  };
}

const LENGTHS = [0, 1, 0x7f, 0x80, 0xff, 0xffff, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff];

/** Where a mutation hurts: anywhere, or near an end, where headers and directories are. */
function place(next, length) {
  const kind = next(4);
  if (kind === 0) return next(length);
  return kind === 1 ? next(Math.min(length, 4096)) : length - 1 - next(Math.min(length, 4096));
}

function mutate(input, next, other) {
  let bytes = Buffer.from(input);
  for (let left = 1 + next(6); left > 0 && bytes.length > 0; left--) {
    const at = place(next, bytes.length);
    switch (next(8)) {
      case 0:
        bytes[at] ^= 1 << next(8);
        break;
      case 1:
        bytes[at] = next(256);
        break;
      case 2:
        if (at + 4 <= bytes.length) bytes.writeUInt32LE(LENGTHS[next(LENGTHS.length)], at);
        break;
      case 3:
        if (at + 8 <= bytes.length) {
          bytes.writeBigUInt64LE((BigInt(next(2 ** 32)) << 32n) + BigInt(next(2 ** 32)), at);
        }
        break;
      case 4:
        bytes = bytes.subarray(0, at);
        break;
      case 5: {
        const piece = bytes.subarray(at, at + 1 + next(64));
        bytes = Buffer.concat([bytes.subarray(0, at), piece, bytes.subarray(at)]);
        break;
      }
      case 6:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + next(16))]);
        break;
      default: {
        const from = next(Math.max(1, other.length));
        bytes = Buffer.concat([
          bytes.subarray(0, at),
          other.subarray(from, from + next(200)),
          bytes.subarray(at),
        ]);
      }
    }
  }
  return bytes;
}

/** Opcodes drawn at random, with operands as they come. */
function drawn(next, input) {
  const parts = [HEAD];
  for (let left = 1 + next(400); left > 0; left--) {
    const kind = next(10);
    if (kind === 0) {
      const module = ['torch', 'collections', 'os', 'builtins'][next(4)];
      const name = ['OrderedDict', 'FloatStorage', 'system', 'list', 'dict', 'set'][next(6)];
      parts.push(Buffer.from(`c${module}\n${name}\n`));
    } else if (kind === 1) parts.push(Buffer.from([0x68, next(8)]));
    else if (kind === 2) parts.push(Buffer.from([0x71, next(8)]));
    else if (kind === 3) {
      const from = next(input.length);
      parts.push(input.subarray(from, from + next(40)));
    } else parts.push(Buffer.from([OPCODES[next(OPCODES.length)]]));
  }
  return Buffer.concat(parts);
}

/** A zip whose pickle is mutated where it lies, with the right checksum: else the checksum finds all of it. */
function pickleMutated(input, next) {
  const bytes = Buffer.from(input);
  const { entry, start, size } = firstRecord(bytes);
  for (let left = 1 + next(4); left > 0; left--) {
    const at = start + next(size);
    if (next(2) === 0) bytes[at] ^= 1 << next(8);
    else bytes[at] = next(3) === 0 ? OPCODES[next(OPCODES.length)] : next(256);
  }
  const crc = crc32(bytes.subarray(start, start + size));
  // 0 where it stands behind the data instead.
  if (bytes.readUInt32LE(14) !== 0) bytes.writeUInt32LE(crc, 14);
  bytes.writeUInt32LE(crc, entry + 16);
  return bytes;
}

async function runPickle(bytes) {
  const { value } =
    bytes.length % 4 === 0
      ? readPickle(bytes, { subject: 'fuzz', findGlobal })
      : readTorchPickle(bytes, 'fuzz');
  listInert(value);
  describeValue(value);
}

async function runFile(bytes) {
  const source = memorySource('fuzz.pth', bytes);
  if (bytes[0] === 0x50) await readZipDirectory(source);
  const checkpoint = await openSource(source, () => Promise.reject(new ConvertBeitError('no siblings')));
  for (const tensor of checkpoint.tensors.values()) {
    for await (const chunk of tensor.chunks()) if (chunk.length === 0) throw new Error('an empty chunk');
  }
}

/** @returns what went wrong, `undefined` when nothing did */
async function runCase(target, number) {
  const { inputs, run, grammar, repair } = TARGETS[target];
  const next = random((seed * 2654435761 + number * 40503 + target.length * 7919) % 2 ** 32);
  for (let warm = 0; warm < 8; warm++) next(2);
  const input = inputs[next(inputs.length)];
  const stored = repair && input.readUInt16LE(8) === 0;
  const bytes =
    grammar && next(3) === 0
      ? drawn(next, input)
      : stored && next(2) === 0
        ? pickleMutated(input, next)
        : mutate(input, next, inputs[next(inputs.length)]);
  const start = performance.now();
  let outcome = 'read';
  try {
    await run(bytes);
  } catch (error) {
    if (!(error instanceof ConvertBeitError)) return { failure: error?.stack ?? String(error) };
    outcome = 'refused';
  }
  const took = performance.now() - start;
  if (took > SLOWEST_MS) return { failure: `took ${took.toFixed(0)} ms` };
  const heap = process.memoryUsage();
  if (heap.heapUsed + heap.arrayBuffers > MOST_HEAP_BYTES) {
    return { failure: `${Math.round((heap.heapUsed + heap.arrayBuffers) / 1e6)} MB are in use` };
  }
  return { outcome };
}

const targets = values.target === undefined ? Object.keys(TARGETS) : [values.target];
if (targets.some((target) => !(target in TARGETS))) {
  console.error(`--target is one of ${Object.keys(TARGETS).join(', ')}`);
  process.exit(2);
}
const began = performance.now();
let failed = false;
for (const [i, target] of targets.entries()) {
  const until = ((i + 1) * Number(values.seconds) * 1000) / targets.length;
  const counts = { read: 0, refused: 0 };
  const start = performance.now();
  let number = Number(values.case ?? 0);
  for (;;) {
    const { failure, outcome } = await runCase(target, number);
    if (failure !== undefined) {
      failed = true;
      console.error(
        `${target}: ${failure}\nrepeat: npm run fuzz -- --target ${target} --seed ${seed} --case ${number}`,
      );
      break;
    }
    counts[outcome] += 1;
    number += 1;
    if (values.case !== undefined || performance.now() - began > until) break;
  }
  const seconds = (performance.now() - start) / 1000;
  const total = counts.read + counts.refused;
  console.log(
    `${target}: ${total} cases in ${seconds.toFixed(1)} s (${Math.round(total / seconds)}/s), ${counts.read} read, ${counts.refused} refused, seed ${seed}`,
  );
}
process.exit(failed ? 1 : 0);
