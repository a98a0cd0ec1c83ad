/**
 * The verbs, each readable as one straight line: resolve, load, write, verify, publish.
 */
import { constants } from 'node:fs';
import { copyFile, link } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { DEFAULT_CATALOG_NAME } from './convert/catalog-data.js';
import { catalog } from './convert/catalog.js';
import type { Checkpoint } from './convert/checkpoint.js';
import type { LoadOptions } from './convert/load.js';
import { parseSource, resolveSource, type ResolvedSource } from './convert/source.js';
import { containerOf } from './convert/writers/container.js';
import type { Expressed, WrittenOutput } from './convert/writers/index.js';
import { prepareDigest, sha256Of } from './digest.js';
import { dynamicMethod, requireDynamic } from './dynamic-size.js';
import { FormatError, InterruptedError, ParityError, listNames, printable } from './errors.js';
import type { Exported } from './export/index.js';
import type { BeitModel } from './model.js';
import { checkReports, filesOf, insist, measure, report, type Measured, type Reported } from './parity.js';
import {
  outputSummary,
  sourceSummary,
  weightsSummary,
  type CatalogEntry,
  type ConvertOptions,
  type ConvertResult,
  type DiffOptions,
  type DiffResult,
  type InspectOptions,
  type Inspection,
  type OutputSummary,
  type SourceOptions,
  type SourceSummary,
  type VerifyOptions,
  type VerifyResult,
  type WeightsOptions,
  type WeightsResult,
  type WrittenFile,
} from './results.js';
import { planPrecisions } from './plan.js';
import { resolveTask, type Task } from './task.js';
import { flushFile, openFolderTarget, openTarget, type Target } from './target.js';
import type { ParityReport } from './verify/report.js';
import type { Truth } from './verify/verify.js';
import { VERSION } from './version.js';

export { classify, evaluate, mergeEvaluations } from './evaluation.js';
export type * from './evaluation.js';
export type * from './results.js';

const SKIPPED: ParityReport = { verdict: 'skipped', checks: [], inputs: [], seconds: 0 };

/** Called with every file that was written, good or not, while its model is still open. */
export type Watch = (file: Reported & { readonly output: OutputSummary }) => Promise<void>;

/**
 * Convert an official BEiT checkpoint to ONNX; the file gets its name only after it was verified.
 *
 * @throws InputError, NetworkError, UsageError, EnvironmentError, ParityError (with the report), InterruptedError
 */
export async function convert(options: ConvertOptions, watch?: Watch): Promise<ConvertResult> {
  return await interruptible(options.signal, async () => {
    const clock = stopwatch();
    const verifying = options.verify ?? true;
    if (verifying) (await import('./verify/runtime.js')).requireRuntime();
    const precisions = planPrecisions(options);
    const dynamic = dynamicMethod(options);
    await checkReports(options);
    const resolved = await resolve(options);
    const digest = verifying || (options.digest ?? true);
    if (!options.link || digest) prepareDigest(resolved.path);
    const targets: Target[] = [];
    let model: BeitModel | undefined;
    try {
      for (const { path } of precisions) {
        targets.push(await openTarget(path, { noClobber: options.noClobber, inputs: [resolved.path] }));
      }
      const { exportFiles } = await import('./export/index.js');
      // The method of a graph that resizes is no wish to resize now.
      model = await load(resolved, dynamic ? { ...options, resize: undefined } : options);
      const task = resolveTask(model.config, options);
      if (dynamic) {
        requireDynamic(model.config, task.name, dynamic);
        options.onNote?.(`positions are resized inside the graph, as ${dynamic} does it`);
      }
      if (task.name === 'segment' && model.config.segmentation!.auxiliaryChannels > 0) {
        options.onNote?.('the auxiliary head is left out: it only helps training');
      }
      const read = clock.lap();
      const label = basename(targets[0].path);
      const files = targets.map(({ staged }, i) => ({ path: staged, precision: precisions[i].name }));
      const exported = await exportFiles(model, files, {
        task,
        batch: options.batch,
        dynamic,
        opset: options.opset,
        externalData: options.externalData,
        keep: options.keep,
        reduceRange: options.reduceRange,
        ...(options.link && { link: { folder: dirname(targets[0].path), digest } }),
        toolVersion: VERSION,
        digest,
        signal: options.signal,
        onProgress: (done, total) =>
          options.onProgress?.({ phase: 'write', label, done, total, unit: 'bytes' }),
      });
      checkDigestInName(resolved, model, exported[0].sourceSha256);
      for (const { data } of exported) {
        if (data && options.externalData === undefined) {
          options.onNote?.(`the weights are in ${basename(data.path)}: one ONNX file ends at 2 GiB`);
        }
      }
      const write = clock.lap();
      const source = sourceSummary(model, exported[0].sourceSha256);
      const written = await publishAll(targets, exported, { model, source, resolved, task }, options, watch);
      const verify = clock.lap();
      return {
        source,
        ...written[0],
        files: written,
        seconds: { total: clock.total(), read, write, verify },
        peakMemoryBytes: peakMemoryBytes(),
      };
    } finally {
      await model?.close();
      for (const target of targets) await target.discard();
    }
  });
}

