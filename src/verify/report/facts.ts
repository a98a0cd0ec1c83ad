/** Sentences and numbers that the formats for people share. */
import { formatBytes } from '../../bytes.js';
import { units } from '../checks/logits.js';
import type { LayersReport } from '../report.js';
import type { ReportDocument } from './data.js';

export const VERDICTS = {
  passed: 'Parity passed',
  failed: 'Parity failed',
  skipped: 'Parity was not checked',
} as const;

/** What the verdict means, one sentence. */
export function verdictSentence({ parity, source }: ReportDocument): string {
  switch (parity.verdict) {
    case 'passed':
      if (parity.logits?.quality) {
        return `Every number in the file is the nearest that ${parity.logits.quality.precision} can hold, and its logits are as near to those of ${source.id} as this precision should give.`;
      }
      return `The file computes what ${source.id} computes: its logits are as near to the float64 reference as float32 arithmetic can be expected to come.`;
    case 'failed': {
      const failed = parity.checks.filter(({ passed }) => !passed).map(({ name }) => name);
      return `The file does not compute what ${source.id} computes. Failed: ${failed.join(', ')}.`;
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
  const { logits, inputs } = parity;
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
      value: `${config.depth} blocks × ${config.hiddenSize}, ${config.heads} heads, ${config.imageSize.join('×')}, patch ${config.patchSize}, ${config.classes.toLocaleString('en-US')} classes`,
    },
    {
      name: 'cost',
      value: `${source.parameters.toLocaleString('en-US')} parameters, ${source.flops.toLocaleString('en-US')} FLOPs`,
    },
  ];
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
