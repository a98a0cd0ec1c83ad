/**
 * Puts a report together from what a verb knows.
 */
import { basename } from 'node:path';
import type { BeitModel } from '../../model.js';
import { weightStatistics, type WeightStatistics } from '../../statistics.js';
import type { LogitsPair } from '../checks/logits.js';
import type { ParityReport } from '../report.js';
import {
  REPORT_VERSION,
  thisMachine,
  type OutputDetails,
  type Picture,
  type ReportDocument,
  type ReportFile,
  type ReportSource,
} from './data.js';
import { logitDetails } from './details.js';

export interface ReportParts {
  readonly toolVersion: string;
  readonly command: string;
  readonly source: ReportSource;
  /** the model first; only names go into the report, never folders */
  readonly files: readonly ReportFile[];
  readonly parity: ParityReport;
  readonly pairs: readonly LogitsPair[];
  readonly outputs: readonly OutputDetails[];
  readonly model: BeitModel;
  readonly pictures: readonly Picture[];
  readonly signal?: AbortSignal;
  /** leave out what differs from machine to machine and from run to run */
  readonly reproducible?: boolean;
  /** when it is known already */
  readonly statistics?: WeightStatistics;
}

export async function assembleReport(parts: ReportParts): Promise<ReportDocument> {
  const { toolVersion, command, pairs, model, pictures, signal, reproducible } = parts;
  const { id, commit, files, container, layout, version, config } = parts.source;
  const { parameters, flops, preprocessing, labels, notes } = parts.source;
  const { seconds, ...parity } = parts.parity;
  const statistics = parts.statistics ?? (await weightStatistics(model.tensors, signal));
  return {
    schema: 'convert-beit-report',
    schemaVersion: REPORT_VERSION,
    tool: { name: 'convert-beit', version: toolVersion },
    command,
    source: {
      id,
      ...(commit !== undefined && { commit }),
      files,
      container,
      layout,
      ...(version !== undefined && { version }),
      config,
      parameters,
      flops,
      preprocessing,
      ...(labels && { labels }),
      notes,
    },
    files: parts.files.map((file) => ({ ...file, name: basename(file.name) })),
    ...(!reproducible && { machine: thisMachine() }),
    parity: { ...parity, ...(!reproducible && { seconds }) },
    logits: logitDetails(pairs),
    outputs: parts.outputs,
    weights: [...statistics.groups].map(([name, of]) => ({ name, statistics: of })),
    unusual: statistics.unusual,
    pictures,
  };
}
