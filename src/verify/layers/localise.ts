/**
 * Where a file leaves the right path, and why: every block against the oracle, then the steps of the block that is off,
 * each recomputed in float64 from the file's own inputs of that step.
 */
import { basename } from 'node:path';
import { tokenCount } from '../../beit.js';
import type { BeitModel } from '../../model.js';
import type { PrecisionName } from '../../precision.js';
import type { Task } from '../../task.js';
import type { LayerPoint, LayersReport, StepOutcome } from '../report.js';
import type { OnnxFile } from '../onnx-file.js';
import { outputsOf } from '../expected.js';
import { runOracle } from '../oracle.js';
import type { OracleResult } from '../oracle-types.js';
import { atPositions } from '../run-task.js';
import type { Ends } from '../checks/foreign-task.js';
import { runOnnx } from '../runtime.js';
import { bandOf, inBand, pointNoise, type Band } from './band.js';
import { fitRows } from './block-case.js';
import { exposeValues } from './expose.js';
import { fusedAttention } from './fused.js';
import { GraphReader, innerRoles, type GraphCase, type GraphFinding, type Place } from './graph-steps.js';
import type { Part } from './probes-segment.js';
import { findProbes, type Probes } from './probes.js';
import { deviation, findSuspects, type Step, type Suspect } from './step.js';

/**
 * rms error of a block's output against the oracle, in units of the noise expected there, from which on the steps of
 * that block are looked at. Being looked at is no verdict: only a step that disagrees with its own inputs is.
 */
export const POINT_UNITS_SUSPICIOUS = 8;

export interface LocaliseOptions {
  readonly task: Task;
  readonly precision: PrecisionName;
  /** which ports are which */
  readonly ends: Ends;
  /** `[images, C, H, W]` */
  readonly pixels: Float32Array;
  /** `[images, N]`, 1 = hidden */
  readonly mask?: Uint8Array;
  readonly images: number;
  /** it is known that the outputs are wrong: look at every block until the reason is found */
  readonly wrong: boolean;
  /** weights have other bytes than the source's */
  readonly altered: boolean;
  readonly threads?: number;
  readonly signal?: AbortSignal;
}

/** Values fetched in one run hold at most about this many bytes; more runs are made where there is more. */
const RUN_BYTES = 192 * 1024 * 1024;
/** A model whose values are no more than this gives all of them in its first run. */
const SMALL_BYTES = 24 * 1024 * 1024;

/** @throws EnvironmentError if no copy can be made; RuntimeRefusal if the file does not run */
export async function localise(
  path: string,
  file: OnnxFile,
  model: BeitModel,
  options: LocaliseOptions,
): Promise<LayersReport> {
  const { task } = options;
  const probes = findProbes(file, model.config, task, options.ends);
  if (typeof probes === 'string')
    return { matched: false, reason: probes, points: [], suspects: [], steps: [] };
  const of: GraphCase = { path, file, model, probes, ...options };
  const band = bandOf(options.precision);
  const every = [...streamValues(probes), ...innerValues(probes)];
  const [values, oracle] = await Promise.all([
    fetchValues(of, every.length * bytesEach(of) <= SMALL_BYTES ? every : streamValues(probes)),
    runOracle(model, options.pixels, options.images, {
      hidden: true,
      headless: task.name !== 'classify',
      mask: options.mask,
      threads: options.threads,
      signal: options.signal,
    }),
  ]);
  const points = await comparePoints(of, values, oracle, band);
  const order = suspectOrder(of, points);
  const reader = new GraphReader(of, (names) => fetchValues(of, names), values);
  const hidden = fusedAttention([...probes.blocks, ...(probes.second?.blocks ?? [])]);
  const common = {
    matched: true,
    ...(options.precision !== 'fp32' && { precision: options.precision }),
    ...(hidden !== undefined && { hidden }),
    points,
  };
  for (const place of order) {
    options.signal?.throwIfAborted();
    const steps: StepOutcome[] = [];
    for await (const exact of reader.steps(place)) {
      const step = inBand(exact, band);
      const outcome = judge(step);
      steps.push(outcome);
      if (outcome.units <= step.allowed) continue;
      const suspects = await suspectsOf(reader, step);
      return {
        ...common,
        divergence: at(place, { step: step.name, tensors: step.tensors }),
        steps,
        suspects,
      };
    }
    const shown = reader.finding(place);
    if (shown) {
      const divergence = at(place, shown);
      return { ...common, divergence, steps, suspects: [asSuspect(shown)] };
    }
  }
  // Some mistakes are below the noise on these inputs and above it on others.
  for (const place of allPlaces(of)) {
    const shown = reader.finding(place);
    if (shown) {
      const divergence = at(place, shown);
      return { ...common, divergence, steps: [], suspects: [asSuspect(shown)] };
    }
  }
  const altered = options.altered ? await reader.alteredTensors({ tensors: [...model.tensors.keys()] }) : [];
  const [first] = altered.map(({ tensors: [name] }) => placeOf(name)).sort((a, b) => a.order - b.order);
  if (first)
    return {
      ...common,
      divergence: { ...first.where, tensors: altered.flatMap(({ tensors }) => tensors), unseen: true },
      steps: [],
      suspects: altered.slice(0, MOST_ALTERED),
    };
  return { ...common, steps: [], suspects: [] };
}

