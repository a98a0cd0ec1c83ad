/**
 * Many models in one run: every item a folder, and over all of them the files that a release needs.
 */
import { mkdir, rm } from 'node:fs/promises';
import { availableParallelism, freemem } from 'node:os';
import { join } from 'node:path';
import { InterruptedError, listNames } from '../errors.js';
import type { CommonOptions } from '../results.js';
import { VERSION } from '../version.js';
import { refuseHugeBundle } from './bundle.js';
import type { ItemInputs } from './inputs.js';
import {
  readManifest,
  selectItems,
  shardOf,
  type NameStyle,
  type ReleaseItem,
  type Shard,
} from './manifest.js';
import { sourceDateEpoch } from './names.js';
import { writeOverall } from './overall.js';
import { Pace, type Reached } from './pace.js';
import { planItem, type PlannedItem } from './plan.js';
import type { FinishedItem, ReleasedFile, ReleasedItem } from './record.js';
import { runJobs } from './schedule.js';
import {
  finishedElsewhere,
  finishedItem,
  keyOf,
  recordFinished,
  recordedNames,
  withoutPaths,
} from './state.js';
import { makeFolder, openWork, replaceFolder } from './workplace.js';

/** What all jobs together may need unless said otherwise: one base-size model, or several small ones. */
const MEMORY_BUDGET = 1e9;

export interface ReleaseOptions extends CommonOptions {
  /** path of the manifest */
  readonly manifest: string;
  /** folder; made when missing */
  readonly out: string;
  /** only these items */
  readonly only?: readonly string[];
  readonly shard?: Shard;
  /** items side by side; default: as cores and memory allow */
  readonly jobs?: number;
  /** bytes all jobs together may need; default: 1 GB, or half of what is free if that is less */
  readonly memory?: number;
  readonly nameStyle?: NameStyle;
  /** also write everything as one zip beside the folders */
  readonly zip?: boolean;
  readonly verify?: boolean;
  /** `<owner>/{name}`: where the folders will be on the hub, which their cards say; wins over the manifest */
  readonly push?: string;
  readonly onItem?: (event: ItemEvent) => void;
}

export interface ItemEvent extends Reached {
  readonly name: string;
  readonly index: number;
  readonly count: number;
  readonly status: 'started' | 'built' | 'unchanged' | 'failed';
  readonly seconds?: number;
  readonly bytes?: number;
  readonly error?: unknown;
}

export interface ReleasedStatus {
  readonly name: string;
  readonly status: 'built' | 'unchanged' | 'failed';
  readonly bytes?: number;
  readonly seconds: number;
  readonly error?: { readonly kind: string; readonly message: string; readonly next?: string };
  readonly released?: ReleasedItem;
  readonly inputs?: ItemInputs;
}

export interface ReleaseResult {
  readonly out: string;
  readonly items: readonly ReleasedStatus[];
  /** files of the release beside the items' folders */
  readonly files: readonly ReleasedFile[];
  readonly seconds: number;
  /** of this process; the runtime's own is not in it */
  readonly peakMemoryBytes: number;
}

/** How one item is made; the whole of it lies in `folder` afterwards. */
export interface Builder {
  /** what decides the item's bytes besides the item itself: plain data (inputs with sha256) */
  inputs(item: ReleaseItem, common: CommonOptions): Promise<ItemInputs>;
  /** the same, where what could not be found out is taken as it was when the item was finished */
  asFinished?(inputs: ItemInputs, finished: FinishedItem): ItemInputs;
  build(item: ReleaseItem, folder: string, options: BuildOptions): Promise<ReleasedItem>;
}

export interface BuildOptions extends CommonOptions {
  readonly nameStyle: NameStyle;
  readonly epoch: number | undefined;
  readonly verify: boolean;
}

/** What would be done. @throws InputError for a manifest that is wrong */
export async function planRelease(
  options: Pick<ReleaseOptions, 'manifest' | 'only' | 'shard' | 'push'>,
): Promise<readonly PlannedItem[]> {
  const { items } = await readManifest(options.manifest);
  const chosen = shardOf(selectItems(items, options.only), options.shard);
  return await Promise.all(chosen.map(planItem));
}

/**
 * Make (what is missing of) a release. An item that fails stops no other: look at the result's `items`.
 *
 * @throws InputError for a wrong manifest, EnvironmentError, InterruptedError
 */
