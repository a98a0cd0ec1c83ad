/**
 * The verify stage: a written file and the model it was made from in, a parity report out.
 */
import { basename } from 'node:path';
import { complexity, type BeitConfig } from '../beit.js';
import { statedMethod, type DynamicMethod } from '../dynamic-size.js';
import { FormatError } from '../errors.js';
import type { BeitModel } from '../model.js';
import { PRECISIONS, precision, type PrecisionName, type PrecisionRow } from '../precision.js';
import { TASK_KEY, parseTask, resolveTask, type Task } from '../task.js';
import { checkAgainst, type Reference } from './checks/against.js';
import {
  checkForeignProvenance,
  checkForeignStructure,
  foreignInventory,
  isForeign,
} from './checks/foreign.js';
import type { Ends } from './checks/foreign-task.js';
import { checkGolden, type GoldenValues } from './checks/golden.js';
import { checkInventory } from './checks/inventory.js';
import { checkLayers } from './checks/layers.js';
import { checkLogits, type LogitsPair, type LogitsResult } from './checks/logits.js';
import { linkedFindings } from './checks/linked.js';
import { checkOutputs, type OutputPair } from './checks/outputs.js';
import { comparePlaces } from './checks/places.js';
import { checkProvenance } from './checks/provenance.js';
import { checkQuality } from './checks/quality.js';
import { checkSizes, type AtSize } from './checks/sizes.js';
import { checkStructure } from './checks/structure.js';
import { openOnnxFile, type OnnxFile } from './onnx-file.js';
import type { Check, InputParity, OutputParity, ParityReport } from './report.js';
import { runTask } from './run-task.js';
import {
  SMALL_MODEL_FLOPS,
  makeInputs,
  reckon,
  runFile,
  type Input,
  type InputOptions,
  type RunOptions,
} from './run.js';
import { RuntimeRefusal } from './runtime.js';

export interface VerifyModelOptions extends InputOptions, RunOptions {
  /** default: what the file states, else what the checkpoint is for */
  readonly task?: Task;
  /** generated inputs; default 1, for models under 1 GFLOP 4 */
  readonly samples?: number;
  /** of the generated inputs, default 0 */
  readonly seed?: number;
  /** preprocessed pictures `[C, H, W]` to use instead of generated inputs */
  readonly images?: readonly Input[];
  /** find the layer, the step and the mistake where the file leaves the oracle */
  readonly layers?: boolean;
  /** other outputs to compare with */
  readonly against?: readonly Reference[];
  /** values that were published for these weights */
  readonly golden?: GoldenValues;
  /** all logits, which the report sums up only */
  readonly onLogits?: (pairs: readonly LogitsPair[]) => void;
  /** the same of a graph that is no classifier; large, and gone afterwards */
  readonly onOutputs?: (pairs: readonly OutputPair[]) => void;
  /** the oracle's answers, shared by several files of one model and the same inputs */
  readonly truth?: Truth;
  /** resizes the model, for files that take images of any size */
  readonly atSize?: AtSize;
  /** publish a file of lower precision although what it gives is not good enough for it */
  readonly acceptQuality?: boolean;
}

/** Filled by the first file that is verified. Start with `{}`. */
export interface Truth {
  reckoned?: ReturnType<typeof reckon>;
}

