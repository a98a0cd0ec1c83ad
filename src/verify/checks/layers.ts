/**
 * Where the file leaves the oracle, as a check: the layer, the step, and the mistake that fits.
 */
import { complexity } from '../../beit.js';
import type { BeitModel } from '../../model.js';
import type { PrecisionName } from '../../precision.js';
import { taskParts, type Task } from '../../task.js';
import { sampleInput } from '../inputs.js';
import { localise } from '../layers/localise.js';
import type { OnnxFile } from '../onnx-file.js';
import type { Check, LayersReport } from '../report.js';
import { NOISE_UNITS_ALLOWED, compareLogits } from '../compare.js';
import { sampleMask } from '../run-task.js';
import { SMALL_MODEL_FLOPS, reckon, runFile, type Input, type RunOptions } from '../run.js';
import { RuntimeRefusal } from '../runtime.js';
import type { Ends } from './foreign-task.js';
import { units } from './logits.js';

export interface LayersOptions extends RunOptions {
  readonly task: Task;
  readonly precision: PrecisionName;
  readonly ends: Ends | undefined;
  /** the outputs are */
  readonly wrong: boolean;
  /** weights have other bytes than the source's: look for them, also where no step shows it */
  readonly altered: boolean;
  /** what is in the file and not in the source, or the other way round */
  readonly unexplained: readonly string[];
}

export async function checkLayers(
  path: string,
  file: OnnxFile,
  model: BeitModel,
  inputs: readonly Input[],
  options: LayersOptions,
): Promise<{ check: Check; report?: LayersReport }> {
  const { ends } = options;
  if (!ends) {
    const detail = 'not run: input and output are not those of this model';
    return { check: { name: 'layers', passed: false, notRun: true, detail, findings: [] } };
  }
  const images = ends.batch ?? (complexity(model.config).flops < SMALL_MODEL_FLOPS ? 2 : 1);
  const pixels = new Float32Array(images * inputs[0].pixels.length);
  for (let i = 0; i < images; i++) {
    const source = inputs[i]?.pixels ?? sampleInput(model.config, options.seed ?? 0, inputs.length + i);
    pixels.set(source, i * source.length);
  }
  const { task } = options;
  const [rows, columns] = model.config.window;
  const masks = Array.from({ length: images }, (_, i) => sampleMask(rows * columns, options.seed ?? 0, i));
  try {
    let report = await localise(path, file, model, {
      ...options,
      ends,
      pixels,
      ...(task.name === 'masked-image' && !ends.unmasked && { mask: Buffer.concat(masks) }),
      images,
    });
    if (task.name === 'classify') {
      if (report.matched && !report.divergence && options.wrong)
        report = await mixedImages(report, path, model, inputs, ends, options);
      if (report.divergence?.step === 'logits' && report.suspects.length === 0)
        report = await mixedImages(report, path, model, inputs, ends, options);
    }
    return { check: checkOf(report, taskParts(model.config, task).blocks, options), report };
  } catch (error) {
    if (!(error instanceof RuntimeRefusal)) throw error;
    return { check: { name: 'layers', passed: false, detail: error.message, findings: [error.message] } };
  }
}

/** Whether an image alone gives what it should, though it does not among others. */
async function mixedImages(
  report: LayersReport,
  path: string,
  model: BeitModel,
  inputs: readonly Input[],
  ends: Ends,
  options: RunOptions,
): Promise<LayersReport> {
  if (ends.batch !== undefined) return report;
  const first = [inputs[0]];
  const { written } = await runFile(path, model, first, { ...options, ends: { ...ends, batch: 1 } });
  const [{ oracle, noise }] = await reckon(model, first, options);
  if (!(compareLogits(written[0][0], oracle, noise).noiseUnits <= NOISE_UNITS_ALLOWED)) return report;
  return {
    ...report,
    divergence: report.divergence ?? { step: 'logits', tensors: [] },
    suspects: [
      {
        mistake: 'the images of a batch influence each other: alone, the same image gives the right logits',
        tensors: [],
        rmsLeft: 0,
        explainsAll: true,
      },
    ],
  };
}

