/** `--push` and what belongs to it, for every command that makes folders. */
import { formatBytes } from '../bytes.js';
import { UsageError, printable } from '../errors.js';
import type { CommonOptions } from '../pipeline.js';
import type { PushPlan, Pushed, ReleasedItem } from '../release/index.js';
import type { Session } from './session.js';

export interface PushFlags {
  readonly push?: string;
  readonly dryRun?: boolean;
  readonly private?: boolean;
  readonly pr?: boolean;
}

export interface PushOutcome extends Partial<Pushed> {
  readonly name: string;
  readonly repo: string;
  readonly dryRun?: true;
  readonly plan?: PushPlan;
  readonly error?: { readonly kind: string; readonly message: string; readonly next?: string };
}

/** A finished model and where it lies. */
export interface FinishedFolder {
  readonly name: string;
  readonly folder: string;
  readonly released: ReleasedItem;
}

/**
 * Checked before anything is converted.
 *
 * @returns what pushes every finished model; nothing without `--push` and without `push` in the manifest
 * @throws UsageError for a name that is none, or one for several models
 */
export function pushOptions(
  flags: PushFlags,
  names: readonly string[],
): (
  folders: readonly FinishedFolder[],
  common: Required<CommonOptions>,
  session: Session,
) => Promise<PushOutcome[]> {
  const { push: template } = flags;
  if (template === undefined) {
    const given = (['dryRun', 'private', 'pr'] as const).find((name) => flags[name]);
    if (given !== undefined) {
      const flag = given === 'dryRun' ? '--dry-run' : `--${given}`;
      throw new UsageError(`${flag} is about a push, and nothing is to be pushed`, {
        next: 'Add --push <owner>/<name>.',
      });
    }
    return () => Promise.resolve([]);
  }
  if (names.length > 1 && !template.includes('{name}')) {
    throw new UsageError(`--push ${printable(template)} is one repository for ${names.length} models`, {
      next: 'Put {name} where the model’s name goes: --push me/{name}.',
    });
  }
  return async (folders, common, session) => {
    const { checkRepository, publish, repositoryOf } = await import('../release/index.js');
    const repositories = new Map(names.map((name) => [name, checkRepository(repositoryOf(template, name))]));
    const outcomes: PushOutcome[] = [];
    for (const { name, folder, released } of folders) {
      const repo = repositories.get(name)!;
      let plan: PushPlan | undefined;
      try {
        common.signal.throwIfAborted();
        const pushed = await publish(released, folder, repo, {
          env: common.env,
          signal: common.signal,
          private: flags.private,
          pullRequest: flags.pr,
          dryRun: flags.dryRun,
          title: `Release ${name}`,
          onPlan: (told) => {
            plan = told;
            for (const line of planLines(told, flags)) session.say(line);
          },
          onProgress: (file, done, total) => {
            common.onProgress({ phase: 'upload', label: `${name}: ${file}`, done, total, unit: 'bytes' });
          },
        });
        outcomes.push({ name, ...pushed, ...(flags.dryRun && { dryRun: true as const, plan }) });
      } catch (error) {
        if (common.signal.aborted) throw error;
        const { name: kind, message, next } = error as Error & { next?: string };
        outcomes.push({ name, repo, error: { kind, message, ...(next !== undefined && { next }) } });
      }
    }
    return outcomes;
  };
}

/** What a push will change, told before it does. */
function planLines({ repo, endpoint, createsRepository, changes }: PushPlan, flags: PushFlags): string[] {
  const wanted = changes.filter(({ change }) => change !== 'same');
  const bytes = wanted.reduce((sum, file) => sum + file.bytes, 0);
  const kind = flags.private ? 'private repository' : 'repository';
  return [
    `${printable(endpoint)}/${repo}: ${createsRepository ? `new ${kind}, ` : ''}${
      wanted.length === 0
        ? 'nothing to change'
        : `${wanted.length} of ${changes.length} files to send, ${formatBytes(bytes)}`
    }`,
    ...wanted.map(({ path, bytes: size, change }) => `  ${change} ${path} (${formatBytes(size)})`),
  ];
}

export function pushedLines(outcomes: readonly PushOutcome[]): string[] {
  return outcomes.flatMap(({ repo, dryRun, error, url, pullRequest }) => {
    if (error) {
      return [
        `not pushed to ${repo}: ${printable(error.message, 600)}`,
        ...(error.next === undefined ? [] : [`  next: ${printable(error.next, 600)}`]),
      ];
    }
    if (dryRun) return [`would be pushed to ${repo} (--dry-run)`];
    const where = pullRequest ?? url;
    return [where === undefined ? `${repo} is up to date` : `pushed to ${printable(where, 300)}`];
  });
}
