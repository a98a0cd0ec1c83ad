/**
 * The verify stage: a written file and the model it was made from in, a parity report out.
 */
import { basename } from 'node:path';
import { complexity, type BeitConfig } from '../beit.js';
import { FormatError, ShapeError, UsageError } from '../errors.js';
import type { BeitModel } from '../model.js';
import { PRECISIONS, precision, type PrecisionName } from '../precision.js';
import type { OnProgress } from '../progress.js';
import { checkInventory } from './checks/inventory.js';
import { checkLogits, type LogitsPair, type LogitsResult } from './checks/logits.js';
import { linkedFindings } from './checks/linked.js';
import { checkProvenance } from './checks/provenance.js';
import { checkQuality } from './checks/quality.js';
import { checkStructure } from './checks/structure.js';
import { sampleInput } from './inputs.js';
import { openOnnxFile, type OnnxFile } from './onnx-file.js';
import { runOracle } from './oracle.js';
import type { Check, ParityReport } from './report.js';
import { RuntimeRefusal, runOnnx } from './runtime.js';

export interface VerifyModelOptions {
  /** generated inputs; default 1, for models under 1 GFLOP 4 */
  readonly samples?: number;
  /** of the generated inputs, default 0 */
  readonly seed?: number;
  /** preprocessed pictures `[C, H, W]` to use instead of generated inputs */
  readonly images?: readonly { readonly name: string; readonly pixels: Float32Array }[];
  readonly threads?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: OnProgress;
  /** the oracle's answers, shared by several files of one model and the same inputs */
  readonly truth?: Truth;
  /** publish a file of lower precision although its logits are not good enough for it */
  readonly acceptQuality?: boolean;
}

/** Filled by the first file that is verified. Start with `{}`. */
export interface Truth {
  reckoned?: Promise<{ oracle: Float64Array; noise: number }[]>;
}

interface Input {
  readonly name: string;
  readonly pixels: Float32Array;
}

const MOST_SAMPLES = 1000;
const SMALL_MODEL_FLOPS = 1e9;
/** Metadata key of a file's precision; a file without is float32. */
const PRECISION_KEY = 'convert_beit.dtype';

/**
 * Hold the file at `path` against the weights it was made from.
 *
 * A file that is wrong in whatever way gives a report with the verdict `failed`, never an error.
 *
 * @param model canonical weights as read from the source
 * @throws InputError if there is no such file; UsageError, ShapeError for options that do not fit; EnvironmentError if
 *   onnxruntime-node is absent or its process dies; the signal's reason when aborted
 */
export async function verifyModel(
  path: string,
  model: BeitModel,
  options: VerifyModelOptions = {},
): Promise<ParityReport> {
  const started = performance.now();
  const seconds = (): number => (performance.now() - started) / 1000;
  const usual = makeInputs(model, options);
  let file: OnnxFile;
  try {
    file = await openOnnxFile(path);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    const unreadable: Check = {
      name: 'structure',
      passed: false,
      detail: error.message,
      findings: [error.message],
    };
    const rest = (['inventory', 'provenance', 'logits'] as const).map((name) =>
      notRun(name, 'the file cannot be read'),
    );
    return { verdict: 'failed', checks: [unreadable, ...rest], inputs: [], seconds: seconds() };
  }
  try {
    // Whatever the name says, the checks decide: an unknown one is held to what float32 is held to.
    const stated = file.metadata.get(PRECISION_KEY) ?? 'fp32';
    const row = precision(PRECISIONS.has(stated) ? stated : 'fp32');
    const samples = options.samples ?? samplesForQuality(model.config);
    const inputs = row.name === 'fp32' ? usual : makeInputs(model, { ...options, samples });
    const structure = checkStructure(file, model.config, row);
    const inventory = await checkInventory(file, model.config, row);
    const label = basename(path);
    const [stored, logits] = await together(options.signal, (signal) => [
      checkProvenance(file, model, { signal, onProgress: options.onProgress, label }),
      structure.usable
        ? compareWithOracle(path, model, inputs, row.name, { ...options, signal })
        : Promise.resolve({ check: notRun('logits', 'input and output are not those of this model') }),
    ]);
    options.signal?.throwIfAborted();
    const provenance = withFindings(stored, await linkedFindings(file, options.signal));
    const checks = [structure.check, inventory, provenance, logits.check];
    const failed = checks.filter(({ passed }) => !passed);
    // Only what a precision costs can be accepted: a file that does not run, or is another model, cannot.
    const lossy =
      'logits' in logits && logits.logits.quality !== undefined && Number.isFinite(logits.logits.maxAbs);
    const accepted =
      options.acceptQuality === true &&
      lossy &&
      failed.length > 0 &&
      failed.every(({ name }) => name === 'logits');
    return {
      verdict: failed.length === 0 ? 'passed' : 'failed',
      ...(accepted && { accepted }),
      checks,
      ...('logits' in logits ? { logits: logits.logits, runtime: logits.runtime } : {}),
      inputs: 'inputs' in logits ? logits.inputs : [],
      seconds: seconds(),
    };
  } finally {
    await file.close();
  }
}