function checkOf(report: LayersReport, blocks: number, { wrong, unexplained }: LayersOptions): Check {
  const { matched, reason, points, divergence, steps, suspects, precision, hidden } = report;
  if (!matched) {
    const detail = `not run: ${reason}`;
    // A graph that nobody can read step by step may still give the right outputs.
    if (!wrong) return { name: 'layers', passed: true, notApplicable: true, detail, findings: [] };
    return { name: 'layers', passed: false, notRun: true, detail, findings: [] };
  }
  const seen = hidden === undefined ? [] : [hidden];
  if (!divergence) {
    const worst = points.reduce((a, b) => (b.units > a.units ? b : a));
    const detail = precision
      ? `${blocks} blocks against the source in float64, with ${precision}'s own band: rms error at most ${percent(largestShare(points))} of the values, ${units(worst.units)} times what ${precision} costs (${worst.name})`
      : `${blocks} blocks, each as the oracle computes it: at most ${units(worst.units)} times the expected rms noise (${worst.name})`;
    const [extra] = unexplained;
    if (!wrong) {
      const untouched = extra === undefined ? '' : `; no step is touched by this: ${extra}`;
      return { name: 'layers', passed: true, detail: detail + untouched, findings: seen };
    }
    const unexplainedError = precision
      ? `the outputs are not as good as ${precision} should be, but no single step is worse than its form explains: ${mostLost(points)}`
      : 'the outputs are wrong, but every step agrees with its own inputs';
    return {
      name: 'layers',
      passed: false,
      detail: unexplainedError,
      findings: [unexplainedError, detail, ...seen],
    };
  }
  const where =
    divergence.layer === undefined ? divergence.step : `layer ${divergence.layer}, ${divergence.step}`;
  if (divergence.unseen) {
    const detail = `no step leaves the noise, but the weights of ${where} are others: ${suspects[0].mistake}`;
    return { name: 'layers', passed: false, detail, findings: [detail] };
  }
  const off = steps.at(-1);
  const [suspect] = suspects;
  const detail = `the first step that is wrong: ${where}${suspect ? `: ${suspect.mistake}` : ''}`;
  const findings = [
    detail,
    ...(off
      ? [
          `${off.step}: rms error ${off.rms.toExponential(1)}, ${units(off.units)} times what ${precision ?? 'float32'} must be expected to have; every step before it is right`,
        ]
      : []),
    ...suspects
      .slice(1, 4)
      .map(
        ({ mistake, explainsAll }) =>
          `${explainsAll ? 'it would be explained as well' : 'much of it would be explained'} if ${mistake}`,
      ),
    ...(suspects.length === 0
      ? [
          `none of the known mistakes gives these values; tensors involved: ${divergence.tensors.join(', ') || 'none'}`,
        ]
      : suspect.tensors.length > 0
        ? [`tensors involved: ${suspect.tensors.join(', ')}`]
        : []),
    ...seen,
  ];
  return { name: 'layers', passed: false, detail, findings };
}

const percent = (share: number): string => `${(100 * share).toPrecision(2)} %`;

function largestShare(points: LayersReport['points']): number {
  return points.reduce((most, { rms, size }) => Math.max(most, rms / size), 0);
}

/** Where the error grows most, one clause. */
function mostLost(points: LayersReport['points']): string {
  let [most, from] = [points[0], 0];
  let growth = 0;
  let before = 0;
  for (const point of points) {
    const share = point.rms / point.size;
    if (share - before > growth) [growth, most, from] = [share - before, point, before];
    before = share;
  }
  return `it grows most in ${most.name} (from ${percent(from)} to ${percent(most.rms / most.size)})`;
}
