/** Sentences and numbers that the formats for people share. */
import { formatBytes } from '../../bytes.js';
import { COSINE_NEEDED } from '../compare.js';
import { units } from '../checks/logits.js';
import { percent } from '../checks/outputs.js';
import type { InputParity, LayersReport, OutputParity, Prediction } from '../report.js';
import type { ReportDocument } from './data.js';

export const VERDICTS = {
  passed: 'Parity passed',
  failed: 'Parity failed',
  skipped: 'Parity was not checked',
} as const;

/** What the verdict means, one sentence. */
export function verdictSentence({ parity, source }: ReportDocument): string {
  const what = parity.outputs ? 'outputs' : 'logits';
  switch (parity.verdict) {
    case 'passed':
      if (parity.precision) {
        return `Every number in the file is the nearest that ${parity.precision} can hold, and its ${what} are as near to those of ${source.id} as this precision should give: within the quality limits of ${parity.precision}.`;
      }
      return `The file computes what ${source.id} computes: its ${what} are as near to the float64 reference as float32 arithmetic can be expected to come.`;
    case 'failed': {
      // What could not run says nothing of its own.
      const failed = parity.checks.filter(({ passed, notRun }) => !passed && !notRun).map(({ name }) => name);
      const checks = `Failed: ${failed.join(', ')}.`;
      return parity.accepted
        ? `The file is not as near to ${source.id} as its precision should give, and was kept on request (--accept-quality). ${checks}`
        : `The file does not compute what ${source.id} computes. ${checks}`;
    }
    case 'skipped':
      return 'Nothing was compared: the conversion ran with --no-verify.';
  }
}

export interface Fact {
  readonly name: string;
  readonly value: string;
}

/** The numbers one looks for first. */
export function headlineFacts({ parity }: ReportDocument): Fact[] {
  const { logits, outputs, inputs } = parity;
  if (outputs) return outputsHeadline(outputs, inputs);
  if (!logits) return [];
  return [
    { name: 'largest logit error', value: logits.maxAbs.toExponential(1) },
    logits.quality
      ? {
          name: 'in standard deviations of the logits',
          value: `${logits.quality.deviation.toPrecision(2)} (${logits.quality.limits.deviation} allowed)`,
        }
      : {
          name: 'in noise units',
          value: `${units(logits.noiseUnits)} (${logits.noiseUnitsAllowed} allowed)`,
        },
    { name: 'cosine', value: logits.cosine.toFixed(9) },
    {
      name: 'same best class',
      value: `${Math.round(logits.top1Agreement * inputs.length)} of ${inputs.length}`,
    },
    {
      name: 'same best five',
      value: `${Math.round(logits.top5Agreement * inputs.length)} of ${inputs.length}`,
    },
  ];
}

function outputsHeadline(outputs: readonly OutputParity[], inputs: readonly InputParity[]): Fact[] {
  const most = (value: (output: OutputParity) => number): OutputParity =>
    outputs.reduce((worst, next) => (value(next) > value(worst) ? next : worst));
  const { quality } = outputs[0];
  const { noiseUnits, noiseUnitsAllowed } = most((output) => output.noiseUnits);
  const deviation = most((output) => output.deviation).deviation;
  return [
    { name: 'largest error', value: most(({ maxAbs }) => maxAbs).maxAbs.toExponential(1) },
    quality
      ? {
          name: 'in standard deviations of the output',
          value: `${deviation.toPrecision(2)} (${quality.limits.deviation} allowed)`,
        }
      : { name: 'in noise units', value: `${units(noiseUnits)} (${noiseUnitsAllowed} allowed)` },
    { name: 'cosine', value: Math.min(...outputs.map(({ cosine }) => cosine)).toFixed(9) },
    { name: 'outputs', value: String(outputs.length) },
    { name: 'inputs', value: String(inputs.length) },
    ...(inputs.every(({ places }) => places)
      ? [
          {
            name: 'same best class',
            value: `${ofAll(
              inputs.reduce((sum, { places }) => sum + places!.same, 0),
              inputs.reduce((sum, { places }) => sum + places!.compared, 0),
            )} places`,
          },
        ]
      : []),
  ];
}

