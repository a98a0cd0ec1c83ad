/**
 * The parity report: data first, then the same as lines for a terminal.
 */
import { printable } from '../errors.js';

/** Outcome of one check. `detail` is one sentence a person can act on. */
export interface Check {
  readonly name:
    | 'structure'
    | 'inventory'
    | 'provenance'
    | 'logits'
    | 'outputs'
    | 'sizes'
    | 'layers'
    | 'against'
    | 'golden';
  readonly passed: boolean;
  /** one sentence a person can act on */
  readonly detail: string;
  /** everything that is wrong, one sentence each; empty when passed */
  readonly findings: readonly string[];
  /** it could not be made, because an earlier one failed; never together with `passed` */
  readonly notRun?: true;
  /** it says nothing about a file of another tool; always together with `passed` */
  readonly notApplicable?: true;
}

/** Written file against oracle, over all inputs. */
export interface LogitsParity {
  /** largest |written - oracle| of a logit */
  readonly maxAbs: number;
  /** error divided by the input's largest |logit| */
  readonly maxRel: number;
  /** smallest over the inputs */
  readonly cosine: number;
  /** `max |error| / expected rms float32 noise`, worst over the inputs */
  readonly noiseUnits: number;
  /** what `noiseUnits` may be; absent for lower precisions, which {@link quality} judges */
  readonly noiseUnitsAllowed?: number;
  /** expected rms float32 noise of one logit, largest over the inputs */
  readonly expectedNoise: number;
  /** fraction of inputs with the same best class / the same set of five best classes; ties within the noise agree */
  readonly top1Agreement: number;
  readonly top5Agreement: number;
  /** lower precisions only */
  readonly quality?: {
    readonly precision: string;
    /** largest error in standard deviations of the oracle's logits over the classes */
    readonly deviation: number;
    /** like `top1Agreement`, without ties */
    readonly top1Strict: number;
    readonly limits: {
      readonly cosine: number;
      readonly deviation: number;
      readonly top1: number;
      readonly top5: number;
    };
  };
}

/** One output of a graph that is no classifier, over all inputs. */
export interface OutputParity {
  readonly name: string;
  /** of one image */
  readonly shape: readonly number[];
  /** elements that were compared; less than all where the oracle reckons some places only */
  readonly compared: number;
  readonly maxAbs: number;
  /** error divided by the largest |value| */
  readonly maxRel: number;
  readonly cosine: number;
  readonly noiseUnits: number;
  readonly expectedNoise: number;
  /** largest error in standard deviations of the oracle's values */
  readonly deviation: number;
  /** where the largest error is: an input's name, and the element in its output; absent where there is none */
  readonly worst?: { readonly input: string; readonly at: readonly number[] };
  /** what `noiseUnits` may be; absent for lower precisions, which `quality` judges */
  readonly noiseUnitsAllowed?: number;
  /** lower precisions only: `deviation` at most; at least `cosine`, and the two agreements where there are any */
  readonly quality?: {
    readonly precision: string;
    readonly limits: {
      readonly cosine: number;
      readonly deviation: number;
      readonly top1?: number;
      readonly top5?: number;
    };
  };
  /** where every patch chooses among a vocabulary: fraction of the patches with the same best choice / five best ones */
  readonly top1Agreement?: number;
  readonly top5Agreement?: number;
}

/** One of the best classes. */
export interface Prediction {
  /** number of the class, from 0 */
  readonly class: number;
  readonly label?: string;
  /** softmax */
  readonly probability: number;
  readonly logit: number;
}

/** One of the classes that a segmentation sees most of. */
export interface ClassShare {
  /** number of the class, from 0 */
  readonly class: number;
  readonly label?: string;
  /** of the places that were compared */
  readonly share: number;
}

/** The best class of every place of a segmentation's map that was compared. */
export interface PlacesParity {
  readonly compared: number;
  /** places with the same best class by both; ties within the noise agree */
  readonly same: number;
  /** the five largest classes, by the written file and by the oracle */
  readonly written: readonly ClassShare[];
  readonly oracle: readonly ClassShare[];
}