export async function release(options: ReleaseOptions, builder: Builder): Promise<ReleaseResult> {
  const start = performance.now();
  const manifest = await readManifest(options.manifest);
  const whole = manifest.items.map((item) =>
    options.push === undefined ? item : { ...item, push: options.push },
  );
  const items = shardOf(selectItems(whole, options.only), options.shard);
  const epoch = sourceDateEpoch(options.env ?? process.env);
  const nameStyle = options.nameStyle ?? 'plain';
  const plans = await Promise.all(items.map(planItem));
  // Estimated, and without what is not known: what is beyond a zip then is beyond it in the end.
  if (options.zip) refuseHugeBundle(0.95 * plans.reduce((sum, { bytes = 0 }) => sum + bytes, 0));
  const pace = new Pace(plans);
  await makeFolder(options.out);
  const work = await openWork(options.out);
  try {
    await noteLeftovers(options, whole);
    const limits = {
      jobs: options.jobs ?? Math.max(1, Math.floor(availableParallelism() / 2)),
      memory: options.memory ?? Math.min(MEMORY_BUDGET, Math.floor(freemem() / 2)),
    };
    const jobs = items.map((item, i) => ({
      // Of what size a model is that nobody has seen, nobody knows: it runs alone.
      memory: plans[i].memory ?? limits.memory,
      run: () => one(item, i),
    }));
    const outcomes = await runJobs(jobs, limits);
    if (options.signal?.aborted) {
      throw new InterruptedError('interrupted; finished models are kept, run the same command to go on');
    }
    const statuses = outcomes.map((outcome) => {
      if ('error' in outcome) throw outcome.error;
      return outcome.value;
    });
    const finished = await inOrder(options.out, whole, statuses);
    const { manifest: path, out, zip, signal } = options;
    const about = { manifest: path, name: manifest.name, out, work, epoch, zip, signal };
    // Where nothing came to an end, what stands there is of a release that did.
    const files = finished.length === 0 ? [] : await writeOverall(finished, about);
    return {
      out: options.out,
      items: statuses,
      files,
      seconds: (performance.now() - start) / 1000,
      // Node reports kilobytes (of 1024) on every platform.
      peakMemoryBytes: process.resourceUsage().maxRSS * 1024,
    };
  } finally {
    await rm(work, { recursive: true, force: true });
  }

  async function one(item: ReleaseItem, index: number): Promise<ReleasedStatus> {
    const began = performance.now();
    const tell = (event: Pick<ItemEvent, 'status' | 'bytes' | 'seconds' | 'error'>): void => {
      if (event.status !== 'started') pace.ended(index, event.status === 'built');
      options.onItem?.({ name: item.name, index, count: items.length, ...pace.now(), ...event });
    };
    const elapsed = (): number => (performance.now() - began) / 1000;
    const common: CommonOptions = {
      signal: options.signal,
      env: options.env,
      onNote: (text) => options.onNote?.(`${item.name}: ${text}`),
      onProgress: (event) =>
        options.onProgress?.({ ...event, job: `${index + 1}/${items.length} ${item.name}` }),
    };
    try {
      options.signal?.throwIfAborted();
      const inputs = await builder.inputs(item, common);
      const keyWith = (known: ItemInputs): string =>
        keyOf({
          tool: VERSION,
          item: withoutPaths(item),
          nameStyle,
          // Only dated names depend on the date.
          ...(nameStyle === 'openmmlab' && { epoch: epoch ?? 'today' }),
          verify: options.verify ?? true,
          inputs: known,
        });
      const finished = await finishedItem(
        options.out,
        item.name,
        (earlier) => keyWith(builder.asFinished?.(inputs, earlier) ?? inputs),
        options.signal,
      );
      if (finished) {
        const bytes = sizeOf(finished.released.files);
        tell({ status: 'unchanged', bytes, seconds: elapsed() });
        return { name: item.name, status: 'unchanged', bytes, seconds: elapsed(), ...finished };
      }
      tell({ status: 'started' });
      const folder = join(work, item.name);
      await mkdir(folder);
      const released = await builder.build(item, folder, {
        ...common,
        nameStyle,
        epoch,
        verify: options.verify ?? true,
      });
      await replaceFolder(folder, join(options.out, item.name), join(work, `${item.name}.previous`));
      await recordFinished(options.out, work, keyWith(inputs), { released, inputs });
      const bytes = sizeOf(released.files);
      tell({ status: 'built', bytes, seconds: elapsed() });
      return { name: item.name, status: 'built', bytes, seconds: elapsed(), released, inputs };
    } catch (error) {
      tell({ status: 'failed', seconds: elapsed(), error });
      return { name: item.name, status: 'failed', seconds: elapsed(), error: errorData(error) };
    }
  }
}

const sizeOf = (files: readonly ReleasedFile[]): number => files.reduce((sum, { bytes }) => sum + bytes, 0);

function errorData(error: unknown): ReleasedStatus['error'] {
  const { name, message, next } = error as { name?: string; message?: string; next?: string };
  return { kind: name ?? 'Error', message: message ?? String(error), ...(next !== undefined && { next }) };
}

/** Everything of the manifest that is finished, in its order: made by this run, or by an earlier one it left alone. */
async function inOrder(
  out: string,
  whole: readonly ReleaseItem[],
  statuses: readonly ReleasedStatus[],
): Promise<FinishedItem[]> {
  const ours = new Map(statuses.map((status) => [status.name, status]));
  const finished: FinishedItem[] = [];
  for (const item of whole) {
    const status = ours.get(item.name);
    const found = status ?? (await finishedElsewhere(out, item));
    if (found?.released && found.inputs) finished.push({ released: found.released, inputs: found.inputs });
  }
  return finished;
}

/** Folders of models that the manifest no longer has: not ours to remove, and in no list of this release. */
async function noteLeftovers(options: ReleaseOptions, whole: readonly ReleaseItem[]): Promise<void> {
  const known = new Set(whole.map(({ name }) => name));
  const left = (await recordedNames(options.out)).filter((name) => !known.has(name));
  if (left.length === 0) return;
  options.onNote?.(
    `${listNames(left)}: made by an earlier release, not in this manifest; left there, and in none of its lists`,
  );
}
