/**
 * Everything that can be known about a checkpoint without reading its weights: container, layout, config, version.
 * `load` insists that all of it is fine, `inspect` shows how far it is.
 */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { BeitConfig } from '../beit.js';
import type { ByteSource } from '../bytes.js';
import { inferConfig, type ConfigHints } from '../infer-config.js';
import { ConvertBeitError, LayoutError, UsageError, printable } from '../errors.js';
import { padsImages } from '../model.js';
import type { Preprocessing } from '../preprocessing.js';
import type { ResizeMethod } from '../resizing.js';
import type { Tensor } from '../tensor.js';
import { shortName, type Checkpoint } from './checkpoint.js';
import type { ModelInfo } from './config-fields.js';
import { describeFamily } from './family.js';
import { withoutClassToken } from './class-token.js';
import { checkInventory } from './inventory.js';
import {
  applyLayout,
  detectLayout,
  sourceNameOf,
  type AppliedLayout,
  type Layout,
  type Table,
} from './layout.js';
import { LAYOUTS } from './layouts/index.js';
import { limitOf } from './limits.js';
import { checkpointFile, openCheckpoint } from './open.js';
import { indexWindow } from './relative-position.js';
import { judgeVersion, worthKnowing, type VersionVerdict } from './verdicts.js';
import { withoutZeroBiases } from './zero-biases.js';

export type { VersionVerdict } from './verdicts.js';

/** Loaded only where there is a config: checking one needs zod, which takes longer to load than a small model. */
const configFiles = async () => await import('./config-file.js');

export interface LoadOptions {
  /** opens the checkpoint and the files beside it, when they are not simply on the disk */
  readonly open?: ((path: string) => Promise<ByteSource>) | undefined;
  /** what the source is called in reports; the file's name by default */
  readonly id?: string;
  /** commit that a hub revision resolved to */
  readonly commit?: string;
  /** of the one file, lower-case hex, when somebody has vouched for it */
  readonly sha256?: string;
  /** file given with `--config`; its fields win over `hints` and over a `config.json` beside the weights */
  readonly configPath?: string;
  readonly hints?: ConfigHints;
  readonly version?: 1 | 2;
  /** one sentence: where `version` is from */
  readonly versionEvidence?: string;
  readonly preprocessing?: Preprocessing;
  readonly labels?: readonly string[];
  /** one phrase: where `labels` is from */
  readonly labelsOrigin?: string;
  /** what to do with one table for all blocks; `keep` by default */
  readonly sharedTable?: 'keep' | 'spread';
  /** `[height, width]` in pixels: resize to this; `hints.imageSize` is what the source has */
  readonly imageSize?: readonly [number, number];
  /** side of a patch in pixels: resize to this */
  readonly patchSize?: number;
  /** whose arithmetic; `unilm` by default */
  readonly resize?: ResizeMethod;
  /** name of a layout; detected by default */
  readonly layout?: string;
  /** the averaged weights of a PyTorch file */
  readonly ema?: boolean;
  /** dotted path of the weights in a PyTorch file; found by themselves by default */
  readonly key?: string;
  /** compare index buffers with the rebuilt index; `true` by default */
  readonly checkBuffers?: boolean;
}

export interface Assessment extends VersionVerdict {
  readonly checkpoint: Checkpoint;
  /** the checkpoint's own file, without its folder */
  readonly file: string;
  readonly layout: Layout;
  readonly table: Table;
  readonly applied?: AppliedLayout;
  readonly config?: BeitConfig;
  /** in the inventory's order, when it is complete */
  readonly tensors?: ReadonlyMap<string, Tensor>;
  readonly labels?: readonly string[];
  readonly labelsOrigin?: string;
  readonly preprocessing?: Preprocessing;
  readonly notes: readonly string[];
  /** why it cannot be converted */
  readonly problem?: ConvertBeitError;
}

/**
 * Open a checkpoint and find out what it is. The caller closes `checkpoint`.
 *
 * @throws InputError, FormatError if there is nothing to assess; what is wrong with the model itself is `problem`
 */
