/**
 * Where a file leaves the right path, and why: every block against the oracle, then the steps of the block that is off,
 * each recomputed in float64 from the file's own inputs of that step.
 */
import { basename } from 'node:path';
import { tokenCount } from '../../beit.js';
import type { BeitModel } from '../../model.js';
import type { LayerPoint, LayersReport, StepOutcome } from '../report.js';
import type { OnnxFile } from '../onnx-file.js';
import { runOracle } from '../oracle.js';
import type { OracleResult } from '../oracle-types.js';
import { runOnnx } from '../runtime.js';
import { fitRows } from './block-case.js';
import { exposeValues } from './expose.js';
import { GraphReader, type GraphCase, type GraphFinding, type Place } from './graph-steps.js';
import { findProbes, type Probes } from './probes.js';
import { STEP_UNITS_ALLOWED, deviation, findSuspects, type Step, type Suspect } from './step.js';

/**
 * rms error of a block's output against the oracle, in units of the noise expected there, from which on the steps of
 * that block are looked at. Being looked at is no verdict: only a step that disagrees with its own inputs is.
 */
export const POINT_UNITS_SUSPICIOUS = 8;

export interface LocaliseOptions {
  /** `[images, C, H, W]` */
  readonly pixels: Float32Array;
  readonly images: number;
  /** it is known that the logits are wrong: look at every block until the reason is found */
  readonly wrong: boolean;
  readonly threads?: number;
  readonly signal?: AbortSignal;
}

/** Values fetched in one run hold at most about this many bytes; more runs are made where there is more. */
const RUN_BYTES = 192 * 1024 * 1024;

/** @throws EnvironmentError if no copy can be made; RuntimeRefusal if the file does not run */
export async function localise(
  path: string,
  file: OnnxFile,
  model: BeitModel,
  options: LocaliseOptions,
): Promise<LayersReport> {
  const probes = findProbes(file, model.config);
  if (typeof probes === 'string')
    return { matched: false, reason: probes, points: [], suspects: [], steps: [] };
  const of: GraphCase = { path, file, model, probes, ...options };
  const [values, oracle] = await Promise.all([
    fetchValues(of, streamValues(probes)),
    runOracle(model, options.pixels, options.images, {
      hidden: true,
      threads: options.threads,
      signal: options.signal,
    }),
  ]);
  const points = comparePoints(of, values, oracle);
  const order = suspectOrder(of, points);
  const reader = new GraphReader(of, (names) => fetchValues(of, names), values);
  for (const place of order) {
    options.signal?.throwIfAborted();
    const steps: StepOutcome[] = [];
    for await (const step of reader.steps(place)) {
      const outcome = judge(step);
      steps.push(outcome);
      if (outcome.units <= STEP_UNITS_ALLOWED) continue;
      const suspects = await suspectsOf(reader, step);
      return {
        matched: true,
        points,
        divergence: at(place, { step: step.name, tensors: step.tensors }),
        steps,
        suspects,
      };
    }
    const shown = reader.finding(place);
    if (shown)
      return { matched: true, points, divergence: at(place, shown), steps, suspects: [asSuspect(shown)] };
  }
  // Some mistakes are below the noise on these inputs and above it on others.
  for (const place of allPlaces(model)) {
    const shown = reader.finding(place);
    if (shown)
      return { matched: true, points, divergence: at(place, shown), steps: [], suspects: [asSuspect(shown)] };
  }
  return { matched: true, points, steps: [], suspects: [] };
}

function at(
  place: Place,
  { step, tensors }: Omit<GraphFinding, 'mistake'>,
): NonNullable<LayersReport['divergence']> {
  return { ...(place.kind === 'block' ? { layer: place.layer } : {}), step, tensors };
}

function asSuspect({ mistake, tensors }: GraphFinding): Suspect {
  return { mistake, tensors, rmsLeft: 0, explainsAll: true };
}

function judge(step: Step): StepOutcome {
  const { maxAbs, rms } = deviation(step.found, step.right);
  return { step: step.name, maxAbs, rms, noise: step.noise, units: rms === 0 ? 0 : rms / step.noise };
}

async function suspectsOf(reader: GraphReader, step: Step): Promise<Suspect[]> {
  const found = await findSuspects(step);
  const altered = await reader.alteredTensors(step);
  return [...altered, ...found];
}

/** Values that stand for the stream between the blocks. */
function streamValues(probes: Probes): string[] {
  const { blocks, final, logits } = probes;
  const last = blocks.at(-1)!.output;
  return [
    ...blocks.flatMap(({ input, ln1, attended, ln2 }) => [input, ln1.output, attended, ln2.output]),
    ...(last === undefined ? [] : [last]),
    final.input,
    final.output,
    logits,
  ];
}