function ofAll(some: number, all: number): string {
  return `${some.toLocaleString('en-US')} of ${all.toLocaleString('en-US')}`;
}

/** Is the output as near as it must be? The same limits as the check's, which says it in words. */
export function isWithin({
  noiseUnits,
  noiseUnitsAllowed,
  cosine,
  deviation,
  quality,
  top1Agreement = 1,
  top5Agreement = 1,
}: OutputParity): boolean {
  if (quality) {
    const { limits } = quality;
    const near = cosine >= limits.cosine && deviation <= limits.deviation;
    return near && top1Agreement >= (limits.top1 ?? 0) && top5Agreement >= (limits.top5 ?? 0);
  }
  return noiseUnits <= (noiseUnitsAllowed ?? 0) && cosine >= COSINE_NEEDED;
}

export interface Column {
  readonly title: string;
  readonly number?: true;
  /** text of any length, which may take several lines */
  readonly long?: true;
}

const numbers = (titles: readonly string[]): Column[] => titles.map((title) => ({ title, number: true }));

/** What is judged comes first: noise for float32, the spread of the values for lower precisions. */
export function outputColumns([first]: readonly OutputParity[]): Column[] {
  const judged = first.quality ? 'std deviations' : 'noise units';
  return [
    { title: 'output' },
    ...numbers([judged, 'max |error|', 'cosine']),
    ...(first.top1Agreement === undefined ? [] : numbers(['top-1, top-5'])),
    { title: 'shape' },
    ...numbers(['compared']),
    { title: 'largest error at' },
  ];
}

/** What the judged columns may be. */
export function outputLimits([{ quality, noiseUnitsAllowed }]: readonly OutputParity[]): string {
  if (quality) {
    const { cosine, deviation, top1, top5 } = quality.limits;
    const choices =
      top1 === undefined || top5 === undefined
        ? ''
        : ` Of the places, ${percent(top1)} must make the same best choice and ${percent(top5)} the same five.`;
    return `Allowed for ${quality.precision}: errors of ${deviation} standard deviations of the output, a cosine of at least ${cosine}.${choices}`;
  }
  return `Allowed: ${noiseUnitsAllowed} noise units, a cosine of at least ${COSINE_NEEDED}. One noise unit is the error that float32 must be expected to make there.`;
}

export function outputRows(outputs: readonly OutputParity[]): string[][] {
  return outputs.map((output) => {
    const { name, shape, compared, maxAbs, noiseUnits, cosine, deviation, quality, worst } = output;
    const { top1Agreement, top5Agreement } = output;
    return [
      name,
      quality ? deviation.toPrecision(2) : units(noiseUnits),
      maxAbs.toExponential(1),
      cosine.toFixed(9),
      ...(top1Agreement === undefined || top5Agreement === undefined
        ? []
        : [`${percent(top1Agreement)}, ${percent(top5Agreement)}`]),
      shape.join('×'),
      compared.toLocaleString('en-US'),
      worst ? `[${worst.at.join(', ')}] of ${worst.input}` : '',
    ];
  });
}

/** Noise units judge float32 only: a lower precision has millions of them. */
export function inputColumns(
  [first]: readonly OutputParity[],
  [{ places: segments }]: readonly InputParity[],
): Column[] {
  return [
    { title: 'input', long: true },
    ...numbers(first.quality ? ['max |error|'] : ['noise units', 'max |error|']),
    ...(segments ? numbers(['same class']) : []),
  ];
}

export function inputRows([first]: readonly OutputParity[], inputs: readonly InputParity[]): string[][] {
  return inputs.map(({ name, maxAbs, noiseUnits, places }) => [
    name,
    ...(first.quality ? [] : [units(noiseUnits)]),
    maxAbs.toExponential(1),
    ...(places ? [ofAll(places.same, places.compared)] : []),
  ]);
}

