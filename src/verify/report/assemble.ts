/**
 * Puts a report together from what a verb knows.
 */
import { basename } from 'node:path';
import type { BeitModel } from '../../model.js';
import { weightStatistics } from '../../statistics.js';
import type { LogitsPair } from '../checks/logits.js';
import type { ParityReport } from '../report.js';
import {
  REPORT_VERSION,
  logitDetails,
  thisMachine,
  type Picture,
  type ReportDocument,
  type ReportFile,
  type ReportSource,
} from './data.js';

export interface ReportParts {
  readonly toolVersion: string;
  readonly command: string;
  readonly source: ReportSource;
  /** the model first; only names go into the report, never folders */
  readonly files: readonly ReportFile[];
  readonly parity: ParityReport;
  readonly pairs: readonly LogitsPair[];
  readonly model: BeitModel;
  readonly pictures: readonly Picture[];
  readonly signal?: AbortSignal;
}

export async function assembleReport(parts: ReportParts): Promise<ReportDocument> {
  const { toolVersion, command, parity, pairs, model, pictures, signal } = parts;
  const { id, commit, files, container, layout, version, config, parameters, flops, preprocessing, notes } =
    parts.source;
  const statistics = await weightStatistics(model.tensors, signal);
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
      notes,
    },
    files: parts.files.map((file) => ({ ...file, name: basename(file.name) })),
    machine: thisMachine(),
    parity,
    logits: logitDetails(pairs),
    weights: [...statistics.groups].map(([name, of]) => ({ name, statistics: of })),
    unusual: statistics.unusual,
    pictures,
  };
}