/** @returns by name; every value once */
async function fetchValues(of: GraphCase, names: readonly string[]): Promise<Map<string, Float32Array>> {
  const { path, file, model, probes, pixels, images, threads, signal } = of;
  const { config } = model;
  const wanted = [...new Set(names)];
  const each = images * tokenCount(config) * Math.max(config.hiddenSize, config.mlpSize / 4) * 4;
  const perRun = Math.max(4, Math.floor(RUN_BYTES / each));
  const found = new Map<string, Float32Array>();
  const own = new Set(file.outputs.map(({ name }) => name));
  const copy = await exposeValues(
    path,
    wanted.filter((name) => !own.has(name)),
    file.dataFiles.map(({ name }) => basename(name)),
  );
  try {
    for (let at = 0; at < wanted.length; at += perRun) {
      const { outputs } = await runOnnx(copy.path, {
        inputs: pixels,
        shape: [config.channels, ...config.imageSize],
        inputName: probes.pixels,
        fetch: wanted.slice(at, at + perRun),
        threads,
        signal,
      });
      for (const [name, { data }] of outputs) found.set(name, data);
    }
  } finally {
    await copy.close();
  }
  if (found.size !== wanted.length)
    throw new TypeError(`${found.size} of ${wanted.length} values for ${images} images`);
  return found;
}

/** The stream between the blocks, and what comes out, against the oracle. */
function comparePoints(
  { model, probes }: GraphCase,
  values: ReadonlyMap<string, Float32Array>,
  oracle: OracleResult,
): LayerPoint[] {
  const { hiddenSize: E, depth } = model.config;
  const tokens = tokenCount(model.config);
  const points: LayerPoint[] = [];
  const add = (
    name: string,
    layer: number | undefined,
    value: string | undefined,
    full: Float64Array,
    noise: number,
  ): void => {
    const found = value === undefined ? undefined : values.get(value);
    const right = found && fitRows(full, found.length, E, tokens);
    if (!found || !right) return;
    const { maxAbs, rms, size } = deviation(found, right);
    points.push({
      name,
      ...(layer === undefined ? {} : { layer }),
      maxAbs,
      rms,
      size,
      noise,
      units: rms === 0 ? 0 : rms / noise,
    });
  };
  const { blocks, final, logits } = probes;
  add('embedding', undefined, blocks[0].input, oracle.hidden![0], oracle.noise.hidden[0]);
  for (let layer = 0; layer < depth; layer++) {
    add(
      `block ${layer}`,
      layer,
      blocks[layer].output,
      oracle.hidden![layer + 1],
      oracle.noise.hidden[layer + 1],
    );
  }
  const largest = (noise: Float64Array): number => noise.reduce((a, b) => Math.max(a, b), 0);
  // All tokens normalised have the same number of values as nothing the oracle keeps: then there is no such point.
  if (values.get(final.output)?.length === oracle.features.length) {
    add('features', undefined, final.output, oracle.features, largest(oracle.noise.features));
  }
  const found = values.get(logits)!;
  if (found.length === oracle.logits.length) {
    const { maxAbs, rms, size } = deviation(found, oracle.logits);
    const noise = Math.max(largest(oracle.noise.logits), (size * 2 ** -24) / Math.sqrt(3));
    points.push({ name: 'logits', maxAbs, rms, size, noise, units: rms === 0 ? 0 : rms / noise });
  }
  return points;
}

function allPlaces({ config }: BeitModel): Place[] {
  const blocks = Array.from({ length: config.depth }, (_, layer) => ({ kind: 'block', layer }) as const);
  return [{ kind: 'start' }, ...blocks, { kind: 'end' }];
}

/** Where to look, the likeliest place first: nowhere if nothing is off. */
function suspectOrder({ model, wrong }: GraphCase, points: readonly LayerPoint[]): Place[] {
  const all = allPlaces(model);
  const first = points.find(({ units }) => !(units <= POINT_UNITS_SUSPICIOUS));
  if (!first) return wrong ? all : [];
  // What comes after the first place that is off inherits its error; what lies before it is tried last.
  const at =
    first.name === 'embedding'
      ? 0
      : first.layer === undefined
        ? pointBefore(points, first, model.config.depth)
        : first.layer + 1;
  return [...all.slice(at), ...all.slice(0, at)];
}

/** Blocks without a point of their own lie between the last one that was right and the first that is not. */
function pointBefore(points: readonly LayerPoint[], first: LayerPoint, depth: number): number {
  const before = points
    .slice(0, points.indexOf(first))
    .filter(({ layer }) => layer !== undefined)
    .at(-1);
  return before?.layer === undefined ? 1 : Math.min(before.layer + 2, depth + 1);
}
