/**
 * A path → a {@link BeitModel}: canonical weights (unread), config, and everything known about where they are from.
 */
import type { BeitConfig } from '../beit.js';
import { InputError } from '../errors.js';
import { fitLabels } from '../labels.js';
import { officialPreprocessing, type Preprocessing } from '../preprocessing.js';
import type { BeitModel, SourceFile } from '../model.js';
import { assess, type Assessment, type LoadOptions } from './assess.js';
import { checkIndexBuffers } from './relative-position.js';
import { spreadSharedTable } from './shared-table.js';

export type { LoadOptions } from './assess.js';
export { inspectCheckpoint, type CheckpointInspection, type InspectedTensor } from './inspect.js';

/**
 * Open a checkpoint as a model. Only headers and index buffers are read; weights are read when somebody pulls.
 *
 * @param path a checkpoint file, or a folder with exactly one
 * @returns the caller closes it
 * @throws InputError, FormatError if it is no readable checkpoint
 * @throws LayoutError, ShapeError if its tensors are not exactly those of one BEiT, or contradict a config
 */
export async function loadModel(path: string, options: LoadOptions = {}): Promise<BeitModel> {
  const found = await assess(path, options);
  try {
    const { problem, applied, config, tensors, checkpoint } = found;
    if (problem) throw problem;
    if (!applied || !config || !tensors) throw new InputError(`${found.file} could not be assessed`);
    if (options.checkBuffers ?? true) await checkIndexBuffers(applied.buffers, applied.bufferNames, config);
    const notes = [...found.notes];
    const labels = checkLabels(options, found, config, notes);
    const model: BeitModel = {
      config,
      tensors,
      sourceNames: applied.sourceNames,
      buffers: applied.buffers,
      provenance: {
        id: options.id ?? found.file,
        ...(options.commit !== undefined && { commit: options.commit }),
        files: withSha256(checkpoint.files, options.sha256),
        container: checkpoint.container,
        layout: applied.layout.name,
        ...(applied.prefix !== '' && { prefix: applied.prefix }),
        ...(found.version !== undefined && { version: found.version }),
        versionEvidence: found.versionEvidence,
      },
      preprocessing: choosePreprocessing(found, config, notes),
      ...(labels && { labels, labelsOrigin: found.labelsOrigin }),
      notes,
      close: () => checkpoint.close(),
    };
    const spread = options.sharedTable === 'spread' ? spreadSharedTable(model) : model;
    const { imageSize, patchSize, resize } = options;
    if (imageSize === undefined && patchSize === undefined && resize === undefined) return spread;
    const { resizeModel } = await import('./resize/model.js');
    return resizeModel(spread, { imageSize, patchSize, method: resize });
  } catch (error) {
    await found.checkpoint.close();
    throw error;
  }
}

function withSha256(files: readonly SourceFile[], sha256: string | undefined): readonly SourceFile[] {
  if (sha256 === undefined) return files;
  return files.map((file, i) => (i === 0 ? { ...file, sha256 } : file));
}

function checkLabels(
  options: LoadOptions,
  found: Assessment,
  config: BeitConfig,
  notes: string[],
): readonly string[] | undefined {
  // A transformers config names two classes even where there are none.
  if (config.classes === 0 && !options.labels) return undefined;
  const labels = found.labels && fitLabels(found.labels, config.classes);
  if (!labels || labels.length === config.classes) return labels;
  const text = `${labels.length.toLocaleString('en-US')} class names for a head of ${config.classes.toLocaleString('en-US')} classes`;
  if (options.labels) throw new InputError(text, { next: 'Give the names that belong to these weights.' });
  notes.push(`${text}: the names are left out`);
  return undefined;
}

function choosePreprocessing(found: Assessment, config: BeitConfig, notes: string[]): Preprocessing {
  const { preprocessing, version } = found;
  if (preprocessing) {
    if (
      preprocessing.mean.length === config.channels &&
      String(preprocessing.crop) === String(config.imageSize)
    ) {
      return preprocessing;
    }
    notes.push(
      `the preprocessing of ${preprocessing.origin} is left out: it makes ${preprocessing.mean.length}×${preprocessing.crop.join('×')} images, the model takes ${config.channels}×${config.imageSize.join('×')}`,
    );
  }
  const origin = `official evaluation transform of BEiT v${version ?? 1}`;
  const assumed = version === undefined ? `${origin}, assumed: ${found.versionEvidence}` : origin;
  if (version === undefined) {
    notes.push('preprocessing of BEiT v1 assumed (mean and std 0.5): nothing in the file tells v1 from v2');
  }
  const official = officialPreprocessing(version ?? 1, config.imageSize, assumed);
  if (official.mean.length === config.channels) return official;
  notes.push(`nothing is published about images of ${config.channels} channel(s): mean and std 0.5 assumed`);
  const halves = Array.from({ length: config.channels }, () => 0.5);
  return { ...official, mean: halves, std: halves };
}
