/**
 * Many models in one run: every item a folder, and over all of them the files that a release needs.
 */
import { mkdir, readFile, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { availableParallelism, freemem } from 'node:os';
import { createHash, randomBytes } from 'node:crypto';
import { basename, join } from 'node:path';
import { InterruptedError, UsageError, printable } from '../errors.js';
import type { CommonOptions } from '../results.js';
import { fileError } from '../sink.js';
import { VERSION } from '../version.js';
import { writeBundle } from './bundle.js';
import { hashFile } from './files.js';
import {
  readManifest,
  selectItems,
  shardOf,
  type NameStyle,
  type ReleaseItem,
  type Shard,
} from './manifest.js';
import { metafile, readmeTable } from './metafile.js';
import { sourceDateEpoch } from './names.js';
import { planItem, type PlannedItem } from './plan.js';
import type { ReleasedFile, ReleasedItem } from './record.js';
import { runJobs } from './schedule.js';
import { finishedItem, keyOf, recordFinished } from './state.js';
import { checksums } from './sums.js';

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
  /** bytes all jobs together may need; default: half of what is free */
  readonly memory?: number;
  readonly nameStyle?: NameStyle;
  /** also write everything as one zip beside the folders */
  readonly zip?: boolean;
  readonly verify?: boolean;
  /** `<owner>/{name}`: where the folders will be on the hub, which their cards say; wins over the manifest */
  readonly push?: string;
  readonly onItem?: (event: ItemEvent) => void;
}

export interface ItemEvent {
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
  inputs(item: ReleaseItem, common: CommonOptions): Promise<unknown>;
  /** the same, where what could not be found out is taken as it was when the item was finished */
  asFinished?(inputs: unknown, finished: ReleasedItem): unknown;
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
  const items = shardOf(selectItems(manifest.items, options.only), options.shard).map((item) =>
    options.push === undefined ? item : { ...item, push: options.push },
  );
  const epoch = sourceDateEpoch(options.env ?? process.env);
  const nameStyle = options.nameStyle ?? 'plain';
  await makeFolder(options.out);
  const work = await openWork(options.out);
  try {
    const plans = await Promise.all(items.map(planItem));
    const jobs = items.map((item, i) => ({
      memory: plans[i].memory,
      run: () => one(item, i),
    }));
    const limits = {
      jobs: options.jobs ?? Math.max(1, Math.floor(availableParallelism() / 2)),
      memory: options.memory ?? Math.floor(freemem() / 2),
    };
    const outcomes = await runJobs(jobs, limits);
    if (options.signal?.aborted) {
      throw new InterruptedError('interrupted; finished models are kept, run the same command to go on');
    }
    const statuses = outcomes.map((outcome) => {
      if ('error' in outcome) throw outcome.error;
      return outcome.value;
    });
    const done = statuses.flatMap(({ released }) => (released ? [released] : []));
    const files = await overall(options, manifest.name, done, work, epoch);
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
    const tell = (event: Pick<ItemEvent, 'status' | 'bytes' | 'seconds' | 'error'>): void =>
      options.onItem?.({ name: item.name, index, count: items.length, ...event });
    const elapsed = (): number => (performance.now() - began) / 1000;
    const common: CommonOptions = {
      signal: options.signal,
      env: options.env,
      onNote: (text) => options.onNote?.(`${item.name}: ${text}`),
      onProgress: (event) =>
        options.onProgress?.({
          ...event,
          label: `${index + 1}/${items.length} ${item.name}: ${event.label}`,
        }),
    };
    try {
      options.signal?.throwIfAborted();
      const keyWith = (inputs: unknown): string =>
        keyOf({
          tool: VERSION,
          item: withoutPaths(item),
          nameStyle,
          // Only dated names depend on the date.
          ...(nameStyle === 'openmmlab' && { epoch: epoch ?? 'today' }),
          verify: options.verify ?? true,
          inputs,
        });
      const inputs = await builder.inputs(item, common);
      const finished = await finishedItem(
        options.out,
        item.name,
        (earlier) => keyWith(builder.asFinished?.(inputs, earlier) ?? inputs),
        options.signal,
      );
      if (finished) {
        const bytes = sizeOf(finished.files);
        tell({ status: 'unchanged', bytes, seconds: elapsed() });
        return { name: item.name, status: 'unchanged', bytes, seconds: elapsed(), released: finished };
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
      await recordFinished(options.out, item.name, keyWith(inputs), released);
      const bytes = sizeOf(released.files);
      tell({ status: 'built', bytes, seconds: elapsed() });
      return { name: item.name, status: 'built', bytes, seconds: elapsed(), released };
    } catch (error) {
      tell({ status: 'failed', seconds: elapsed(), error });
      return { name: item.name, status: 'failed', seconds: elapsed(), error: errorData(error) };
    }
  }
}

const sizeOf = (files: readonly ReleasedFile[]): number => files.reduce((sum, { bytes }) => sum + bytes, 0);

/** Where files lie on this machine does not decide what is made of them; their content does, and is hashed. */
function withoutPaths(item: ReleaseItem): unknown {
  const { source, config, labels, ...rest } = item;
  const short = (path: string | undefined): string | undefined => path && basename(path);
  return { ...rest, source: short(source), config: short(config), labels: short(labels) };
}

function errorData(error: unknown): ReleasedStatus['error'] {
  const { name, message, next } = error as { name?: string; message?: string; next?: string };
  return { kind: name ?? 'Error', message: message ?? String(error), ...(next !== undefined && { next }) };
}

async function makeFolder(out: string): Promise<void> {
  const found = await stat(out).catch(() => undefined);
  if (found && !found.isDirectory()) {
    throw new UsageError(`--out ${printable(out, 300)} is a file; a release is a folder`, {
      next: 'Choose another --out.',
    });
  }
  await mkdir(out, { recursive: true }).catch((error: unknown) => {
    throw fileError(error, out);
  });
}

/** A place for what is not finished; what processes that are gone have left there is removed. */
async function openWork(out: string): Promise<string> {
  const state = join(out, '.release');
  await mkdir(state, { recursive: true });
  for (const name of await readdir(state)) {
    const pid = /^work-(\d+)-/.exec(name)?.[1];
    if (pid !== undefined && !isRunning(Number(pid)))
      await rm(join(state, name), { recursive: true, force: true });
    if (name.endsWith('.new')) await rm(join(state, name), { force: true });
  }
  const work = join(state, `work-${process.pid}-${randomBytes(4).toString('hex')}`);
  await mkdir(work);
  return work;
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** A folder takes another's place; a moment in between has neither, which the next run repairs. */
async function replaceFolder(from: string, to: string, aside: string): Promise<void> {
  await rename(to, aside).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw fileError(error, to);
  });
  await rename(from, to).catch(async (error: unknown) => {
    await rename(aside, to).catch(() => undefined);
    throw fileError(error, to);
  });
  await rm(aside, { recursive: true, force: true });
}