export async function assess(path: string, options: LoadOptions = {}): Promise<Assessment> {
  const forced = forcedLayout(options.layout);
  const given =
    options.configPath === undefined
      ? undefined
      : await (await configFiles()).readConfigFile(options.configPath);
  const file = options.open ? path : await checkpointFile(path);
  const checkpoint = await openCheckpoint(file, options, options.open);
  const notes: string[] = [...(given?.notes ?? []), ...(checkpoint.notes ?? [])];
  let { layout, table } = detectLayout(forced ? [forced] : LAYOUTS, checkpoint.tensors);
  const name = shortName(file);
  let sibling: ModelInfo | undefined;
  let applied: AppliedLayout | undefined;
  let config: BeitConfig | undefined;
  let tensors: ReadonlyMap<string, Tensor> | undefined;
  let problem: ConvertBeitError | undefined;
  try {
    sibling = await siblingOf(file, options.configPath !== undefined, notes);
    // timm and the official code share their names; only a config beside the weights tells them apart.
    const named = LAYOUTS.find((each) => each.name === (given?.layout ?? sibling?.layout));
    if (!forced && named && layout.name === 'official') {
      ({ layout, table } = detectLayout([named, layout], checkpoint.tensors));
    }
    applied = translate(checkpoint, layout, name);
    table = applied.table;
    const hints = {
      ...mergeHints(given?.hints, options.hints, sibling?.hints, notes),
      // mmcv `PatchEmbed` pads at the bottom and the right; unilm, timm and transformers leave the rest out.
      padsImages: padsImages(layout.name),
    };
    if (layout.name === 'transformers' && hints.qkvBias === false) {
      applied = await withoutZeroBiases(applied, hints.origin ?? 'the given config');
    }
    if (hints.classToken === false) {
      applied = withoutClassToken(applied, hints.origin ?? 'the given config', notes);
    }
    const { prefix, sourceNames } = applied;
    const inferred = inferConfig(applied.tensors, hints, await windowOf(applied), (canonical) =>
      printable(sourceNames.get(canonical) ?? sourceNameOf(table, canonical, prefix), 400),
    );
    checkLimits(applied, inferred.config);
    tensors = checkInventory(applied, inferred.config);
    config = inferred.config;
    notes.push(...inferred.notes, ...worthKnowing(applied, config, hints));
  } catch (error) {
    if (!(error instanceof ConvertBeitError)) {
      await checkpoint.close();
      throw error;
    }
    problem = error;
  }
  return {
    checkpoint,
    file: name,
    layout,
    table,
    applied,
    config,
    tensors,
    problem,
    notes,
    ...judgeVersion(options, given, sibling, name, applied?.tensors, notes),
    ...firstLabels(
      [options.labels, options.labelsOrigin ?? 'given'],
      [given?.labels, shortName(options.configPath ?? '')],
      [sibling?.labels, 'config.json beside the weights'],
      [checkpoint.contents?.labels, 'the checkpoint'],
    ),
    preprocessing: options.preprocessing ?? given?.preprocessing ?? sibling?.preprocessing,
  };
}

function firstLabels(
  ...places: readonly (readonly [labels: readonly string[] | undefined, origin: string])[]
): Pick<Assessment, 'labels' | 'labelsOrigin'> {
  const found = places.find(([labels]) => labels !== undefined);
  return found ? { labels: found[0], labelsOrigin: found[1] } : {};
}

function forcedLayout(name: string | undefined): Layout | undefined {
  if (name === undefined) return undefined;
  const found = LAYOUTS.find((layout) => layout.name === name);
  if (found) return found;
  throw new UsageError(`there is no layout "${printable(name)}"`, {
    next: `Layouts: ${LAYOUTS.map((layout) => layout.name).join(', ')}.`,
  });
}

