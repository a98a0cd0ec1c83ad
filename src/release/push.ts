/**
 * A folder onto the hub, in one commit: the repository is created if it is missing, files that are there already stay
 * as they are, and nothing is visible before all of it is.
 */
import type { Env } from '../env.js';
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { hubSettings } from '../convert/sources/hub-settings.js';
import { UsageError, printable } from '../errors.js';
import { pushError, type PushContext } from './push-errors.js';
import { retryingFetch } from './push-fetch.js';
import type { ReleasedFile } from './record.js';

export interface PushOptions {
  readonly env?: Env;
  readonly private?: boolean;
  /** as a pull request instead of a commit to `main` */
  readonly pullRequest?: boolean;
  readonly title: string;
  readonly signal?: AbortSignal;
  readonly onProgress?: (file: string, done: number, total: number) => void;
}

export interface PlannedChange {
  readonly path: string;
  readonly bytes: number;
  readonly change: 'add' | 'update' | 'same';
}

export interface PushPlan {
  readonly repo: string;
  readonly endpoint: string;
  readonly createsRepository: boolean;
  readonly changes: readonly PlannedChange[];
}

export interface Pushed {
  readonly repo: string;
  /** absent when nothing had to change */
  readonly commit?: string;
  readonly url?: string;
  readonly pullRequest?: string;
}

const REPOSITORY = /^[A-Za-z0-9][A-Za-z0-9._-]{0,95}\/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$/;

/** @throws UsageError unless it is `<owner>/<name>` */
export function checkRepository(repo: string): string {
  if (!REPOSITORY.test(repo) || repo.includes('..') || repo.includes('--')) {
    throw new UsageError(`--push ${printable(repo)} is not the name of a repository`, {
      next: 'Write <owner>/<name>, as on the hub; {name} stands for the model’s name.',
    });
  }
  return repo;
}

/**
 * What a push would change; nothing is sent.
 *
 * @param folder where the files are
 * @throws NetworkError, UsageError (no token, no right)
 */
export async function planPush(
  repo: string,
  folder: string,
  files: readonly ReleasedFile[],
  options: PushOptions,
): Promise<PushPlan> {
  const { context, common, hub } = await connect(repo, options);
  try {
    const exists = await hub.repoExists({
      repo: common.repo,
      hubUrl: common.hubUrl,
      fetch: common.fetch,
      accessToken: common.accessToken,
    });
    const remote = new Map<string, string>();
    if (exists) {
      for (let at = 0; at < files.length; at += 100) {
        const infos = await hub.pathsInfo({
          ...common,
          paths: files.slice(at, at + 100).map(({ path }) => path),
        });
        for (const { path, oid, lfs } of infos)
          remote.set(path, lfs ? `sha256:${lfs.oid}` : `blob:${oid ?? ''}`);
      }
    }
    const changes: PlannedChange[] = [];
    for (const { path, bytes, sha256 } of files) {
      const there = remote.get(path);
      const same =
        there === `sha256:${sha256}` ||
        (there?.startsWith('blob:') &&
          there === `blob:${await blobId(join(folder, ...path.split('/')), bytes)}`);
      changes.push({ path, bytes, change: same ? 'same' : there === undefined ? 'add' : 'update' });
    }
    return { repo, endpoint: context.endpoint, createsRepository: !exists, changes };
  } catch (error) {
    throw pushError(error, context);
  }
}

/**
 * Carry a plan out. Files that are the same on the hub are not sent; when all are, no commit is made.
 *
 * @throws NetworkError, UsageError; the hub shows none of the files then
 */
export async function push(plan: PushPlan, folder: string, options: PushOptions): Promise<Pushed> {
  const wanted = plan.changes.filter(({ change }) => change !== 'same');
  if (wanted.length === 0) return { repo: plan.repo };
  const { context, common, hub } = await connect(plan.repo, options);
  try {
    if (plan.createsRepository) {
      await hub
        .createRepo({
          repo: common.repo,
          hubUrl: common.hubUrl,
          fetch: common.fetch,
          accessToken: common.accessToken,
          visibility: options.private ? 'private' : 'public',
        })
        // Somebody (an earlier attempt of ours) was faster.
        .catch((error: unknown) => (statusOf(error) === 409 ? undefined : Promise.reject(error as Error)));
    }
    const sizes = new Map(wanted.map(({ path, bytes }) => [path, bytes]));
    const steps = hub.commitIter({
      ...common,
      title: options.title,
      isPullRequest: options.pullRequest,
      abortSignal: options.signal,
      operations: wanted.map(({ path }) => ({
        operation: 'addOrUpdate' as const,
        path,
        content: pathToFileURL(join(folder, ...path.split('/'))),
      })),
    });
    for (;;) {
      const step = await steps.next();
      if (!step.done) {
        if (step.value.event !== 'fileProgress' || step.value.state !== 'uploading') continue;
        const total = sizes.get(step.value.path) ?? 0;
        options.onProgress?.(step.value.path, Math.round(step.value.progress * total), total);
        continue;
      }
      const { commit, pullRequestUrl } = step.value ?? {};
      return {
        repo: plan.repo,
        ...(commit && { commit: commit.oid, url: commit.url }),
        ...(pullRequestUrl !== undefined && { pullRequest: pullRequestUrl }),
      };
    }
  } catch (error) {
    throw pushError(error, context);
  }
}

async function connect(repo: string, options: PushOptions) {
  const settings = await hubSettings(options.env);
  const context: PushContext = { repo, endpoint: settings.endpoint };
  if (settings.offline) {
    throw new UsageError('HF_HUB_OFFLINE is set: nothing can be pushed', { next: 'Unset it.' });
  }
  if (settings.token === undefined) {
    throw new UsageError(`pushing to ${printable(repo)} needs an access token`, {
      next: 'Set HF_TOKEN to one with the right to write (https://huggingface.co/settings/tokens).',
    });
  }
  // Its logging goes to stdout, where --json prints one object; nothing of it is news to a person.
  const hub = await import('@huggingface/hub');
  const common = {
    repo: { type: 'model' as const, name: repo },
    hubUrl: settings.endpoint,
    accessToken: settings.token,
    fetch: retryingFetch(options.signal),
  };
  return { context, common, hub };
}

function statusOf(error: unknown): number | undefined {
  const status = (error as { statusCode?: unknown } | null)?.statusCode;
  return typeof status === 'number' ? status : undefined;
}

/** Git's name of a file's content, which the hub gives for files outside of its large-file storage. */
async function blobId(path: string, bytes: number): Promise<string> {
  const hash = createHash('sha1').update(`blob ${bytes}\0`);
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}