function withFindings(check: Check, findings: readonly string[]): Check {
  if (findings.length === 0) return check;
  return {
    ...check,
    passed: false,
    detail: check.passed ? findings[0] : check.detail,
    findings: [...findings, ...check.findings],
  };
}

function notRun(name: Check['name'], reason: string): Check {
  return { name, passed: false, notRun: true, detail: `not run: ${reason}`, findings: [] };
}

/** A lower precision is judged by shares and extremes: more inputs than an exact computation needs. */
export function samplesForQuality(config: BeitConfig): number {
  return complexity(config).flops < SMALL_MODEL_FLOPS ? 16 : 4;
}

function makeInputs(model: BeitModel, options: VerifyModelOptions): Input[] {
  const { channels, imageSize } = model.config;
  const { images, seed = 0 } = options;
  if (images && images.length > 0) {
    const expected = channels * imageSize[0] * imageSize[1];
    for (const { name, pixels } of images) {
      if (pixels.length !== expected) {
        throw new ShapeError(
          `${name} has ${pixels.length} values; this model takes ${channels}×${imageSize.join('×')} = ${expected}`,
        );
      }
    }
    return [...images];
  }
  const samples = options.samples ?? (complexity(model.config).flops < SMALL_MODEL_FLOPS ? 4 : 1);
  if (!Number.isSafeInteger(samples) || samples < 1 || samples > MOST_SAMPLES) {
    throw new UsageError(`${samples} samples: needed is a whole number from 1 to ${MOST_SAMPLES}`);
  }
  if (!Number.isSafeInteger(seed) || seed < 0) {
    throw new UsageError(`seed ${seed}: needed is a whole number from 0 to 2^53 - 1`);
  }
  return Array.from({ length: samples }, (_, index) => ({
    name: `seed ${seed} #${index}`,
    pixels: sampleInput(model.config, seed, index),
  }));
}

type Compared = LogitsResult & { readonly runtime: NonNullable<ParityReport['runtime']> };

interface Stoppable extends VerifyModelOptions {
  readonly signal: AbortSignal;
}

/** The file in the runtime and the weights in the oracle, at the same time, on the same inputs. */
async function compareWithOracle(
  path: string,
  model: BeitModel,
  inputs: readonly Input[],
  name: PrecisionName,
  options: Stoppable,
): Promise<Compared | { check: Check }> {
  try {
    const [ran, reckoned] = await together(options.signal, (signal) => [
      runFile(path, model, inputs, { ...options, signal }),
      knownOrReckoned(model, inputs, { ...options, signal }),
    ]);
    const pairs: LogitsPair[] = inputs.map(({ name }, i) => ({
      name,
      written: ran.written[i],
      ...reckoned[i],
    }));
    return {
      ...(name === 'fp32' ? checkLogits(pairs, model.labels) : checkQuality(pairs, name, model.labels)),
      runtime: { name: 'onnxruntime-node', version: ran.version },
    };
  } catch (error) {
    if (!(error instanceof RuntimeRefusal)) throw error;
    return { check: { name: 'logits', passed: false, detail: error.message, findings: [error.message] } };
  }
}