/** Every file that is good gets its name; when one is not, the others keep theirs and the error says so. */
async function publishAll(
  targets: readonly Target[],
  exported: readonly Exported[],
  of: {
    readonly model: BeitModel;
    readonly source: SourceSummary;
    readonly resolved: ResolvedSource;
    readonly task: Task;
  },
  options: ConvertOptions,
  watch?: Watch,
): Promise<WrittenFile[]> {
  const { model, resolved } = of;
  const written: WrittenFile[] = [];
  const refused: ParityError[] = [];
  const truth: Truth = {};
  const checked = await withSamples(options, exported, model);
  for (const [i, target] of targets.entries()) {
    const each = exported[i];
    const output = outputSummary(each, target.path);
    let measured: Measured = { parity: SKIPPED, pairs: [] };
    if (options.verify ?? true) {
      if (options.link) await lendSources(model, dirname(target.staged));
      measured = await measure(each.model.path, model, checked, resolved, {
        exported: each,
        truth,
        task: of.task,
      });
    }
    const tell = async (): Promise<void> => {
      const reported = { ...measured, ...of, files: filesOf(output) };
      await report(reportsOf(options, each, i), reported);
      await watch?.({ ...reported, output });
    };
    try {
      insist(measured.parity, target.path, model, each);
    } catch (error) {
      await tell();
      if (!(error instanceof ParityError) || exported.length === 1) throw error;
      refused.push(error);
      continue;
    }
    options.signal?.throwIfAborted();
    await target.publish([...(each.data ? [basename(each.data.path)] : []), basename(each.model.path)]);
    await tell();
    written.push({ output, parity: measured.parity });
  }
  if (refused.length === 0) return written;
  const names = written.map(({ output }) => basename(output.path));
  throw new ParityError(refused.map(({ message }) => message).join('; '), refused[0].report, {
    next: `${names.length === 0 ? 'Nothing was written' : `Written were ${listNames(names, 9)}, the others not`}. ${refused[0].next ?? ''}`,
  });
}

/** One report a file: those of further precisions carry their name, as the models do. */
function reportsOf(options: ConvertOptions, { precision }: Exported, index: number): ConvertOptions {
  if (index === 0 || !options.reports) return options;
  return { ...options, reports: options.reports.map((path) => path.replace(/(\.\w+)$/, `_${precision}$1`)) };
}

/** All files are compared on the same inputs, so that the reference is computed once. */
async function withSamples(
  options: ConvertOptions,
  exported: readonly Exported[],
  { config }: BeitModel,
): Promise<ConvertOptions> {
  if (options.samples !== undefined || exported.every(({ precision }) => precision === 'fp32'))
    return options;
  const { samplesForQuality } = await import('./verify/verify.js');
  return { ...options, samples: samplesForQuality(config) };
}

/** A linked model finds its weights beside it: while it is checked in its own folder, they need a name there. */
async function lendSources(model: BeitModel, folder: string): Promise<void> {
  for (const { source } of model.provenance.files) {
    if (!source.file) continue;
    const place = join(folder, basename(source.name));
    // Some file systems have no hard links, some systems forbid them for other people's files.
    await link(source.file.path, place).catch(() =>
      copyFile(source.file!.path, place, constants.COPYFILE_FICLONE),
    );
  }
}

