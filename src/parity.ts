/**
 * What the verbs share about parity: measure it, report it, insist on it.
 */
import { basename } from 'node:path';
import type { ResolvedSource } from './convert/source.js';
import { ParityError, UsageError } from './errors.js';
import type { Exported } from './export/index.js';
import type { Preprocessing } from './image.js';
import type { BeitModel } from './model.js';
import type {
  CheckOptions,
  ConvertOptions,
  FileSummary,
  OutputSummary,
  SourceSummary,
  VerifyOptions,
} from './results.js';
import { flushFile, requireFolderOf } from './target.js';
import type { Task } from './task.js';
import type { Reference } from './verify/checks/against.js';
import type { GoldenValues } from './verify/checks/golden.js';
import type { LogitsPair } from './verify/checks/logits.js';
import type { ParityReport } from './verify/report.js';
import type { OutputDetails } from './verify/report/data.js';
import type { Truth } from './verify/verify.js';
import { VERSION } from './version.js';

/** Of a file that nobody checked. */
export const SKIPPED: ParityReport = { verdict: 'skipped', checks: [], inputs: [], seconds: 0 };

export interface Measured {
  readonly parity: ParityReport;
  /** all logits, where they could be had */
  readonly pairs: readonly LogitsPair[];
  /** the same, as far as charts need it, of a graph that is no classifier */
  readonly outputs: readonly OutputDetails[];
}

export async function measure(
  path: string,
  model: BeitModel,
  options: ConvertOptions | VerifyOptions,
  resolved: ResolvedSource,
  written: { readonly exported?: Exported; readonly truth?: Truth; readonly task?: Task } = {},
): Promise<Measured> {
  const { exported, truth, task } = written;
  const [{ verifyModel }, { outputDetails }] = await Promise.all([
    import('./verify/verify.js'),
    import('./verify/report/details.js'),
  ]);
  const images = options.images?.length ? await readImages(options.images, model.preprocessing) : undefined;
  const against = 'against' in options && options.against ? await readReferences(options.against) : undefined;
  const golden = 'golden' in options && options.golden ? await readGolden(options, resolved) : undefined;
  // The disk gets its time while the processor computes.
  const flushed = exported
    ? Promise.all(
        [exported.model, ...(exported.data ? [exported.data] : [])].map((file) => flushFile(file.path)),
      )
    : Promise.resolve();
  flushed.catch(() => undefined);
  let pairs: readonly LogitsPair[] = [];
  let outputs: readonly OutputDetails[] = [];
  const parity = await verifyModel(path, model, {
    task,
    samples: options.samples,
    seed: options.seed,
    images,
    threads: options.threads,
    layers: options.layers,
    against,
    golden,
    acceptQuality: options.acceptQuality,
    atSize: async (imageSize, method) =>
      (await import('./convert/resize/model.js')).resizeModel(model, { imageSize, method }),
    truth,
    signal: options.signal,
    onProgress: options.onProgress,
    onLogits: (all) => {
      pairs = all;
    },
    onOutputs: (all) => {
      outputs = outputDetails(all);
    },
  });
  await flushed;
  return { parity, pairs, outputs };
}

/**
 * @param written what was just written, when it was
 * @throws ParityError if the file is not what it should be
 */
export function insist(parity: ParityReport, path: string, model: BeitModel, written?: Exported): void {
  if (parity.verdict !== 'failed' || parity.accepted) return;
  // What could not run says nothing of its own.
  const failed = parity.checks.filter(({ passed, notRun }) => !passed && !notRun);
  throw new ParityError(
    `${basename(path)} does not reproduce ${model.provenance.id}: ${failed.map(({ detail }) => detail).join('; ')}`,
    parity,
    { next: written && adviceAfter(parity, written) },
  );
}

