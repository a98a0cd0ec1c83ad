/** A finished folder onto the hub: what may be pushed, and what is told before. */
import { ParityError } from '../errors.js';
import { planPush, push, type PushOptions, type PushPlan, type Pushed } from './push.js';
import type { ReleasedItem } from './record.js';

export interface PublishOptions extends PushOptions {
  /** only say what would change */
  readonly dryRun?: boolean;
  /** told before anything is sent */
  readonly onPlan?: (plan: PushPlan) => void;
}

/** Did every model of it pass? Nothing else is ever pushed. */
export function isProven({ models }: Pick<ReleasedItem, 'models'>): boolean {
  return models.length > 0 && models.every(({ parity }) => parity.verdict === 'passed');
}

/**
 * @throws ParityError for a folder with a model that was not verified, or did not pass; like {@link planPush} and
 *   {@link push}
 */
export async function publish(
  released: ReleasedItem,
  folder: string,
  repo: string,
  options: PublishOptions,
): Promise<Pushed> {
  if (!isProven(released)) {
    const bad = released.models.filter(({ parity }) => parity.verdict !== 'passed');
    const which = bad.map(({ path, parity }) => `${path} (${parity.verdict})`).join(', ');
    throw new ParityError(`${released.item.name} is not pushed: parity of ${which}`, undefined, {
      next: 'Only models that passed are published: convert without --no-verify and --accept-quality.',
    });
  }
  const plan = await planPush(repo, folder, released.files, options);
  options.onPlan?.(plan);
  if (options.dryRun) return { repo };
  return await push(plan, folder, options);
}