/** `metafile.yml`, `README.md`, `release.json`, `SHA256SUMS` and the bundle: each whole, or as it was. */
async function overall(
  options: ReleaseOptions,
  name: string,
  done: readonly ReleasedItem[],
  work: string,
  epoch: number | undefined,
): Promise<readonly ReleasedFile[]> {
  const files: ReleasedFile[] = [];
  const place = async (path: string, content: string): Promise<ReleasedFile> => {
    const bytes = Buffer.from(content);
    await writeFile(join(work, path), bytes);
    await rename(join(work, path), join(options.out, path));
    return { path, bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') };
  };
  const manifestBytes = await readFile(options.manifest);
  const provenance = {
    schema: 'convert-beit/release/1',
    tool: { name: 'convert-beit', version: VERSION },
    manifest: {
      name: basename(options.manifest),
      sha256: createHash('sha256').update(manifestBytes).digest('hex'),
    },
    ...(epoch !== undefined && { sourceDateEpoch: epoch }),
    items: done.map(({ item, source, models, files: own }) => ({
      name: item.name,
      options: withoutPaths(item),
      inputs: { id: source.id, commit: source.commit, files: source.files, labels: source.labels ?? null },
      config: source.config,
      preprocessing: source.preprocessing,
      models,
      outputs: own,
    })),
  };
  files.push(await place('README.md', readmeTable(name, done)));
  files.push(await place('metafile.yml', metafile(done)));
  files.push(await place('release.json', `${JSON.stringify(provenance, undefined, 2)}\n`));
  const all = [
    ...files,
    ...done.flatMap(({ item, files: own }) =>
      own.map((file) => ({ ...file, path: `${item.name}/${file.path}` })),
    ),
  ];
  const sums = await place('SHA256SUMS', checksums(all));
  files.push(sums);
  if (options.zip) {
    const bundle = `${name.replaceAll(/[^A-Za-z0-9._-]+/g, '-')}.zip`;
    await writeBundle(join(work, bundle), options.out, [...all, sums], { signal: options.signal, epoch });
    await rename(join(work, bundle), join(options.out, bundle));
    files.push(await hashFile(options.out, bundle));
  }
  return files;
}