/** One input that was compared. */
export interface InputParity {
  /** `seed 0 #0` or the image's file name */
  readonly name: string;
  /** largest |written - oracle|, of all outputs */
  readonly maxAbs: number;
  /** `maxAbs` in units of the float32 noise expected here; of several outputs, the worst */
  readonly noiseUnits: number;
  /** five best classes by the written file; none where the graph is no classifier */
  readonly written: readonly Prediction[];
  /** by the float64 reference */
  readonly oracle: readonly Prediction[];
  /** segmentation only */
  readonly places?: PlacesParity;
}

/** A place on the way through the network: the file's values against the oracle's. */
export interface LayerPoint {
  /** `embedding`, `block 3`, `features`, `logits` */
  readonly name: string;
  /** of a block, from 0 */
  readonly layer?: number;
  readonly maxAbs: number;
  readonly rms: number;
  /** rms of the oracle's values there */
  readonly size: number;
  /** rms error that float32 must be expected to have gathered there */
  readonly noise: number;
  /** `rms / noise` */
  readonly units: number;
}

/** One step, recomputed in float64 from the file's own inputs of that step. */
export interface StepOutcome {
  /** `LN1`, `attention scores`, … */
  readonly step: string;
  readonly maxAbs: number;
  readonly rms: number;
  /** rms error that float32 must be expected to make in this step alone */
  readonly noise: number;
  /** `rms / noise`: 1 is what rounding must give */
  readonly units: number;
}

/** A mistake, and what would be left of the error if it had been made. */
export interface LayerSuspect {
  /** clause: `q and k are swapped` */
  readonly mistake: string;
  /** canonical names */
  readonly tensors: readonly string[];
  /** rms error of the place, recomputed with the mistake */
  readonly rmsLeft: number;
  /** nothing but noise is left */
  readonly explainsAll: boolean;
}

/** Where the file leaves the float32 noise, and why. */
export interface LayersReport {
  /** the steps of BEiT were found in the graph; `reason` says why not */
  readonly matched: boolean;
  readonly reason?: string;
  /** lower ones than float32: noise is what this precision must be expected to have */
  readonly precision?: string;
  /** one sentence about steps that are inside a node, where nobody can see them */
  readonly hidden?: string;
  /** from the embedding to the logits */
  readonly points: readonly LayerPoint[];
  /** the first step that disagrees with its own inputs; absent: none does */
  readonly divergence?: {
    readonly layer?: number;
    readonly step: string;
    readonly tensors: readonly string[];
    /** no number shows it: the file's own tensors do */
    readonly unseen?: true;
  };
  /** of the place of the divergence, up to it */
  readonly steps: readonly StepOutcome[];
  /** the likeliest first */
  readonly suspects: readonly LayerSuspect[];
}

/** Is the written file the model that was read? Every check, and how far its outputs are off. */
export interface ParityReport {
  /** `skipped`: nobody checked */
  readonly verdict: 'passed' | 'failed' | 'skipped';
  /** in the order in which they were made */
  readonly checks: readonly Check[];
  readonly logits?: LogitsParity;
  /** instead of `logits`, for graphs that are no classifiers */
  readonly outputs?: readonly OutputParity[];
  /** only where it was asked for */
  readonly layers?: LayersReport;
  readonly inputs: readonly InputParity[];
  readonly runtime?: { readonly name: 'onnxruntime-node'; readonly version: string };
  readonly seconds: number;
  /** the file's own, if it is lower than float32: `passed` then means within the quality limits of it */
  readonly precision?: string;
  /** the file is not as good as its precision should be, and somebody asked for it nevertheless */
  readonly accepted?: true;
}

const MOST_FINDINGS = 8;
const MOST_INPUTS = 8;