/** Verify an existing ONNX file against the checkpoint it was made from. Same errors as {@link convert}. */
export async function verify(options: VerifyOptions): Promise<VerifyResult> {
  return await interruptible(options.signal, async () => {
    const clock = stopwatch();
    await checkReports(options);
    const file = await (await import('./file-source.js')).openFile(options.model);
    let model: BeitModel | undefined;
    try {
      const resolved = await resolve(options);
      const asked = await likeTheFile(options);
      model = await load(resolved, asked);
      const measured = await measure(options.model, model, asked, resolved);
      const sha256 = await sha256Of(file, options.signal);
      const sources = new Map<string, string>();
      for (const { name, source, sha256: known } of model.provenance.files) {
        sources.set(name, known ?? (await sha256Of(source, options.signal)));
      }
      checkDigestInName(resolved, model, sources);
      const source = sourceSummary(model, sources);
      const summary = { path: options.model, bytes: file.size, sha256 };
      await report(options, { ...measured, model, source, resolved, files: [summary] });
      insist(measured.parity, options.model, model);
      return {
        source,
        file: summary,
        parity: measured.parity,
        seconds: clock.total(),
        peakMemoryBytes: peakMemoryBytes(),
      };
    } finally {
      await model?.close();
      await file.close();
    }
  });
}

/**
 * Write a checkpoint's weights for another framework; the file (or folder) gets its name only after it was read back.
 *
 * @throws like {@link convert}; LayoutError naming every tensor that the layout cannot express
 */
export async function convertWeights(options: WeightsOptions): Promise<WeightsResult> {
  return await interruptible(options.signal, async () => {
    const clock = stopwatch();
    const verifying = options.verify ?? true;
    const writers = await import('./convert/writers/index.js');
    const plan = await writers.planOutput(options.out, options.to);
    const resolved = await resolve(options);
    prepareDigest(resolved.path);
    const guards = { noClobber: options.noClobber, inputs: [resolved.path] };
    const target = plan.folder
      ? await openFolderTarget(options.out, { ...guards, files: writers.FOLDER_FILES })
      : await openTarget(options.out, guards);
    let model: BeitModel | undefined;
    try {
      model = await load(resolved, options);
      const expressed = await writers.express(model, plan.layout, options.drop);
      for (const note of expressed.notes) options.onNote?.(note);
      const read = clock.lap();
      const written = await writers.writeOutput(model, expressed, plan, target.staged, {
        toolVersion: VERSION,
        digest: verifying || (options.digest ?? true),
        signal: options.signal,
        onProgress: (done, total) =>
          options.onProgress?.({ phase: 'write', label: basename(target.path), done, total, unit: 'bytes' }),
      });
      checkDigestInName(resolved, model, written.sourceSha256);
      const write = clock.lap();
      const parity = verifying
        ? await checkWritten(target.staged, written, model, expressed, options)
        : SKIPPED;
      const verify = clock.lap();
      const sha256 = await written.sha256();
      options.signal?.throwIfAborted();
      await target.publish(written.files.map(({ path }) => basename(path)));
      return {
        source: sourceSummary(model, written.sourceSha256),
        output: weightsSummary(written, sha256, expressed, plan, target.path),
        parity,
        notes: expressed.notes,
        seconds: { total: clock.total(), read, write, verify },
        peakMemoryBytes: peakMemoryBytes(),
      };
    } finally {
      await model?.close();
      await target.discard();
    }
  });
}

/** Is this output a weights file, or a folder of one, rather than ONNX? */
export function writesWeights(options: Pick<WeightsOptions, 'out' | 'to'>): boolean {
  return options.to !== undefined || containerOf(options.out) !== undefined;
}

/** Two checkpoints of any layouts, tensor by tensor. Same errors as {@link inspect}. */
export async function diff(options: DiffOptions): Promise<DiffResult> {
  return await interruptible(options.signal, async () => {
    const clock = stopwatch();
    const { diffCheckpoints, isEqual } = await import('./convert/diff.js');
    const { openCheckpoint } = await import('./convert/open.js');
    const opened: Checkpoint[] = [];
    try {
      for (const src of [options.a, options.b]) {
        const { path, open } = await resolve({ ...options, src });
        opened.push(await openCheckpoint(path, {}, open));
      }
      const [a, b] = opened;
      const result = await diffCheckpoints(a, b, {
        signal: options.signal,
        onProgress: (done, total) =>
          options.onProgress?.({ phase: 'compare', label: 'tensors', done, total, unit: 'bytes' }),
      });
      return {
        equal: isEqual(result),
        ...result,
        seconds: clock.total(),
        peakMemoryBytes: peakMemoryBytes(),
      };
    } finally {
      for (const checkpoint of opened) await checkpoint.close();
    }
  });
}

