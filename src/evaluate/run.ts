/**
 * The evaluation itself: pictures are decoded on threads while the model works on the batch before.
 */
import type { FileHandle } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename } from 'node:path';
import { InputError, UsageError, printable } from '../errors.js';
import type { Preprocessing } from '../image.js';
import type { OnProgress } from '../progress.js';
import { commonPart, evaluateBatch, type Classifier, type Place, type Ready } from './batch.js';
import { mapClasses } from './classes.js';
import { imagePath, type Dataset } from './dataset.js';
import { Decoders } from './decoders.js';
import {
  FORMAT,
  FORMAT_VERSION,
  toLine,
  type Header,
  type ImageRecord,
  type ModelRecord,
} from './records.js';
import { openResults, writeAll } from './results-file.js';
import { ModelSession } from './session.js';
import { Tally, shardSize, type Evaluation } from './tally.js';

export type { Classifier } from './batch.js';

export interface EvaluateRunOptions {
  readonly against?: Classifier;
  /** content of a mapping file, and its name */
  readonly mapping?: { readonly text: string; readonly file: string };
  readonly batch?: number;
  readonly threads?: number;
  readonly shard?: readonly [index: number, of: number];
  /** JSON Lines file the results are appended to */
  readonly results?: string;
  /** go on with a results file that is there */
  readonly resume?: boolean;
  readonly toolVersion: string;
  readonly signal?: AbortSignal;
  readonly onProgress?: OnProgress;
  readonly onNote?: (text: string) => void;
}

/** How a run went; not part of its result. */
export interface RunFigures {
  readonly seconds: number;
  /** pictures evaluated now, not those of an earlier run */
  readonly images: number;
  readonly imagesPerSecond: number;
  /** pictures whose results were there already */
  readonly resumed: number;
  readonly threads: number;
  /** of the processes that run the models, together */
  readonly runtimePeakMemoryBytes: number;
}

export interface EvaluateRun {
  readonly evaluation: Evaluation;
  readonly run: RunFigures;
}

const DEFAULT_BATCH = 8;
/** Batches under way: one that runs and one that waits for it. */
const BATCHES_UNDER_WAY = 2;
/** Records of unreadable pictures that wait for the batches before them. */
const MOST_WAITING = 256;

/**
 * Run a classifier (and another one) over a data set, or the rest of it.
 *
 * @throws InputError, FormatError for a model, data or results file that does not fit; UsageError if the results file is
 *   there and `resume` is not given, or is about something else; EnvironmentError; the signal's reason when aborted
 */