/** Where only a lower precision's quality is in doubt, there is something to do; anything else is a mistake of ours. */
function adviceAfter({ checks, logits, outputs }: ParityReport, { precision }: Exported): string {
  if (logits && !Number.isFinite(logits.expectedNoise))
    return 'Nothing was written. Run convert-beit inspect --stats on the source: it names the tensors.';
  const compared = logits?.quality ?? outputs;
  const lossOnly = checks.every(({ name, passed }) => passed || /^(logits|outputs|sizes)$/.test(name));
  return precision !== 'fp32' && compared && lossOnly
    ? `Keep more of it in float32 (--keep), take a higher precision than ${precision}, or say --accept-quality.`
    : 'Nothing was written. Please report this with the output of --json.';
}

async function readReferences(paths: readonly string[]): Promise<Reference[]> {
  const { readRecorded } = await import('./convert/recorded.js');
  return await Promise.all(
    paths.map(async (path): Promise<Reference> =>
      path.toLowerCase().endsWith('.onnx')
        ? { kind: 'onnx', path }
        : { kind: 'recorded', ...(await readRecorded(path)) },
    ),
  );
}

async function readGolden(options: VerifyOptions, { row }: ResolvedSource): Promise<GoldenValues> {
  const { GOLDEN_PICTURE, GOLDEN_TOLERANCE, goldenRow } = await import('./convert/catalog-golden.js');
  const name = options.golden === true ? row?.name : options.golden;
  if (name === undefined) {
    throw new UsageError('nothing tells which published values belong to this source', {
      next: 'Say it: --golden <name>, with a name of convert-beit list.',
    });
  }
  const golden = goldenRow(name);
  if (options.images?.length !== 1) {
    throw new UsageError(`the published values belong to one picture, ${GOLDEN_PICTURE}`, {
      next: 'Give your copy of it: --image 000000039769.jpg.',
    });
  }
  const [input] = await readImages(options.images, golden.preprocessing);
  return { ...golden, picture: GOLDEN_PICTURE, tolerance: GOLDEN_TOLERANCE, input };
}

export async function checkReports({ reports }: CheckOptions): Promise<void> {
  if (!reports?.length) return;
  (await import('./verify/report/write.js')).checkReportPaths(reports);
  for (const path of reports) await requireFolderOf(path, '--report');
}

export interface Reported extends Measured {
  readonly model: BeitModel;
  readonly source: SourceSummary;
  readonly resolved: ResolvedSource;
  readonly files: readonly FileSummary[];
}

/**
 * The report, as the formats that were asked for.
 *
 * @param paths of this file's reports; the command line has those that were typed
 */
export async function report(
  options: ConvertOptions | VerifyOptions,
  of: Reported,
  paths: readonly string[] = options.reports ?? [],
): Promise<void> {
  if (paths.length === 0) return;
  const [{ assembleReport }, { writeReports }, { commandOf }] = await Promise.all([
    import('./verify/report/assemble.js'),
    import('./verify/report/write.js'),
    import('./reproduce.js'),
  ]);
  const document = await assembleReport({
    ...of,
    files: of.files.map(({ path, ...file }) => ({ ...file, name: basename(path) })),
    toolVersion: VERSION,
    command: commandOf(options, of.resolved.id, of.parity.inputs.length),
    pictures: await thumbnails(options.images ?? []),
    signal: options.signal,
  });
  await writeReports(paths, document);
}

async function thumbnails(paths: readonly string[]): Promise<{ name: string; dataUrl: string }[]> {
  if (paths.length === 0) return [];
  const [{ decodeImage }, { thumbnail }] = await Promise.all([
    import('./image.js'),
    import('./thumbnail.js'),
  ]);
  return await Promise.all(
    paths.map(async (path) => ({ name: basename(path), dataUrl: await thumbnail(await decodeImage(path)) })),
  );
}

export function filesOf(output: OutputSummary): FileSummary[] {
  return [output, ...(output.externalData ? [output.externalData] : [])].map(({ path, bytes, sha256 }) => ({
    path,
    bytes,
    ...(sha256 !== undefined && { sha256 }),
  }));
}

async function readImages(
  paths: readonly string[],
  preprocessing: Preprocessing,
): Promise<{ name: string; pixels: Float32Array }[]> {
  const { decodeImage, preprocess } = await import('./image.js');
  return await Promise.all(
    paths.map(async (path) => ({
      name: basename(path),
      pixels: preprocess(await decodeImage(path), preprocessing),
    })),
  );
}