/** Metadata key of a file's precision; a file without is float32. */
const PRECISION_KEY = 'convert_beit.dtype';
/** What a lower precision may cost without the file being wrong. */
const OF_QUALITY: ReadonlySet<Check['name']> = new Set(['logits', 'outputs']);
const OWN_ENDS: Ends = { input: 'pixel_values', output: 'logits' };

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
    const dynamic = isForeign(file) ? undefined : statedMethod(file.metadata);
    const { structure, inventory, task, ends } = await examine(file, model, row, options.task, dynamic);
    const label = basename(path);
    const [stored, logits] = await together<Check, Judged>(options.signal, (signal) => [
      isForeign(file)
        ? checkForeignProvenance(file, model, task, signal)
        : checkProvenance(file, model, { signal, onProgress: options.onProgress, label }),
      ends
        ? task.name === 'classify'
          ? compareWithOracle(path, model, inputs, { ...options, signal, ends, precision: row.name })
          : compareOutputs(path, model, task, inputs, { ...options, signal, ends, precision: row.name })
        : Promise.resolve({ check: notRun('logits', 'input and output are not those of this model') }),
    ]);
    options.signal?.throwIfAborted();
    const provenance = withFindings(stored, await linkedFindings(file, options.signal));
    const checks = [structure, inventory, provenance, logits.check];
    const sizes = dynamic
      ? await atOtherSizes(path, model, { ...options, task, method: dynamic, precision: row.name, ends })
      : undefined;
    if (sizes) checks.push(sizes.check);
    const compared = 'logits' in logits ? logits : undefined;
    const outputs = 'outputs' in logits ? logits : undefined;
    if (ends && compared) {
      for (const reference of options.against ?? []) {
        checks.push(
          await checkAgainst(reference, { path, model, ends, pairs: compared.pairs, inputs }, options),
        );
      }
      if (options.golden) checks.push(await checkGolden(options.golden, { path, model, ends }, options));
    }
    const layers = options.layers
      ? await checkLayers(path, file, model, inputs, {
          ...options,
          task,
          precision: row.name,
          ends,
          wrong: !logits.check.passed,
          altered: !provenance.passed,
          unexplained: inventory.findings,
        })
      : undefined;
    if (layers) checks.push(layers.check);
    const failed = checks.filter(({ passed }) => !passed);
    const finite = compared
      ? Number.isFinite(compared.logits.maxAbs)
      : outputs !== undefined && outputs.outputs.every(({ maxAbs }) => Number.isFinite(maxAbs));
    // Only what a precision costs can be accepted: a file that does not run, or is another model, cannot.
    const accepted =
      options.acceptQuality === true &&
      row.name !== 'fp32' &&
      finite &&
      failed.length > 0 &&
      failed.every(({ name }) => OF_QUALITY.has(name) || (name === 'sizes' && sizes?.ran === true));
    return {
      verdict: failed.length === 0 ? 'passed' : 'failed',
      ...(row.name !== 'fp32' && { precision: row.name }),
      ...(accepted && { accepted }),
      checks,
      ...(compared ? { logits: compared.logits, runtime: compared.runtime } : {}),
      ...(outputs ? { outputs: outputs.outputs, runtime: outputs.runtime } : {}),
      ...(layers?.report && { layers: layers.report }),
      inputs: (compared ?? outputs)?.inputs ?? [],
      seconds: seconds(),
    };
  } finally {
    await file.close();
  }
}

/** What the graph itself tells, and where pixels go in and logits come out, if they do. */
async function examine(
  file: OnnxFile,
  { config }: BeitModel,
  row: PrecisionRow,
  stated: Task | undefined,
  dynamic: DynamicMethod | undefined,
): Promise<{ structure: Check; inventory: Check; task: Task; ends?: Ends }> {
  if (isForeign(file)) {
    const { check, recognised } = checkForeignStructure(file, config);
    const { task, ends } = recognised ?? { task: stated ?? { name: 'classify' } };
    return { structure: check, inventory: foreignInventory(), task, ...(ends && { ends }) };
  }
  const task = stated ?? taskOf(file, config);
  const { check, usable } = checkStructure(file, config, row, task, dynamic);
  return {
    structure: check,
    inventory: await checkInventory(file, config, row, task, dynamic),
    task,
    ...(usable && { ends: ownEnds(file) }),
  };
}

/** The batch is any number, or the one the file was made for. */
function ownEnds({ inputs }: OnnxFile): Ends {
  const batch = inputs[0].shape?.[0];
  return { ...OWN_ENDS, ...(typeof batch === 'number' && { batch }) };
}