export async function runEvaluation(
  model: Classifier,
  dataset: Dataset,
  options: EvaluateRunOptions,
): Promise<EvaluateRun> {
  const { against, signal, onNote } = options;
  const models = against ? [model, against] : [model];
  if (against && against.classes !== model.classes) {
    throw new InputError(
      `${shownName(against)} has ${against.classes} classes, ${shownName(model)} has ${model.classes}: they cannot be compared`,
    );
  }
  const shard = options.shard ?? [1, 1];
  const threads = options.threads ?? availableParallelism();
  const batch = batchOf(models, options.batch);
  const { numbers, how } = mapClasses(namesOf(dataset), {
    classes: model.classes,
    labels: model.labels,
    mapping: options.mapping,
  });
  if (dataset.ignored > 0)
    onNote?.(`${dataset.ignored} files of ${dataset.name} are no pictures and not counted`);
  const unknown = dataset.items.reduce((count, { className }) => count + Number(className === undefined), 0);
  if (unknown > 0) onNote?.(`the class of ${unknown} pictures is not known: accuracy is that of the others`);

  const stop = new AbortController();
  const stopped = signal ? AbortSignal.any([signal, stop.signal]) : stop.signal;
  const sessions: ModelSession[] = [];
  const kinds = distinct(models.map(({ preprocessing }) => preprocessing));
  const decoders = new Decoders(threads, kinds.values);
  let results: FileHandle | undefined;
  try {
    const share = Math.max(1, Math.floor(threads / models.length));
    // One after another: whatever is wrong with the first is said first.
    for (const { path, input, output } of models) {
      sessions.push(await ModelSession.open({ path, input, output, threads: share, signal: stopped }));
    }
    const header: Header = {
      format: FORMAT,
      version: FORMAT_VERSION,
      tool: options.toolVersion,
      runtime: sessions[0].version,
      model: modelRecord(model),
      ...(against && { against: modelRecord(against) }),
      dataset: { name: dataset.name, images: dataset.items.length, sha256: dataset.sha256 },
      classes: { count: model.classes, how, names: [...numbers] },
      batch,
      shard,
    };
    const tally = new Tally(header);
    results =
      options.results === undefined
        ? undefined
        : await openResults(options.results, options.resume ?? false, header, tally);
    const resumed = tally.done;

    const total = shardSize(dataset.items.length, shard);
    const label = basename(model.path);
    const progress = (): void =>
      options.onProgress?.({ phase: 'evaluate', label, done: tally.done, total, unit: 'images' });
    progress();
    const started = performance.now();

    let written = Promise.resolve();
    /** Results in the order of the pictures, one write for many. */
    const keep = (records: Promise<readonly ImageRecord[]>): Promise<void> =>
      (written = Promise.all([records, written]).then(async ([list]) => {
        if (results) await writeAll(results, list.map(toLine).join(''));
        for (const record of list) tally.add(record);
        progress();
      }));
    const underWay: Promise<void>[] = [];
    const submit = async (ready: readonly Ready[]): Promise<void> => {
      while (underWay.length >= BATCHES_UNDER_WAY) await underWay.shift();
      const records = evaluateBatch(ready, models, sessions, kinds.indexes, batch, numbers);
      records.catch(() => undefined);
      const kept = keep(records);
      kept.catch(() => undefined);
      underWay.push(kept);
    };

    let ready: Ready[] = [];
    let unreadable = 0;
    const window = Math.max(2 * batch, 2 * threads);
    for await (const [place, decoded] of decoders.inOrder(places(dataset, shard, tally), window)) {
      stopped.throwIfAborted();
      if ('unreadable' in decoded) {
        const record = { ...commonPart(place, numbers), error: decoded.unreadable };
        onNote?.(decoded.unreadable);
        const kept = keep(Promise.resolve([record]));
        // The batches before it go on; an error of theirs shows in the next one.
        kept.catch(() => undefined);
        if (++unreadable % MOST_WAITING === 0) await kept;
        continue;
      }
      ready.push({ place, pixels: decoded.pixels });
      if (ready.length < batch) continue;
      await submit(ready);
      ready = [];
    }
    if (ready.length > 0) await submit(ready);
    await Promise.all(underWay);
    await written;
    await results?.datasync();
    const seconds = (performance.now() - started) / 1000;
    const images = tally.done - resumed;
    return {
      evaluation: tally.result(shard),
      run: {
        seconds,
        images,
        imagesPerSecond: images / seconds,
        resumed,
        threads,
        runtimePeakMemoryBytes: sessions.reduce((sum, { peakMemoryBytes }) => sum + peakMemoryBytes, 0),
      },
    };
  } finally {
    stop.abort();
    for (const session of sessions) session.close();
    await decoders.close();
    await results?.close();
  }
}

function shownName({ path }: Classifier): string {
  return printable(basename(path));
}

function batchOf(models: readonly Classifier[], asked: number | undefined): number {
  const fixed = models.find(({ fixedBatch }) => fixedBatch !== undefined);
  if (fixed?.fixedBatch === undefined) return asked ?? DEFAULT_BATCH;
  const other = models.find(({ fixedBatch }) => fixedBatch !== undefined && fixedBatch !== fixed.fixedBatch);
  if (other) {
    throw new InputError(
      `${shownName(fixed)} takes batches of ${fixed.fixedBatch} only, ${shownName(other)} of ${other.fixedBatch}`,
    );
  }
  if (asked !== undefined && asked !== fixed.fixedBatch) {
    throw new UsageError(`--batch ${asked}: ${shownName(fixed)} takes batches of ${fixed.fixedBatch} only`);
  }
  return fixed.fixedBatch;
}

function namesOf({ items }: Dataset): Set<string> {
  return new Set(items.flatMap(({ className }) => (className === undefined ? [] : [className])));
}

function modelRecord({ path, bytes, sha256, dataSha256, preprocessing }: Classifier): ModelRecord {
  return { name: basename(path), bytes, sha256, ...(dataSha256 && { dataSha256 }), preprocessing };
}

/** Equal ones are made once; where they are from does not matter. */
function distinct(all: readonly Preprocessing[]): { values: Preprocessing[]; indexes: number[] } {
  const values: Preprocessing[] = [];
  const keys: string[] = [];
  const indexes = all.map((preprocessing) => {
    const key = JSON.stringify({ ...preprocessing, origin: '' });
    if (!keys.includes(key)) {
      keys.push(key);
      values.push(preprocessing);
    }
    return keys.indexOf(key);
  });
  return { values, indexes };
}

/** Pictures of the shard that have no result yet. */
function* places(dataset: Dataset, [index, of]: readonly [number, number], tally: Tally): Generator<Place> {
  for (let i = index - 1; i < dataset.items.length; i += of) {
    if (tally.has(i)) continue;
    const item = dataset.items[i];
    yield { ...item, i, path: imagePath(dataset, item), shown: item.image };
  }
}