/** Both or neither: when one fails, the other is stopped (not just left alone), then the first error is thrown. */
async function together<A, B>(
  outer: AbortSignal | undefined,
  start: (signal: AbortSignal) => readonly [Promise<A>, Promise<B>],
): Promise<readonly [A, B]> {
  const stop = new AbortController();
  const parts = start(outer ? AbortSignal.any([outer, stop.signal]) : stop.signal);
  try {
    return await Promise.all(parts);
  } catch (error) {
    stop.abort(error);
    await Promise.allSettled(parts);
    outer?.throwIfAborted();
    throw error;
  }
}

/** Images per run. Memory of attention grows with it; a batch of one would not show whether images stay apart. */
function batchSize(model: BeitModel, count: number): number {
  const most = complexity(model.config).flops < SMALL_MODEL_FLOPS ? 8 : 2;
  return Math.max(2, Math.min(most, count));
}

/**
 * Runs the file on all inputs, and on the first one again where it makes another batch: in full batches and alone, and
 * (a single input) as the second of two different images.
 */
async function runFile(
  path: string,
  model: BeitModel,
  inputs: readonly Input[],
  options: Stoppable,
): Promise<{ version: string; written: Float32Array[][] }> {
  const { config } = model;
  const batch = batchSize(model, inputs.length);
  const rows: { pixels: Float32Array; input?: number }[] = inputs.map(({ pixels }, input) => ({
    pixels,
    input,
  }));
  if (rows.length === 1) rows.unshift({ pixels: sampleInput(config, options.seed ?? 0, inputs.length) });
  if (rows.length % batch === 0) rows.push({ pixels: inputs[0].pixels, input: 0 });
  const shape = [config.channels, ...config.imageSize];
  const stacked = new Float32Array(rows.length * inputs[0].pixels.length);
  rows.forEach(({ pixels }, row) => stacked.set(pixels, row * pixels.length));

  const result = await runOnnx(path, {
    inputs: stacked,
    shape,
    batch,
    threads: options.threads,
    signal: options.signal,
    onProgress: options.onProgress,
  });
  const logits = result.outputs.get('logits');
  if (String(logits?.dims) !== String([rows.length, config.classes])) {
    throw new RuntimeRefusal(
      `${basename(path)} gives logits [${logits?.dims.join(', ') ?? ''}] for ${rows.length} images; needed is [${rows.length}, ${config.classes}]`,
    );
  }
  const written: Float32Array[][] = inputs.map(() => []);
  rows.forEach(({ input }, row) => {
    if (input === undefined) return;
    written[input].push(logits!.data.subarray(row * config.classes, (row + 1) * config.classes));
  });
  return { version: result.version, written };
}

/** One answer for all files of a model. What was stopped or failed is asked again. */
async function knownOrReckoned(
  model: BeitModel,
  inputs: readonly Input[],
  options: Stoppable,
): Promise<{ oracle: Float64Array; noise: number }[]> {
  const truth = options.truth ?? {};
  const known = await truth.reckoned?.catch(() => undefined);
  if (known?.length === inputs.length) return known;
  truth.reckoned = reckon(model, inputs, options);
  return await truth.reckoned;
}

/** Logits and expected noise by the oracle, a few images at a time. */
async function reckon(
  model: BeitModel,
  inputs: readonly Input[],
  options: Stoppable,
): Promise<{ oracle: Float64Array; noise: number }[]> {
  const { classes } = model.config;
  const batch = batchSize(model, inputs.length);
  const rounds = Math.ceil(inputs.length / batch);
  const out: { oracle: Float64Array; noise: number }[] = [];
  for (let round = 0; round < rounds; round++) {
    const part = inputs.slice(round * batch, (round + 1) * batch);
    const stacked = new Float32Array(part.length * part[0].pixels.length);
    part.forEach(({ pixels }, row) => stacked.set(pixels, row * pixels.length));
    const { logits, noise } = await runOracle(model, stacked, part.length, {
      threads: options.threads,
      signal: options.signal,
      onProgress: (done, total) =>
        options.onProgress?.({
          phase: 'oracle',
          label: model.provenance.id,
          done: round * total + done,
          total: rounds * total,
          unit: 'blocks',
        }),
    });
    part.forEach((_, row) => {
      out.push({ oracle: logits.slice(row * classes, (row + 1) * classes), noise: noise.logits[row] });
    });
  }
  return out;
}
