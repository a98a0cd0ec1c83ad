/**
 * Every initializer that carries a source tensor's name has the source's bytes, bit for bit; one that was resized has
 * the bytes that resizing the source gives again.
 */
import { dtype as dtypeRow } from '../../dtype.js';
import { FormatError, listNames } from '../../errors.js';
import type { BeitModel } from '../../model.js';
import { formatBytes } from '../../bytes.js';
import type { OnProgress } from '../../progress.js';
import { CHUNK_BYTES, asFloat32, byteLength, bytesOf, describeTensor, type Tensor } from '../../tensor.js';
import type { OnnxFile, OnnxInitializer } from '../onnx-file.js';
import type { Check } from '../report.js';
import { shapeFindings, storedWeight } from '../stored-weight.js';
import { compareConverted } from './converted.js';
import { explainDifference } from './difference.js';

export interface ProvenanceOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: OnProgress;
  readonly label: string;
}

const REDUCED_RANGE = 'convert_beit.reduce_range';
/** Largest integer magnitudes: an input's 255 times 64, twice, fits 16 bits. */
const SEVEN_BITS = 64;
const EIGHT_BITS = 127;

/** Differing tensors are looked at closely; whoever broke more than these has one mistake in all of them. */
const EXPLAINED = 8;

/**
 * Compares chunk by chunk, both sides streamed: memory does not grow with the tensors. Tensors that are absent are the
 * inventory's matter.
 */
export async function checkProvenance(
  file: OnnxFile,
  model: BeitModel,
  { signal, onProgress, label }: ProvenanceOptions,
): Promise<Check> {
  const pairs = [...model.tensors].flatMap(([name, tensor]) => {
    const weight = storedWeight(file, name);
    return weight ? [{ name, source: asFloat32(tensor), weight, written: weight.values }] : [];
  });
  const total = pairs.reduce((sum, { source }) => sum + byteLength(source), 0);
  const progress = (done: number): void =>
    onProgress?.({ phase: 'compare', label, done, total, unit: 'bytes' });
  const buffers = {
    source: Buffer.allocUnsafeSlow(CHUNK_BYTES),
    written: Buffer.allocUnsafeSlow(CHUNK_BYTES),
  };
  const findings: string[] = [];
  let done = 0;
  progress(0);
  for (const { name, source, weight, written } of pairs) {
    if (weight.form !== 'float32') {
      // Parts that are not what their form needs are the inventory's matter.
      const readable = shapeFindings(name, source.shape, weight).length === 0;
      const difference =
        readable &&
        (await compareConverted(source, weight, {
          levels: file.metadata.get(REDUCED_RANGE) === 'true' ? SEVEN_BITS : EIGHT_BITS,
          onBytes: (bytes) => {
            signal?.throwIfAborted();
            progress(done + bytes);
          },
        }));
      if (difference) findings.push(`${name}: ${difference}`);
    } else if (
      written.dtype?.name !== 'F32' ||
      written.stored.end - written.stored.start !== byteLength(source)
    ) {
      findings.push(
        `${name} is ${describeWritten(written)} in the file; the source gives ${describeTensor(source)}`,
      );
    } else {
      const origin = model.derived?.has(name) ? 'as recomputed from the source' : 'in the source';
      const difference = await compareBytes(source, written, origin, buffers, (bytes) => {
        signal?.throwIfAborted();
        progress(done + bytes);
      });
      if (difference) {
        const cause =
          findings.length < EXPLAINED
            ? await explainDifference(name, source, written, model.tensors)
            : undefined;
        findings.push(`${name}: ${cause ? `${cause}; ` : ''}${difference}`);
      }
    }
    done += byteLength(source);
  }
  const converted = pairs.filter(({ weight }) => weight.form !== 'float32').length;
  const own = whatWasCompared(model);
  const detail = `${pairs.length} tensors, ${formatBytes(total)}: ${
    converted > 0 ? `${own}, ${converted} of them rounded to the nearest their form can hold` : own
  }`;
  return {
    name: 'provenance',
    passed: findings.length === 0,
    detail:
      findings.length === 0
        ? detail
        : `${findings.length} of ${pairs.length} tensors differ from the source: ${listNames(
            findings.map((finding) => finding.split(/:? /, 1)[0]),
            3,
          )}`,
    findings,
  };
}