/** Lines for a terminal, verdict first, no colours, no trailing blanks. */
export function formatReport(report: ParityReport): string[] {
  if (report.verdict === 'skipped') return ['parity not checked'];
  const lines = [headline(report)];
  const width = Math.max(...report.checks.map(({ name }) => name.length));
  for (const check of report.checks) {
    const outcome = check.notApplicable ? 'n/a' : check.passed ? 'ok' : check.notRun ? '-' : 'FAILED';
    lines.push(`  ${check.name.padEnd(width)}  ${outcome.padEnd(6)}  ${check.detail}`);
    // A single finding is the detail already.
    const more = check.findings.filter((finding) => finding !== check.detail);
    const indent = ' '.repeat(width + 12);
    for (const finding of more.slice(0, MOST_FINDINGS)) lines.push(`${indent}${finding}`);
    if (more.length > MOST_FINDINGS) lines.push(`${indent}and ${more.length - MOST_FINDINGS} more`);
  }
  const cause = likelyCause(report);
  if (cause) lines.push(`  ${cause}`);
  for (const input of report.inputs.slice(0, MOST_INPUTS)) lines.push(...inputLines(input));
  if (report.inputs.length > MOST_INPUTS)
    lines.push(`  and ${report.inputs.length - MOST_INPUTS} more inputs`);
  return lines;
}

function headline({ verdict, checks, logits, runtime, seconds, accepted, precision }: ParityReport): string {
  const how = [
    ...(logits ? [`cosine ${logits.cosine.toFixed(9)}`] : []),
    ...(runtime ? [`${runtime.name} ${runtime.version}`] : []),
    `${seconds.toFixed(1)} s`,
  ].join(', ');
  if (verdict === 'passed') {
    return precision
      ? `parity passed: the file is as good as ${precision} should be (${how})`
      : `parity passed: the file computes what the source computes (${how})`;
  }
  if (accepted)
    return `parity FAILED, accepted as it is: ${precision ?? 'its precision'} should be better (${how})`;
  const failed = checks.filter(({ passed, notRun }) => !passed && !notRun).map(({ name }) => name);
  return `parity FAILED: ${failed.join(', ')} (${how})`;
}

function inputLines({ name, maxAbs, noiseUnits, written, oracle, places }: InputParity): string[] {
  const error = `max |error| ${maxAbs.toExponential(1)}, ${noiseUnits.toFixed(1)} noise units`;
  const seen = places ? `; same best class at ${places.same} of ${places.compared} places` : '';
  if (written.length === 0) return [`  ${printable(name)}: ${error}${seen}`];
  const lines = [`  ${printable(name)}: ${error}; best: ${best(written)}`];
  if (written[0]?.class !== oracle[0]?.class) lines.push(`    by the source: ${best(oracle)}`);
  return lines;
}

function best(predictions: readonly Prediction[]): string {
  if (predictions.some(({ probability }) => !Number.isFinite(probability))) return 'no finite numbers';
  return predictions
    .slice(0, 3)
    .map(({ class: index, label, probability }) => {
      const name = label === undefined ? `class ${index}` : printable(label, 40);
      return `${name} ${(100 * probability).toFixed(1)} %`;
    })
    .join(', ');
}

/** What kind of mistake fits, when the pattern of checks tells. */
function likelyCause({ verdict, checks, logits }: ParityReport): string | undefined {
  if (verdict !== 'failed') return undefined;
  const state = new Map(checks.map((check) => [check.name, check]));
  const failed = (name: Check['name']): boolean =>
    state.get(name)?.passed === false && !state.get(name)?.notRun;
  // Weights files have no logits: the findings say it all.
  if (!state.has('logits') || state.get('logits')?.notRun) return undefined;
  if (logits?.quality && !failed('provenance') && !failed('inventory') && !failed('structure')) {
    return 'Every number in the file is the nearest its form can hold: this model loses more in it than most. Keep more places (--keep), or take a higher precision.';
  }
  if (failed('provenance'))
    return 'The weights in the file are not those of the source: it was made from another checkpoint, or altered.';
  if (failed('inventory'))
    return 'The file has not the tensors of this source: another model, another config, or a converter that left something out.';
  if (failed('structure') && failed('logits'))
    return 'The graph differs from BEiT where the structure check says, and the logits show it.';
  if (failed('structure')) return 'The graph differs from BEiT, though these inputs do not show it.';
  if (logits && logits.maxRel < 1e-2) {
    return 'All weights are right, the computation is slightly off: an approximated GELU, another epsilon or lower precision fits.';
  }
  return 'All weights are right, the computation is not: a node is wired, ordered or parametrised wrongly.';
}
