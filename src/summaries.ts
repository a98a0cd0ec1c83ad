/**
 * How sources and written files are summed up in what the verbs return.
 */
import { createHash } from 'node:crypto';
import { basename, join } from 'node:path';
import { complexity } from './beit.js';
import type { Expressed, OutputPlan, WrittenOutput } from './convert/writers/index.js';
import type { Exported } from './export/index.js';
import type { NamedLabels } from './label-sets.js';
import type { BeitModel } from './model.js';
import type {
  FileSummary,
  LabelsSummary,
  OutputSummary,
  PortSummary,
  SourceSummary,
  WeightsOutput,
} from './results.js';

export function labelsSummary({ labels, origin }: NamedLabels): LabelsSummary {
  const sha256 = createHash('sha256').update(JSON.stringify(labels)).digest('hex');
  return { count: labels.length, origin, sha256 };
}

/** @param sha256 by file name */
export function sourceSummary(model: BeitModel, sha256: ReadonlyMap<string, string>): SourceSummary {
  const { provenance, config, resized, preprocessing, labels, labelsOrigin = '', notes } = model;
  return {
    id: provenance.id,
    ...(provenance.commit === undefined ? {} : { commit: provenance.commit }),
    files: provenance.files.map(({ name, source }) => ({
      name,
      bytes: source.size,
      sha256: sha256.get(name),
    })),
    container: provenance.container,
    layout: provenance.layout,
    ...(provenance.prefix === undefined ? {} : { prefix: provenance.prefix }),
    ...(provenance.version === undefined ? {} : { version: provenance.version }),
    versionEvidence: provenance.versionEvidence,
    config,
    ...(resized && { resized }),
    ...complexity(config),
    preprocessing,
    ...(labels && { labels: labelsSummary({ labels, origin: labelsOrigin }) }),
    notes,
  };
}

/** @param path where the file is now */
export function outputSummary(exported: Exported, path: string): OutputSummary {
  const port = ({ name, shape, dtype }: Exported['inputs'][number]): PortSummary => ({
    name,
    dtype: dtype ?? 'float32',
    shape,
  });
  const { bytes, sha256 } = exported.model;
  return {
    path,
    precision: exported.precision,
    bytes,
    ...(sha256 !== undefined && { sha256 }),
    ...(exported.data ? { externalData: { ...exported.data, path: `${path}_data` } } : {}),
    opset: exported.opset,
    irVersion: exported.irVersion,
    inputs: exported.inputs.map(port),
    outputs: exported.outputs.map(port),
  };
}

/**
 * @param sha256 of the weights file
 * @param path   where the file or folder is now
 */
export function weightsSummary(
  written: WrittenOutput,
  sha256: string | undefined,
  expressed: Expressed,
  plan: OutputPlan,
  path: string,
): WeightsOutput {
  const placed = (file: FileSummary): FileSummary => ({
    ...file,
    ...(file === written.weights && sha256 !== undefined && { sha256 }),
    path: plan.folder ? join(path, basename(file.path)) : path,
  });
  return {
    ...placed(written.weights),
    container: plan.container,
    layout: expressed.layout.name,
    tensors: expressed.tensors.size,
    buffers: expressed.buffers.size,
    added: expressed.added.length,
    dropped: expressed.dropped,
    ...(plan.folder && { files: written.files.map(placed) }),
  };
}