async function siblingOf(
  file: string,
  configGiven: boolean,
  notes: string[],
): Promise<ModelInfo | undefined> {
  try {
    const beside = join(dirname(file), 'config.json');
    const sibling = existsSync(beside) ? await (await configFiles()).readSiblingConfig(beside) : undefined;
    notes.push(...(sibling?.notes ?? []));
    return sibling;
  } catch (error) {
    if (!(error instanceof ConvertBeitError)) throw error;
    if (configGiven) {
      notes.push(`config.json beside the weights is ignored: ${error.message}`);
      return undefined;
    }
    const Class = error.constructor as typeof ConvertBeitError;
    throw new Class(error.message, {
      next: 'It lies beside the weights and may say what they cannot: repair or remove it, or give another with --config.',
      cause: error,
    });
  }
}

/** Apply the layout; when it does not fit, say which model this is before which names are unknown. */
function translate(checkpoint: Checkpoint, layout: Layout, file: string): AppliedLayout {
  if (checkpoint.tensors.size === 0) throw new LayoutError(`${file} holds no tensors`);
  try {
    return applyLayout(layout, checkpoint.tensors);
  } catch (error) {
    const fits = detectLayout(LAYOUTS, checkpoint.tensors);
    if (fits.layout !== layout && fits.known === checkpoint.tensors.size && error instanceof LayoutError) {
      throw new LayoutError(
        `${file} has the tensor names of the ${fits.layout.name} layout, not of the ${layout.name} layout`,
        { next: `Leave --layout out, or give --layout ${fits.layout.name}.`, cause: error },
      );
    }
    const family = describeFamily(checkpoint.tensors.keys());
    if (!family || !(error instanceof LayoutError)) throw error;
    throw new LayoutError(`${file} looks like ${family.what}: it has ${family.evidence}`, {
      next: family.next,
      cause: error,
    });
  }
}

/** Names alone allow more than the framework that a file comes from can be told. */
function checkLimits({ layout, table, sourceNames, prefix }: AppliedLayout, config: BeitConfig): void {
  const limit = limitOf(layout, config);
  if (!limit) return;
  const name = printable(sourceNames.get(limit.tensor) ?? sourceNameOf(table, limit.tensor, prefix));
  throw new LayoutError(
    sourceNames.has(limit.tensor)
      ? `${name} has no place in a model of this config in the ${layout.name} layout: ${limit.why}`
      : `${name} is missing; in the ${layout.name} layout every BEiT has it (${limit.why})`,
    {
      next: 'Nothing is left out silently: get the original checkpoint, or remove what does not belong to it.',
    },
  );
}

/** Field by field, the first that says something wins. */
function mergeHints(
  given: ConfigHints | undefined,
  known: ConfigHints | undefined,
  sibling: ConfigHints | undefined,
  notes: string[],
): ConfigHints {
  const merged = new Map<string, unknown>();
  const origins: string[] = [];
  for (const hints of [given, known, sibling]) {
    if (!hints) continue;
    const { origin = 'the given config', ...fields } = hints;
    const told = Object.entries(fields).filter(([, value]) => value !== undefined);
    for (const [field, value] of told) {
      if (!merged.has(field)) merged.set(field, value);
      else if (String(merged.get(field)) !== String(value)) {
        notes.push(
          `${printable(origin)} says ${field} ${String(value)}; ${String(merged.get(field))} is given and used`,
        );
      }
    }
    if (told.length > 0 && !origins.includes(origin)) origins.push(origin);
  }
  return { ...(Object.fromEntries(merged) as ConfigHints), origin: origins.join(' / ') || undefined };
}

/** What the first index buffer that says anything says. */
async function windowOf(applied: AppliedLayout): Promise<readonly [number, number] | undefined> {
  for (const [canonical, name] of applied.bufferNames) {
    const table = applied.tensors.get(
      canonical.replace('relative_position_index', 'relative_position_bias_table'),
    );
    if (table?.shape.length !== 2) continue;
    const window = await indexWindow(applied.buffers.get(name)!, table.shape[0]);
    if (window) return window;
  }
  return undefined;
}
