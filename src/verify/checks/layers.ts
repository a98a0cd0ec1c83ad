/**
 * Where the file leaves the oracle, as a check: the layer, the step, and the mistake that fits.
 */
import { complexity } from '../../beit.js';
import type { BeitModel } from '../../model.js';
import { sampleInput } from '../inputs.js';
import { localise } from '../layers/localise.js';
import type { OnnxFile } from '../onnx-file.js';
import type { Check, LayersReport } from '../report.js';
import { NOISE_UNITS_ALLOWED, compareLogits } from '../compare.js';
import { SMALL_MODEL_FLOPS, reckon, runFile, type Input, type RunOptions } from '../run.js';
import { RuntimeRefusal } from '../runtime.js';
import type { Ends } from './foreign.js';
import { units } from './logits.js';

export interface LayersOptions extends RunOptions {
  readonly ends: Ends | undefined;
  readonly wrong: boolean;
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
  try {
    let report = await localise(path, file, model, { ...options, pixels, images });
    if (report.matched && !report.divergence && options.wrong)
      report = await mixedImages(report, path, model, inputs, ends, options);
    if (report.divergence?.step === 'logits' && report.suspects.length === 0) {
      report = await mixedImages(report, path, model, inputs, ends, options);
    }
    return { check: checkOf(report, model, options.wrong), report };
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

function checkOf(report: LayersReport, model: BeitModel, wrong: boolean): Check {
  const { matched, reason, points, divergence, steps, suspects } = report;
  const { depth } = model.config;
  if (!matched) {
    const detail = `not run: ${reason}`;
    // A graph that nobody can read step by step may still give the right logits.
    if (!wrong) return { name: 'layers', passed: true, notApplicable: true, detail, findings: [] };
    return { name: 'layers', passed: false, notRun: true, detail, findings: [] };
  }
  if (!divergence) {
    const worst = points.reduce((a, b) => (b.units > a.units ? b : a));
    const detail = `${depth} blocks, each as the oracle computes it: at most ${units(worst.units)} times the expected rms noise (${worst.name})`;
    if (!wrong) return { name: 'layers', passed: true, detail, findings: [] };
    const unexplained = 'the logits are wrong, but every step agrees with its own inputs';
    return { name: 'layers', passed: false, detail: unexplained, findings: [unexplained, detail] };
  }
  const where =
    divergence.layer === undefined ? divergence.step : `layer ${divergence.layer}, ${divergence.step}`;
  const off = steps.at(-1);
  const [suspect] = suspects;
  const detail = `the first step that is wrong: ${where}${suspect ? `: ${suspect.mistake}` : ''}`;
  const findings = [
    detail,
    ...(off
      ? [
          `${off.step}: rms error ${off.rms.toExponential(1)}, ${units(off.units)} times the expected rms noise; every step before it is right`,
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
  ];
  return { name: 'layers', passed: false, detail, findings };
}