/** What a file is for, as it says itself; the checks find out whether that is true. */
function taskOf({ metadata }: OnnxFile, config: BeitConfig): Task {
  const text = metadata.get(TASK_KEY);
  const stated = text === undefined ? undefined : parseTask(text, config);
  return stated ?? (config.kind === 'classification' ? { name: 'classify' } : resolveTask(config));
}

async function atOtherSizes(
  path: string,
  model: BeitModel,
  options: VerifyModelOptions & {
    readonly task: Task;
    readonly method: DynamicMethod;
    readonly precision: PrecisionName;
    readonly ends?: Ends;
  },
): Promise<{ check: Check; ran: boolean }> {
  const { ends, atSize } = options;
  const reason = !ends
    ? 'input and output are not those of this model'
    : atSize
      ? undefined
      : 'nothing resizes the weights';
  if (reason !== undefined) return { check: notRun('sizes', reason), ran: false };
  return await checkSizes(path, model, { ...options, atSize: atSize! });
}

/** The same for a graph that is no classifier: every output, element by element. */
async function compareOutputs(
  path: string,
  model: BeitModel,
  task: Task,
  inputs: readonly Input[],
  options: Comparing,
): Promise<Judged> {
  try {
    const { pairs, version } = await runTask(path, model, task, inputs, options);
    options.onOutputs?.(pairs);
    const checked = checkOutputs(pairs, options.precision);
    return {
      ...checked,
      ...(task.name === 'segment' && {
        inputs: checked.inputs.map((input, i) => ({
          ...input,
          places: comparePlaces(pairs[0], i, model.labels),
        })),
      }),
      runtime: { name: 'onnxruntime-node', version },
    };
  } catch (error) {
    if (!(error instanceof RuntimeRefusal)) throw error;
    return { check: { name: 'outputs', passed: false, detail: error.message, findings: [error.message] } };
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

/** A lower precision is judged by shares and extremes: more inputs than an exact computation needs. */
export function samplesForQuality(config: BeitConfig): number {
  return complexity(config).flops < SMALL_MODEL_FLOPS ? 16 : 4;
}

function notRun(name: Check['name'], reason: string): Check {
  return { name, passed: false, notRun: true, detail: `not run: ${reason}`, findings: [] };
}

/** What running the file gave: logits, or the outputs of another task, or the reason why neither. */
type Judged = Compared | ComparedOutputs | { readonly check: Check };

interface ComparedOutputs {
  readonly check: Check;
  readonly outputs: readonly OutputParity[];
  readonly inputs: readonly InputParity[];
  readonly runtime: NonNullable<ParityReport['runtime']>;
}

type Compared = LogitsResult & {
  readonly runtime: NonNullable<ParityReport['runtime']>;
  readonly pairs: readonly LogitsPair[];
};

interface Comparing extends VerifyModelOptions {
  readonly signal: AbortSignal;
  readonly ends: Ends;
  readonly precision: PrecisionName;
}

/** The file in the runtime and the weights in the oracle, at the same time, on the same inputs. */
async function compareWithOracle(
  path: string,
  model: BeitModel,
  inputs: readonly Input[],
  options: Comparing,
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
    options.onLogits?.(pairs);
    return {
      ...(options.precision === 'fp32'
        ? checkLogits(pairs, model.labels)
        : checkQuality(pairs, options.precision, model.labels)),
      pairs,
      runtime: { name: 'onnxruntime-node', version: ran.version },
    };
  } catch (error) {
    if (!(error instanceof RuntimeRefusal)) throw error;
    return { check: { name: 'logits', passed: false, detail: error.message, findings: [error.message] } };
  }
}

/** One answer for all files of a model. What was stopped or failed is asked again. */
async function knownOrReckoned(
  model: BeitModel,
  inputs: readonly Input[],
  options: Comparing,
): ReturnType<typeof reckon> {
  const truth = options.truth ?? {};
  const known = await truth.reckoned?.catch(() => undefined);
  if (known?.length === inputs.length) return known;
  truth.reckoned = reckon(model, inputs, options);
  return await truth.reckoned;
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