/**
 * What a checkpoint is; its weights are read for statistics only, when these are asked for. Of a remote one that is not in
 * a cache only the needed parts are read.
 */
export async function inspect(options: InspectOptions): Promise<Inspection> {
  return await interruptible(options.signal, async () => {
    const resolved = await resolve({ ...options, stream: options.stream ?? true });
    const { inspectCheckpoint } = await import('./convert/load.js');
    const inspection = await inspectCheckpoint(resolved.path, loadOptions(resolved, options));
    return {
      ...inspection,
      id: resolved.id,
      ...(resolved.commit === undefined ? {} : { commit: resolved.commit }),
      ...(inspection.config && !inspection.problem ? await modelDetails(resolved, options) : {}),
    };
  });
}

/** What can be said of a model that can be converted. */
async function modelDetails(resolved: ResolvedSource, options: InspectOptions): Promise<Partial<Inspection>> {
  const [{ moduleTree }, { publishedFigures }, { loadModel }] = await Promise.all([
    import('./modules.js'),
    import('./convert/published.js'),
    import('./convert/load.js'),
  ]);
  const model = await loadModel(resolved.path, { ...loadOptions(resolved, options), checkBuffers: false });
  try {
    const statistics = options.stats
      ? await (
          await import('./statistics.js')
        ).weightStatistics(model.tensors, options.signal, (done, total) =>
          options.onProgress?.({
            phase: 'compare',
            label: resolved.id,
            done: 4 * done,
            total: 4 * total,
            unit: 'bytes',
          }),
        )
      : undefined;
    return {
      modules: moduleTree(model.config),
      published: publishedFigures(model.config, resolved.row),
      preprocessing: model.preprocessing,
      ...(statistics && { statistics }),
    };
  } finally {
    await model.close();
  }
}

/** Every published checkpoint that has a name: the official classifiers, then OpenMMLab's. */
export function listCatalog(): readonly CatalogEntry[] {
  return [...catalog('official'), ...catalog('mmpretrain')].map((row) => ({
    name: row.name,
    src: `${row.publisher}:${row.name}`,
    publisher: row.publisher,
    task: row.task,
    version: row.version,
    arch: row.architecture,
    imageSize: row.imageSize,
    classes: row.classes,
    ...(row.parameters !== undefined && { parameters: row.parameters }),
    ...(row.flops !== undefined && { flops: row.flops }),
    ...(row.top1 !== undefined && { top1: row.top1 }),
    ...(row.top5 !== undefined && { top5: row.top5 }),
    source: row.sources[0].kind === 'hf' ? `hf:${row.sources[0].repo}` : new URL(row.sources[0].url).host,
    isDefault: row.name === DEFAULT_CATALOG_NAME,
  }));
}

async function resolve(options: SourceOptions): Promise<ResolvedSource> {
  return await resolveSource(parseSource(options.src), {
    signal: options.signal,
    env: options.env,
    stream: options.stream,
    onNote: options.onNote,
    progress: ({ file, bytes, total }) =>
      options.onProgress?.({ phase: 'download', label: file, done: bytes, total, unit: 'bytes' }),
  });
}

function loadOptions(resolved: ResolvedSource, options: SourceOptions): LoadOptions {
  const { row } = resolved;
  return {
    open: resolved.open,
    id: resolved.id,
    commit: resolved.commit,
    sha256: resolved.sha256,
    configPath: options.configPath,
    sharedTable: options.sharedTable,
    ema: options.ema,
    key: options.key,
    layout: options.layout,
    imageSize: options.imageSize,
    patchSize: options.patchSize,
    resize: options.resize,
    version: options.version ?? row?.version,
    ...(row && {
      versionEvidence: `catalog row ${row.name}`,
      preprocessing: row.preprocessing,
      hints: {
        origin: `the catalog (${row.name})`,
        imageSize: [row.imageSize, row.imageSize],
        ...(row.classes > 0 && { classes: row.classes }),
      },
    }),
  };
}

