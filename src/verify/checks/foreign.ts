/**
 * Files that other tools wrote: names, operators and constants are theirs to choose. What can be asked of them is asked
 * by shape and by value.
 */
import { positionRow } from '../position.js';
import { tokenCount, type BeitConfig } from '../../beit.js';
import { listNames, printable } from '../../errors.js';
import type { BeitModel } from '../../model.js';
import { CHUNK_BYTES, asFloat32, byteLength, readFloat32, type Tensor } from '../../tensor.js';
import { unfused } from '../layers/unfused.js';
import type { OnnxFile, OnnxInitializer } from '../onnx-file.js';
import type { Check } from '../report.js';
import { taskParts, type Task } from '../../task.js';
import { recognise, whatItGives, type Recognised } from './foreign-task.js';
import { approximationFindings, epsilonFindings, flowFindings } from './structure.js';

/** Our own files state it; whoever else writes ONNX states something else. */
export const OWN_PRODUCER = 'convert-beit';

type Origin = Pick<OnnxFile, 'producer' | 'opsets'>;

export function isForeign(file: Origin): boolean {
  return file.producer.name !== OWN_PRODUCER || isSavedAgain(file);
}

/**
 * A session of ONNX Runtime that saves its optimised graph keeps the producer and imports every domain it knows; names
 * and constants are then its own.
 */
function isSavedAgain({ producer, opsets }: Origin): boolean {
  return producer.name === OWN_PRODUCER && opsets.has('ai.onnx.ml');
}

export function checkForeignStructure(
  file: OnnxFile,
  config: BeitConfig,
): { check: Check; recognised?: Recognised } {
  const recognised = recognise(file, config);
  const read = unfused(file);
  const findings = [
    ...(typeof recognised === 'string' ? [recognised] : []),
    ...flowFindings(file),
    ...epsilonFindings(read, config),
    ...approximationFindings(read),
  ];
  const { name, version } = file.producer;
  const by = printable([name || 'another tool', version].join(' ').trim());
  const gives = typeof recognised === 'string' ? '' : whatItGives(recognised);
  const since = isSavedAgain(file) ? ' and saved again by ONNX Runtime' : '';
  const detail = `written by ${by}${since}: ${file.nodes.length} nodes of opset ${file.opsets.get('') ?? 'none'}, ends found by their shapes${gives}`;
  return {
    ...(typeof recognised !== 'string' && { recognised }),
    check: { name: 'structure', passed: findings.length === 0, detail: findings[0] ?? detail, findings },
  };
}

export function foreignInventory(): Check {
  return {
    name: 'inventory',
    passed: true,
    notApplicable: true,
    detail:
      'not applicable: another tool names and folds its tensors as it likes; they are looked for by value',
    findings: [],
  };
}

/** What stays the same when elements are moved: joined and transposed tensors can be told by it. */
interface Fingerprint {
  readonly count: number;
  readonly sum: number;
  readonly mixed: number;
}

const MODULUS = 2 ** 32;

