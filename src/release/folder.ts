/**
 * One checkpoint as a folder that clients load as it is: the models, the small files they look for, and how good the
 * models are.
 */
import { mkdir, rename, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { configJson, preprocessorJson } from '../convert/writers/transformers-folder.js';
import { ParityError } from '../errors.js';
import type { BeitModel } from '../model.js';
import { convertWatched, convertWeights, type Watch } from '../pipeline.js';
import type { PrecisionName } from '../precision.js';
import type { CommonOptions, ConvertOptions, ConvertResult, SourceOptions } from '../results.js';
import { weightStatistics } from '../statistics.js';
import { assembleReport } from '../verify/report/assemble.js';
import type { ReportDocument } from '../verify/report/data.js';
import { htmlReports } from '../verify/report/html.js';
import type { ParityReport } from '../verify/report.js';
import { jsonReport } from '../verify/report/write.js';
import { resolveTask } from '../task.js';
import { VERSION } from '../version.js';
import { modelCard } from './card.js';
import { commandOf } from './command.js';
import { hashFile, hashFolder } from './files.js';
import { itemInputs, withKnownLabels } from './inputs.js';
import type { ReleaseItem } from './manifest.js';
import { dateStamp, openmmlabName } from './names.js';
import { modelPath } from './plan.js';
import { parityPlot } from './plot.js';
import { byPath, type ModelParity, type ReleasedItem, type ReleasedModel } from './record.js';
import type { BuildOptions, Builder } from './release.js';
import { checksums } from './sums.js';

/** Options of the command line that a manifest has no field for. */
export type Extra = Partial<
  Pick<
    ConvertOptions,
    | 'layout'
    | 'ema'
    | 'key'
    | 'sharedTable'
    | 'patchSize'
    | 'stream'
    | 'reduceRange'
    | 'acceptQuality'
    | 'seed'
    | 'images'
    | 'threads'
    | 'batch'
    | 'outTypes'
    | 'outIndices'
    | 'finalNorm'
    | 'dropHead'
    | 'featureTaps'
    | 'upsample'
  >
>;

/** The {@link Builder} that converts. */
export const folderBuilder: Builder = {
  inputs: itemInputs,
  asFinished: (inputs, { released }) => withKnownLabels(inputs, released.source.labels),
  build: (item, folder, options) => buildFolder(item, folder, options),
};

/**
 * Fill an empty folder.
 *
 * @throws like `convert` and `convertWeights`; ParityError when one of the precisions is not as good as it should be
 */
export async function buildFolder(
  item: ReleaseItem,
  folder: string,
  options: BuildOptions,
  extra: Extra = {},
): Promise<ReleasedItem> {
  const precisions: readonly PrecisionName[] = item.dtype ?? ['fp32'];
  await mkdir(join(folder, 'onnx'));
  const documents: ReportDocument[] = [];
  let model: Pick<BeitModel, 'config' | 'labels' | 'preprocessing'> | undefined;
  let statistics: Awaited<ReturnType<typeof weightStatistics>> | undefined;
  const watch: Watch = async (file) => {
    model = file.model;
    if (file.parity.verdict === 'skipped') return;
    statistics ??= await weightStatistics(file.model.tensors, options.signal);
    documents.push(
      await assembleReport({
        ...file,
        // One input shows what the charts show; every input's numbers are in the report.
        pairs: file.pairs.slice(0, 1),
        files: file.files.map(({ path, ...rest }) => ({ ...rest, name: basename(path) })),
        toolVersion: VERSION,
        command: commandOf(item, file.source),
        pictures: [],
        statistics,
        reproducible: true,
        signal: options.signal,
      }),
    );
  };
  const source = { ...common(options), ...sourceOf(item), ...extra };
  const converted = await convertWatched(
    {
      ...source,
      // One precision alone is written where it is said.
      out: join(folder, precisions.length === 1 ? modelPath(precisions[0]) : modelPath('fp32')),
      task: item.task,
      precisions,
      opset: item.opset,
      keep: item.keep,
      externalData: item.external_data,
      samples: item.samples,
      verify: options.verify,
    },
    watch,
  ).catch((error: unknown) => {
    throw withoutFiles(error);
  });
  if (!model) throw new Error('a conversion without a model');
  const models = await placeModels(item, folder, converted, options);
  if (item.with_weights) await writeWeights(folder, source, options.verify);
  const write = (name: string, text: string): Promise<void> => writeFile(join(folder, name), text);
  await write('config.json', configJson(model, clientConfig(models, converted)));
  await write('preprocessor_config.json', preprocessorJson(model.preprocessing));
  const plot = parityPlot(models);
  if (documents.length > 0) {
    const reports = documents.map((document, i) => ({
      ...document,
      files: document.files.map((file, at) =>
        at === 0 ? { ...file, name: basename(models[i].path) } : file,
      ),
    }));
    await write('parity.json', parityJson(reports));
    await write('parity.html', htmlReports(reports));
    if (plot !== undefined) await write('parity.svg', plot);
  }
  const card = {
    // What nobody said follows from the checkpoint.
    item: { ...item, task: resolveTask(model.config, { task: item.task }).name },
    source: converted.source,
    models,
    ...(item.push !== undefined && { repo: repositoryOf(item.push, item.name) }),
    ...(model.labels && { labels: model.labels }),
    toolVersion: VERSION,
    outputs: converted.files[0].output.outputs.map(({ name }) => name),
    plot: documents.length > 0 && plot !== undefined,
  };
  await write('README.md', modelCard(card));
  const files = await hashFolder(folder, options.signal);
  await write('SHA256SUMS', checksums(files));
  files.push(await hashFile(folder, 'SHA256SUMS'));
  return { item, source: converted.source, models, files: files.sort(byPath) };
}

/** `me/{name}` for a model. */
export function repositoryOf(template: string, name: string): string {
  return template.replaceAll('{name}', name);
}

/** What a single conversion keeps of several precisions, a folder does not: it is whole or not there. */
function withoutFiles(error: unknown): unknown {
  if (!(error instanceof ParityError)) return error;
  return new ParityError(error.message, error.report, {
    next: `Nothing was written. ${error.next?.replace(/^(?:Nothing was written|Written were .*?, the others not)\. /, '') ?? ''}`,
    cause: error,
  });
}

function common({ signal, env, onNote, onProgress }: BuildOptions): CommonOptions {
  return { signal, env, onNote, onProgress };
}

function sourceOf(item: ReleaseItem): SourceOptions {
  const { image_size: size } = item;
  return {
    src: item.source,
    configPath: item.config,
    labels: item.labels,
    version: item.beit_version,
    ...(size !== undefined && { imageSize: typeof size === 'number' ? [size, size] : size }),
    resize: item.resize,
  };
}

/** Dated names bear the start of the file's digest, so a file has to be there before it has its name. */
async function placeModels(
  item: ReleaseItem,
  folder: string,
  converted: ConvertResult,
  { nameStyle, epoch }: BuildOptions,
): Promise<ReleasedModel[]> {
  const models: ReleasedModel[] = [];
  for (const { output, parity } of converted.files) {
    const { bytes, sha256 = '', precision: dtype, opset } = output;
    let path = modelPath(dtype);
    if (nameStyle === 'openmmlab') {
      const date = dateStamp(epoch ?? Date.now() / 1000);
      path = `onnx/${openmmlabName(item.name, dtype, converted.source.config.classes, date, sha256)}`;
      // Weights in a file of their own keep its name: the model refers to it.
      await rename(join(folder, modelPath(dtype)), join(folder, path));
    }
    models.push({ path, bytes, sha256, dtype, opset, parity: summaryOf(parity) });
  }
  return models;
}

function summaryOf({ verdict, logits, outputs }: ParityReport): ModelParity {
  if (outputs && outputs.length > 0) {
    return {
      verdict,
      maxAbs: Math.max(...outputs.map(({ maxAbs }) => maxAbs)),
      cosine: Math.min(...outputs.map(({ cosine }) => cosine)),
    };
  }
  if (!logits) return { verdict };
  const { maxAbs, cosine, top1Agreement, top5Agreement } = logits;
  return { verdict, maxAbs, cosine, top1Agreement, top5Agreement };
}

async function writeWeights(folder: string, source: SourceOptions, verify: boolean): Promise<void> {
  await convertWeights({ ...source, out: join(folder, 'model.safetensors'), to: 'transformers', verify });
}

/**
 * What transformers.js has to be told. In a browser it would take q8 unasked, also where there is none.
 *
 * @see transformers.js `src/configs.js` `TransformersJSConfig`
 */
function clientConfig(models: readonly ReleasedModel[], { files }: ConvertResult): object {
  // Its names for files are fixed: dated ones are not found.
  if (models.some(({ path, dtype }) => path !== modelPath(dtype))) return {};
  const external = files.filter(({ output }) => output.externalData);
  return {
    'transformers.js_config': {
      dtype: (models.find(({ dtype }) => dtype === 'fp32') ?? models[0]).dtype,
      ...(external.length > 0 && {
        use_external_data_format: Object.fromEntries(
          external.map(({ output }) => [basename(output.path), 1]),
        ),
      }),
    },
  };
}

/** All files' reports, each as `docs/report.schema.json` says. */
function parityJson(reports: readonly ReportDocument[]): string {
  return jsonReport({ schema: 'convert-beit-reports', schemaVersion: 1, reports });
}