function whatWasCompared({ tensors, derived = new Map() }: BeitModel): string {
  const stored = [...tensors].filter(([name]) => !derived.has(name));
  const widened = stored.filter(([, { dtype }]) => dtype !== 'F32' && dtypeRow(dtype).weight).length;
  const own = widened > 0 ? `the source's values (${widened} widened to float32)` : "the source's own bytes";
  const made = new Map<string, number>();
  for (const [name, how] of derived) if (tensors.has(name)) made.set(how, (made.get(how) ?? 0) + 1);
  return [own, ...[...made].map(([how, count]) => `${count} ${how}: compared with recomputed values`)].join(
    '; ',
  );
}

function describeWritten({ dtype, dataType, dims }: OnnxInitializer): string {
  return `${dtype?.name.toLowerCase() ?? `type ${dataType}`}[${dims.join(', ')}]`;
}

/** @returns what differs, one clause; `undefined` when nothing does */
async function compareBytes(
  source: Tensor,
  { stored }: OnnxInitializer,
  origin: string,
  buffers: { source: Buffer; written: Buffer },
  onBytes: (done: number) => void,
): Promise<string | undefined> {
  let at = 0;
  let differing = 0;
  let first = '';
  const look = (expected: Uint8Array, found: Uint8Array): void => {
    if (Buffer.compare(expected, found) !== 0) {
      const [a, b] = [wordsOf(expected), wordsOf(found)];
      for (let i = 0; i < a.length; i++) {
        if (a[i] === b[i]) continue;
        if (differing === 0) first = describeElement(source.shape, at / 4 + i, a, b, i, origin);
        differing += 1;
      }
    }
    at += expected.length;
    onBytes(at);
  };
  if (source.stored) {
    const { start, end } = source.stored;
    while (at < end - start) {
      const length = Math.min(CHUNK_BYTES, end - start - at);
      const [expected, found] = [buffers.source.subarray(0, length), buffers.written.subarray(0, length)];
      await Promise.all([
        source.stored.source.readInto(expected, start + at),
        stored.source.readInto(found, stored.start + at),
      ]);
      look(expected, found);
    }
  } else {
    const length = byteLength(source);
    for await (const chunk of source.chunks()) {
      if (at + chunk.length > length) throw liesAbout(source, at + chunk.length);
      for (let from = 0; from < chunk.length; from += CHUNK_BYTES) {
        const expected = chunk.subarray(from, from + CHUNK_BYTES);
        const found = buffers.written.subarray(0, expected.length);
        await stored.source.readInto(found, stored.start + at);
        look(expected, found);
      }
    }
    if (at !== length) throw liesAbout(source, at);
  }
  if (differing === 0) return undefined;
  return `${first}${differing > 1 ? `; ${differing.toLocaleString('en-US')} elements differ` : ''}`;
}

/** What is never delivered would never be compared. */
function liesAbout(source: Tensor, delivered: number): FormatError {
  return new FormatError(
    `a tensor ${describeTensor(source)} of the source delivers ${delivered} bytes, not ${byteLength(source)}`,
  );
}

/** float32 elements as bits, so that NaN equals NaN and 0 differs from -0. */
function wordsOf(bytes: Uint8Array): Uint32Array {
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
  return new Uint32Array(aligned.buffer, aligned.byteOffset, aligned.length / 4);
}

function describeElement(
  shape: readonly number[],
  index: number,
  expected: Uint32Array,
  found: Uint32Array,
  i: number,
  origin: string,
): string {
  const place: number[] = [];
  let rest = index;
  for (const side of [...shape].reverse()) {
    place.unshift(rest % side);
    rest = Math.floor(rest / side);
  }
  const value = (words: Uint32Array): string => {
    const number = new Float32Array(bytesOf(words.slice(i, i + 1)).buffer)[0];
    return Object.is(number, -0) ? '-0' : String(Number(number.toPrecision(9)));
  };
  return `element [${place.join(', ')}] is ${value(found)}, ${value(expected)} ${origin}`;
}