const MOST_ALTERED = 8;

/** Where a tensor is used first, by its canonical name. */
const USES: readonly (readonly [pattern: RegExp, step: string])[] = [
  [/^backbone\.(patch_embed|cls_token|mask_token|pos_embed)/, 'embedding'],
  [/\.ln1\./, 'LN1'],
  [/\.attn\.proj\./, 'projection'],
  [/attn\.|^backbone\.rel_pos_bias/, 'attention scores'],
  [/\.gamma_1$/, 'first residual'],
  [/\.ln2\./, 'LN2'],
  [/\.ffn\.layers\.0\./, 'MLP activation'],
  [/\.ffn\.layers\.1\./, 'MLP output'],
  [/\.gamma_2$/, 'second residual'],
];

function placeOf(tensor: string): { order: number; where: { layer?: number; step: string } } {
  const layer = /^backbone\.layers\.(\d+)\./.exec(tensor)?.[1];
  const at = USES.findIndex(([pattern]) => pattern.test(tensor));
  const inside = layer !== undefined || at === 0 || USES[at]?.[1] === 'attention scores';
  if (!inside)
    return { order: Infinity, where: { step: tensor.startsWith('backbone.ln') ? 'last norm' : 'the head' } };
  return {
    order: layer === undefined ? 0 : (Number(layer) + 1) * USES.length + at,
    where: { ...(layer !== undefined && { layer: Number(layer) }), step: USES[at]?.[1] ?? 'the head' },
  };
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

/** Values that stand for the stream between the blocks, and what comes out. */
function streamValues({ blocks, finals, outputs }: Probes): string[] {
  const last = blocks.at(-1)!.output;
  return [
    ...blocks.flatMap(({ input, ln1, attended, ln2 }) => [input, ln1.output, attended, ln2.output]),
    ...(last === undefined ? [] : [last]),
    ...finals.flatMap(({ input, output }) => [input, output]),
    ...outputs,
  ];
}

/** Everything else that steps are recomputed from. */
function innerValues({ blocks, second, segment }: Probes): string[] {
  const neck = second?.blocks ?? [];
  const parts = segment
    ? Object.values(segment).flatMap((part: Part | readonly Part[] | boolean) =>
        typeof part === 'boolean' ? [] : 'input' in part ? [part] : part,
      )
    : [];
  return [
    ...[...blocks, ...neck].flatMap((block) => innerRoles(block).map(([, name]) => name)),
    ...neck.flatMap(({ input, ln1, attended, ln2, output }) => [
      input,
      ln1.output,
      attended,
      ln2.output,
      ...(output === undefined ? [] : [output]),
    ]),
    ...(second ? [second.final.input, second.final.output] : []),
    ...parts.flatMap(({ input, output }) => [input, output]),
  ];
}

/** Bytes of a large value of this graph. */
function bytesEach({ model: { config }, images, probes }: GraphCase): number {
  const tokens = images * tokenCount(config) * Math.max(config.hiddenSize, config.mlpSize / 4);
  const map = probes.segment ? images * 16 * config.window[0] * config.window[1] * config.hiddenSize : 0;
  return 4 * Math.max(tokens, map);
}

/** @returns by name; every value once */
async function fetchValues(of: GraphCase, names: readonly string[]): Promise<Map<string, Float32Array>> {
  const { path, file, model, probes, pixels, mask, images, threads, signal } = of;
  const { config } = model;
  const wanted = [...new Set(names)];
  const perRun = Math.max(4, Math.floor(RUN_BYTES / bytesEach(of)));
  const found = new Map<string, Float32Array>();
  const own = new Set(file.outputs.map(({ name }) => name));
  const copy = await exposeValues(
    path,
    wanted.filter((name) => !own.has(name)),
    file.dataFiles.map(({ name }) => basename(name)),
    probes.sums,
  );
  try {
    for (let at = 0; at < wanted.length; at += perRun) {
      const { outputs } = await runOnnx(copy.path, {
        inputs: pixels,
        shape: [config.channels, ...config.imageSize],
        inputName: probes.pixels,
        ...(mask && {
          masks: {
            name: probes.mask!,
            type: probes.maskType,
            data: mask,
            shape: [config.window[0] * config.window[1]],
          },
        }),
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
async function comparePoints(
  { model, task, probes, images }: GraphCase,
  values: ReadonlyMap<string, Float32Array>,
  oracle: OracleResult,
  band: Band,
): Promise<LayerPoint[]> {
  const { hiddenSize: E } = model.config;
  const tokens = tokenCount(model.config);
  const points: LayerPoint[] = [];
  const put = (
    name: string,
    layer: number | undefined,
    found: ArrayLike<number>,
    right: ArrayLike<number>,
    expected: number,
  ): void => {
    const { maxAbs, rms, size } = deviation(found, right);
    const noise = pointNoise(band, expected, size);
    const units = rms === 0 ? 0 : rms / noise;
    points.push({ name, ...(layer === undefined ? {} : { layer }), maxAbs, rms, size, noise, units });
  };
  const add = (
    name: string,
    layer: number | undefined,
    value: string | undefined,
    full: Float64Array,
    noise: number,
  ): void => {
    const found = value === undefined ? undefined : values.get(value);
    const right = found && fitRows(full, found.length, E, tokens);
    if (found && right) put(name, layer, found, right, noise);
  };
  const { blocks, finals, outputs } = probes;
  add('embedding', undefined, blocks[0].input, oracle.hidden![0], oracle.noise.hidden[0]);
  for (const [layer, { output }] of blocks.entries()) {
    const noise = oracle.noise.hidden[layer + 1];
    add(`block ${layer}`, layer, output, oracle.hidden![layer + 1], noise);
  }
  const largest = (noise: Float64Array): number => noise.reduce((a, b) => Math.max(a, b), 0);
  const features = finals.at(-1) && values.get(finals.at(-1)!.output);
  // All tokens normalised have the same number of values as nothing the oracle keeps: then there is no such point.
  if (task.name === 'classify' && features?.length === oracle.features.length)
    put('features', undefined, features, oracle.features, largest(oracle.noise.features));
  const expected = await outputsOf(model, task, oracle, images);
  for (const [i, { name, values: right, shape, positions, noise }] of expected.entries()) {
    const all = values.get(outputs[i])!;
    const found = positions ? atPositions(all, shape, positions) : all;
    // A float32 result can't be nearer than its own rounding.
    const least = (deviation(found, right).size * 2 ** -24) / Math.sqrt(3);
    if (found.length === right.length) put(name, undefined, found, right, Math.max(noise, least));
  }
  return points;
}

function allPlaces({ probes }: GraphCase): Place[] {
  const blocks = probes.blocks.map((_, layer) => ({ kind: 'block', layer }) as const);
  return [{ kind: 'start' }, ...blocks, { kind: 'end' }];
}

/** Where to look, the likeliest place first: nowhere if nothing is off. */
function suspectOrder(of: GraphCase, points: readonly LayerPoint[]): Place[] {
  const all = allPlaces(of);
  const first = points.find(({ units }) => !(units <= POINT_UNITS_SUSPICIOUS));
  if (!first) return of.wrong ? all : [];
  // What comes after the first place that is off inherits its error; what lies before it is tried last.
  const at =
    first.name === 'embedding'
      ? 0
      : first.layer === undefined
        ? pointBefore(points, first, of.probes.blocks.length)
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