export function sourceFacts({ source }: ReportDocument): Fact[] {
  const { config } = source;
  return [
    { name: 'source', value: source.id },
    ...(source.commit === undefined ? [] : [{ name: 'commit', value: source.commit }]),
    ...source.files.flatMap(({ name, bytes, sha256 }) => [
      { name: 'file', value: `${name}, ${formatBytes(bytes)}` },
      ...(sha256 === undefined ? [] : [{ name: 'sha256', value: sha256 }]),
    ]),
    {
      name: 'read as',
      value: `${source.container}, ${source.layout} layout${source.version === undefined ? '' : `, BEiT v${source.version}`}`,
    },
    {
      name: 'model',
      value: `${config.depth} blocks × ${config.hiddenSize}, ${config.heads} heads, ${config.imageSize.join('×')}, patch ${config.patchSize}${answers(config)}`,
    },
    ...(source.labels
      ? [
          {
            name: 'class names',
            value: `${source.labels.count.toLocaleString('en-US')}, from ${source.labels.origin}`,
          },
        ]
      : []),
    {
      name: 'cost',
      value: `${source.parameters.toLocaleString('en-US')} parameters, ${source.flops.toLocaleString('en-US')} FLOPs`,
    },
  ];
}

/** A backbone has neither. */
function answers({ classes, vocabulary }: ReportDocument['source']['config']): string {
  if (vocabulary > 0) return `, ${vocabulary.toLocaleString('en-US')} visual tokens`;
  return classes > 0 ? `, ${classes.toLocaleString('en-US')} classes` : '';
}

export function fileFacts({ files }: ReportDocument): Fact[] {
  return files.flatMap(({ name, bytes, sha256 }) => [
    { name: 'file', value: `${name}, ${formatBytes(bytes)}` },
    ...(sha256 === undefined ? [] : [{ name: 'sha256', value: sha256 }]),
  ]);
}

export function machineFacts({ machine, tool, parity }: ReportDocument): Fact[] {
  return [
    { name: 'tool', value: `${tool.name} ${tool.version}` },
    ...(parity.runtime
      ? [{ name: 'runtime', value: `${parity.runtime.name} ${parity.runtime.version}` }]
      : []),
    ...(machine
      ? [
          { name: 'Node', value: machine.node },
          {
            name: 'machine',
            value: `${machine.processor}, ${machine.cores} cores, ${formatBytes(machine.memoryBytes)}, ${machine.platform} ${machine.arch}`,
          },
        ]
      : []),
    ...(parity.seconds === undefined ? [] : [{ name: 'took', value: `${parity.seconds.toFixed(1)} s` }]),
  ];
}

/** What is in a sound file: float32's own rounding, or what a lower precision costs. */
export const bandName = ({ precision }: LayersReport): string =>
  precision ? `what ${precision} must be expected to lose` : 'the float32 noise';

/** Where the file leaves the noise, one sentence; or that it does not. */
export function layersSentence(report: LayersReport): string {
  const { matched, reason, divergence, suspects, points } = report;
  if (!matched) return `The steps of BEiT were not found in this graph: ${reason}.`;
  if (!divergence) {
    const worst = points.reduce((a, b) => (b.units > a.units ? b : a));
    return `Every part stays in ${bandName(report)}: the largest rms error is ${units(worst.units)} times the expected one (${worst.name}).`;
  }
  const where =
    divergence.layer === undefined ? divergence.step : `layer ${divergence.layer}, ${divergence.step}`;
  if (divergence.unseen)
    return `No step leaves the noise, but the weights of ${where} are others than the source's: ${suspects[0].mistake}.`;
  const why =
    suspects.length > 0
      ? `What fits: ${suspects[0].mistake}.`
      : 'None of the known mistakes gives these values.';
  return `The first step that is wrong: ${where}. ${why}`;
}

export function outcomeOf(check: {
  passed: boolean;
  notRun?: true;
  notApplicable?: true;
}): 'ok' | 'failed' | 'not run' | 'n/a' {
  if (check.notApplicable) return 'n/a';
  if (check.passed) return 'ok';
  return check.notRun ? 'not run' : 'failed';
}

/** The best class, and how sure. */
export function called(prediction: Prediction | undefined): string {
  if (!prediction) return '';
  if (!Number.isFinite(prediction.probability)) return 'no finite numbers';
  return `${prediction.label ?? `class ${prediction.class}`} ${(100 * prediction.probability).toFixed(1)} %`;
}