async function load(resolved: ResolvedSource, options: SourceOptions): Promise<BeitModel> {
  const { loadModel } = await import('./convert/load.js');
  const labels = options.labels === undefined ? undefined : await readLabels(options.labels);
  const model = await loadModel(resolved.path, {
    ...loadOptions(resolved, options),
    ...(labels && { labels }),
  });
  for (const note of model.notes) options.onNote?.(note);
  return model;
}

async function readLabels(path: string): Promise<readonly string[]> {
  const [{ readText }, { parseLabels }] = await Promise.all([
    import('./classifier-file.js'),
    import('./labels.js'),
  ]);
  return parseLabels(await readText(path), basename(path));
}

/** Resize the source as the written file says it was resized; what is asked for in words comes first. */
async function likeTheFile(options: VerifyOptions): Promise<VerifyOptions> {
  const { readResizing } = await import('./verify/resizing.js');
  const recorded = await readResizing(options.model);
  if (recorded === undefined) return options;
  const { imageSize, patchSize, method } = recorded;
  const asked = { imageSize, patchSize, resize: method, ...withoutUndefined(options) };
  const size = `${asked.imageSize.join('×')} with patches of ${asked.patchSize}`;
  options.onNote?.(
    `${printable(basename(options.model))} is recorded as resized: so is the source, to ${size} (${asked.resize})`,
  );
  return asked;
}

function withoutUndefined<T extends object>(options: T): T {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as T;
}

/** A file that was read where it is could not be held against its name before all of it had come. */
function checkDigestInName(
  { sha256Prefix, sha256 }: ResolvedSource,
  model: BeitModel,
  found: ReadonlyMap<string, string>,
): void {
  const { name } = model.provenance.files[0];
  const hex = found.get(name);
  if (sha256Prefix === undefined || sha256 !== undefined || !hex || hex.startsWith(sha256Prefix)) return;
  throw new FormatError(
    `${printable(name)} has sha256 ${hex}; its name says that it begins with ${sha256Prefix}`,
    {
      next: 'The copy on that server is damaged, or its name is wrong: get it from somewhere else.',
    },
  );
}

async function checkWritten(
  path: string,
  { files, weights }: WrittenOutput,
  model: BeitModel,
  expressed: Expressed,
  options: WeightsOptions,
): Promise<ParityReport> {
  const clock = stopwatch();
  const flushed = Promise.all(files.map((file) => flushFile(file.path)));
  flushed.catch(() => undefined);
  const { checkWeights } = await import('./convert/writers/index.js');
  const checks = await checkWeights(path, model, expressed, {
    folder: weights.path !== path,
    signal: options.signal,
    onProgress: (done, total) =>
      options.onProgress?.({ phase: 'compare', label: basename(path), done, total, unit: 'steps' }),
  });
  const passed = checks.every((check) => check.passed);
  const report: ParityReport = {
    verdict: passed ? 'passed' : 'failed',
    checks,
    inputs: [],
    seconds: clock.total(),
  };
  if (passed) {
    await flushed;
    return report;
  }
  const details = checks.filter((check) => !check.passed && !check.notRun).map(({ detail }) => detail);
  throw new ParityError(
    `${basename(path)} does not reproduce ${model.provenance.id}: ${details.join('; ')}`,
    report,
    { next: 'Nothing was written. Please report this with the output of --json.' },
  );
}

/** An abort, wherever it surfaces, is one thing to the caller. */
async function interruptible<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
  try {
    signal?.throwIfAborted();
    return await work();
  } catch (error) {
    if (signal?.aborted) throw new InterruptedError('interrupted; nothing was written', { cause: error });
    throw error;
  }
}

function peakMemoryBytes(): number {
  // Node reports kilobytes (of 1024) on every platform.
  return process.resourceUsage().maxRSS * 1024;
}

function stopwatch(): { lap(): number; total(): number } {
  const start = performance.now();
  let last = start;
  return {
    lap() {
      const before = last;
      last = performance.now();
      return (last - before) / 1000;
    },
    total: () => (performance.now() - start) / 1000,
  };
}