/** Spreads every bit of a word over the whole word: MurmurHash3's `fmix32` (A. Appleby, public domain). */
function mix(word: number): number {
  let h = word | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

const key = ({ count, sum, mixed }: Fingerprint): string => `${count} ${sum} ${mixed}`;

class Prints {
  count = 0;
  #sum = 0;
  #mixed = 0;

  add(bytes: Uint8Array): void {
    const words = wordsOf(bytes);
    for (const word of words) {
      this.#sum += word;
      this.#mixed += mix(word);
    }
    this.count += words.length;
    this.#sum %= MODULUS;
    this.#mixed %= MODULUS;
  }

  get(): Fingerprint {
    return { count: this.count, sum: this.#sum, mixed: this.#mixed };
  }
}

function wordsOf(bytes: Uint8Array): Uint32Array {
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
  return new Uint32Array(aligned.buffer, aligned.byteOffset, aligned.length / 4);
}

function sumOf(parts: readonly Fingerprint[]): Fingerprint {
  return parts.reduce((a, b) => ({
    count: a.count + b.count,
    sum: (a.sum + b.sum) % MODULUS,
    mixed: (a.mixed + b.mixed) % MODULUS,
  }));
}

async function writtenPrint({ stored }: OnnxInitializer, buffer: Buffer): Promise<Fingerprint> {
  const prints = new Prints();
  for (let at = stored.start; at < stored.end; at += CHUNK_BYTES) {
    const part = buffer.subarray(0, Math.min(CHUNK_BYTES, stored.end - at));
    await stored.source.readInto(part, at);
    prints.add(part);
  }
  return prints.get();
}

/** Of a tensor as float32, as a whole and in `parts` equal parts. */
async function sourcePrints(tensor: Tensor, parts: number): Promise<Fingerprint[]> {
  const size = byteLength(asFloat32(tensor)) / parts;
  const prints = Array.from({ length: parts }, () => new Prints());
  let at = 0;
  for await (const chunk of asFloat32(tensor).chunks()) {
    for (let from = 0; from < chunk.length;) {
      const part = Math.floor((at + from) / size);
      const to = Math.min(chunk.length, (part + 1) * size - at);
      prints[part].add(chunk.subarray(from, to));
      from = to;
    }
    at += chunk.length;
  }
  return prints.map((each) => each.get());
}

/** Of a table looked up for every pair of tokens. */
async function expandedPrint(table: Tensor, config: BeitConfig): Promise<Fingerprint> {
  const tokens = tokenCount(config);
  const { heads, window } = config;
  const times = new Float64Array(table.shape[0]);
  for (let q = 0; q < tokens; q++) for (let k = 0; k < tokens; k++) times[positionRow(q, k, window)] += 1;
  const words = wordsOf(new Uint8Array((await readFloat32(table)).buffer));
  let [sum, mixed] = [0, 0];
  words.forEach((word, i) => {
    const repeats = times[Math.floor(i / heads)];
    sum = (sum + word * repeats) % MODULUS;
    mixed = (mixed + mix(word) * repeats) % MODULUS;
  });
  return { count: tokens * tokens * heads, sum, mixed };
}

/**
 * Which of the source's tensors are in the file, whatever they are called there: as they are, reordered (transposed,
 * split), or joined and looked up beforehand. A tensor that is not found is no mistake: it may be folded into another.
 */
export async function checkForeignProvenance(
  file: OnnxFile,
  { config, tensors }: BeitModel,
  task: Task,
  signal?: AbortSignal,
): Promise<Check> {
  const buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  const written = new Set<string>();
  for (const initializer of file.initializers.values()) {
    signal?.throwIfAborted();
    if (initializer.dtype?.name === 'F32') written.add(key(await writtenPrint(initializer, buffer)));
  }
  let found = 0;
  const missing: string[] = [];
  const needed = [...tensors].filter(([name]) => taskParts(config, task).tensors.has(name));
  for (const [name, tensor] of needed) {
    signal?.throwIfAborted();
    if (await isThere(name, tensor, { config, tensors, written })) found += 1;
    else missing.push(name);
  }
  const all = `${found} of ${needed.length} tensors of the source found by value, whatever they are called`;
  return {
    name: 'provenance',
    passed: true,
    ...(found === 0 && { notApplicable: true as const }),
    detail: missing.length === 0 ? all : `${all}; not found as they are: ${listNames(missing, 3)}`,
    findings: [],
  };
}

interface Haystack {
  readonly config: BeitConfig;
  readonly tensors: BeitModel['tensors'];
  readonly written: ReadonlySet<string>;
}

function inTwo(bytes: Uint8Array, cut: number, written: ReadonlySet<string>): boolean {
  return [bytes.subarray(0, cut), bytes.subarray(cut)].every((part) => {
    const prints = new Prints();
    prints.add(part);
    return written.has(key(prints.get()));
  });
}

async function isThere(
  name: string,
  tensor: Tensor,
  { config, tensors, written }: Haystack,
): Promise<boolean> {
  const split = name.endsWith('.qkv.weight') ? 3 : 1;
  const parts = await sourcePrints(tensor, split);
  if (written.has(key(sumOf(parts)))) return true;
  if (split > 1 && parts.every((part) => written.has(key(part)))) return true;
  if (name.endsWith('relative_position_bias_table')) {
    if (written.has(key(await expandedPrint(tensor, config)))) return true;
    // transformers resizes the grid at run time and appends the last three rows to it.
    const words = new Uint8Array((await readFloat32(tensor)).buffer);
    return inTwo(words, words.length - 3 * tensor.shape[1] * 4, written);
  }
  if (name === 'backbone.pos_embed' && config.classToken) {
    // The same is done to positions: that of the class token is put before the others.
    const words = new Uint8Array((await readFloat32(tensor)).buffer);
    return inTwo(words, config.hiddenSize * 4, written);
  }
  const bias = /^(.*\.)[qv]_bias$/.exec(name);
  if (!bias) return false;
  // [q_bias, 0, v_bias] as one vector; a zero's bits add nothing to the sum, but to the other one.
  const zeros = { count: config.hiddenSize, sum: 0, mixed: (mix(0) * config.hiddenSize) % MODULUS };
  const [q, v] = await Promise.all(
    ['q_bias', 'v_bias'].map(async (each) => sumOf(await sourcePrints(tensors.get(`${bias[1]}${each}`)!, 1))),
  );
  return written.has(key(sumOf([q, zeros, v])));
}
