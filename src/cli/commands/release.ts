/** `convert-beit release`: many models from one manifest. */
import { join } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { UsageError, printable } from '../../errors.js';
import type { ItemEvent } from '../../release/index.js';
import type { CliDeps } from '../deps.js';
import { EXIT } from '../exit.js';
import { CliOption, OPTIONS, integer, text } from '../options.js';
import { ExitRequest, Session } from '../session.js';
import { timeLeft } from '../progress.js';
import { formatSeconds } from '../text.js';
import { pushOptions, pushedLines, type PushFlags } from '../push.js';

interface ReleaseFlags extends PushFlags {
  readonly out?: string;
  readonly plan?: boolean;
  readonly only?: readonly string[];
  readonly shard?: readonly [number, number];
  readonly jobs?: number;
  readonly memory?: number;
  readonly nameStyle?: 'plain' | 'openmmlab';
  readonly zip?: boolean;
  readonly verify: boolean;
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly verbose?: boolean;
}

const UNITS: ReadonlyMap<string, number> = new Map([
  ['', 1],
  ['k', 1e3],
  ['m', 1e6],
  ['g', 1e9],
  ['t', 1e12],
]);

/** `4GB`, `512MB`, `2GiB` */
function memory(value: string): number {
  const [, number, unit, binary] = /^(\d{1,9}(?:\.\d{1,3})?)\s*([kmgt]?)(i?)B?$/i.exec(value.trim()) ?? [];
  if (number === undefined) throw new InvalidArgumentError('It must be an amount such as 4GB or 512MB.');
  const decimal = UNITS.get(unit.toLowerCase())!;
  const scale = binary === '' ? decimal : 1024 ** Math.round(Math.log10(decimal) / 3);
  return Math.max(1, Math.round(Number(number) * scale));
}

const option = (flags: string, description: string): CliOption => new CliOption(flags, description);

export function releaseCommand(deps: CliDeps): Command {
  return new Command('release')
    .description('convert all models of a manifest into folders that clients load, with checksums and cards')
    .argument('<manifest>', 'YAML file; docs/release.md says what may be in it')
    .addOption(option('--out <folder>', 'where the folders go').takes('file').argParser(text))
    .addOption(option('--plan', 'only print what would be done; needs no network'))
    .addOption(option('--only <name...>', 'only these models').argParser(several))
    .addOption(OPTIONS.shard())
    .addOption(
      option('--jobs <n>', 'models side by side (default: by cores and memory)').argParser(integer(1, 256)),
    )
    .addOption(
      option(
        '--memory <amount>',
        'what all jobs together may need, e.g. 4GB (default: 1 GB, at most half of what is free)',
      ).argParser(memory),
    )
    .addOption(
      option(
        '--name-style <style>',
        'file names: as clients look for them, or dated as OpenMMLab does',
      ).choices(['plain', 'openmmlab']),
    )
    .addOption(option('--zip', 'everything as one .zip as well'))
    .addOption(option('--no-verify', 'write the files without checking them; they cannot be pushed'))
    .addOption(OPTIONS.push())
    .addOption(OPTIONS.dryRun())
    .addOption(OPTIONS.private())
    .addOption(OPTIONS.pr())
    .addOption(OPTIONS.json())
    .addOption(OPTIONS.quiet())
    .addOption(OPTIONS.verbose())
    .addHelpText(
      'after',
      `
What was finished by an earlier run is left as it is: run the same command again to go on.
SOURCE_DATE_EPOCH dates what has a date.

Examples:
  convert-beit release zoo.yaml --plan
  convert-beit release zoo.yaml --out dist
  convert-beit release zoo.yaml --out dist --shard 1/4
  convert-beit release zoo.yaml --out dist --push me/{name} --dry-run`,
    )
    .action(async (manifest: string, flags: ReleaseFlags) => {
      const session = new Session(deps, flags);
      const { planRelease } = await import('../../release/index.js');
      const chosen = {
        manifest,
        only: flags.only,
        ...(flags.shard && { shard: { index: flags.shard[0], count: flags.shard[1] } }),
      };
      const plan = await planRelease({ ...chosen, push: flags.push });
      if (flags.plan) {
        await session.answer({ items: plan }, async () =>
          (await import('../show/release.js')).showPlan(plan, session),
        );
        return;
      }
      if (flags.out === undefined) {
        throw new UsageError('--out <folder> must be given', {
          next: 'Say where the folders go, or look first: --plan.',
        });
      }
      const push = pushOptions(
        flags,
        plan.map(({ name }) => name),
      );
      const { result, pushed } = await session.work(async (common) => {
        const { release } = await import('../../release/index.js');
        const made = await release({
          ...common,
          ...chosen,
          out: flags.out!,
          jobs: flags.jobs,
          memory: flags.memory,
          nameStyle: flags.nameStyle,
          zip: flags.zip,
          verify: flags.verify,
          push: flags.push,
          onItem: (event) => {
            if (!common.signal.aborted) session.say(itemLine(event));
          },
        });
        // What failed is not pushed; it was told already.
        const finished = made.items.flatMap(({ name, released }) =>
          released ? [{ name, folder: join(made.out, name), released }] : [],
        );
        return { result: made, pushed: await push(finished, common, session) };
      });
      const failures = [
        ...result.items.flatMap(({ error }) => (error ? [error] : [])),
        ...pushed.flatMap(({ error }) => (error ? [error] : [])),
      ];
      const ok = failures.length === 0;
      await session.answer({ ok, ...result, ...(pushed.length > 0 && { pushed }) }, async () => [
        ...(await import('../show/release.js')).showRelease(result, session),
        ...pushedLines(pushed),
      ]);
      if (ok) return;
      throw new ExitRequest(failures.every(({ kind }) => kind === 'ParityError') ? EXIT.parity : EXIT.failed);
    });
}

function several(value: string, before: readonly string[] | undefined): string[] {
  return [...(before ?? []), ...text(value).split(',')];
}

/** `2/30 beit-base: built (31.2 s); 2 of 30 done, about 14 min 20 s left` */
function itemLine({ name, index, count, status, seconds, error, done, secondsLeft }: ItemEvent): string {
  const took = seconds === undefined ? '' : ` (${formatSeconds(seconds)})`;
  const why =
    status === 'failed' ? `: ${printable(error instanceof Error ? error.message : String(error), 400)}` : '';
  const left = secondsLeft === undefined || done === count ? '' : `, about ${timeLeft(secondsLeft)} left`;
  const overall = status === 'started' || count === 1 ? '' : `; ${done} of ${count} done${left}`;
  return `${index + 1}/${count} ${name}: ${status}${took}${why}${overall}`;
}
