/**
 * A release manifest: which checkpoints become which files. YAML (or JSON, which YAML includes), checked field by
 * field; every complaint names line and column.
 */
import { readFile } from 'node:fs/promises';
import { dirname, isAbsolute, resolve } from 'node:path';
import { LineCounter, parseDocument } from 'yaml';
import { z } from 'zod';
import { catalogRow } from '../convert/catalog.js';
import { parseSource } from '../convert/source.js';
import { InputError, UsageError, listNames, printable } from '../errors.js';
import { OPSETS } from '../export/onnx.js';
import { isLabelWord } from '../label-sets.js';
import { RESIZE_METHODS } from '../resizing.js';
import { Places, schemaError, yamlError } from './manifest-errors.js';

export const DTYPES = ['fp32', 'fp16', 'q8', 'int8', 'uint8', 'q4', 'q4f16'] as const;
export const TASKS = ['classify', 'features', 'masked-image', 'segment'] as const;
export const NAME_STYLES = ['plain', 'openmmlab'] as const;
export type NameStyle = (typeof NAME_STYLES)[number];

/** A folder name that is one on every system, and a repository name on the hub. */
const NAME = /^(?!.*\.\.)[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?$/;

/** What lies over all models; some file systems do not tell upper from lower case. */
const TAKEN = /^(?:readme\.md|metafile\.yml|release\.json|sha256sums|.*\.zip)$/i;

const side = z.int().min(1).max(100_000);
const text = z.string().min(1).max(10_000);

/** What an item may say, and `defaults` for all of them. */
const settings = {
  task: z.enum(TASKS),
  dtype: z
    .array(z.enum(DTYPES))
    .min(1)
    .refine((names) => new Set(names).size === names.length, 'a precision is named twice'),
  keep: z.array(text).min(1),
  opset: z.int().min(OPSETS[0]).max(OPSETS.at(-1)!),
  image_size: z.union(
    [side, z.tuple([side, side])],
    'a whole number of pixels, or [height, width], is needed',
  ),
  resize: z.enum(RESIZE_METHODS),
  beit_version: z.literal([1, 2]),
  with_weights: z.boolean(),
  external_data: z.boolean(),
  samples: z.int().min(1).max(1000),
  license: text,
  datasets: z.array(text),
  tags: z.array(text),
  push: text,
};

const itemSchema = z.strictObject({
  ...Object.fromEntries(Object.entries(settings).map(([key, type]) => [key, type.optional()])),
  name: z
    .string()
    .regex(NAME, 'letters, digits, ".", "_" and "-" are needed')
    .refine((name) => !TAKEN.test(name), 'a file of the release itself has this name'),
  source: text,
  config: text.optional(),
  labels: text.optional(),
  title: text.optional(),
  base_model: text.optional(),
  pretrain: text.optional(),
  training_data: z.array(text).optional(),
  metrics: z
    .strictObject({
      top1: z.number().min(0).max(100).optional(),
      top5: z.number().min(0).max(100).optional(),
    })
    .optional(),
  converted_from: text.optional(),
});

/** Every field that a model may have; `docs/release.md` describes them. */
export const ITEM_FIELDS: readonly string[] = Object.keys(itemSchema.shape);

const manifestSchema = z.strictObject({
  version: z.literal(1),
  name: text.optional(),
  defaults: z
    .strictObject(Object.fromEntries(Object.entries(settings).map(([key, type]) => [key, type.optional()])))
    .optional(),
  models: z.array(itemSchema).min(1).max(10_000),
});

type Settings = { readonly [K in keyof typeof settings]?: z.infer<(typeof settings)[K]> };

/** One model of a release, as the manifest says it. Paths are absolute. */
export interface ReleaseItem extends Settings {
  readonly name: string;
  readonly source: string;
  readonly config?: string;
  readonly labels?: string;
  readonly title?: string;
  readonly base_model?: string;
  readonly pretrain?: string;
  readonly training_data?: readonly string[];
  /** published accuracy, percent */
  readonly metrics?: { readonly top1?: number; readonly top5?: number };
  readonly converted_from?: string;
}

export interface Manifest {
  readonly name: string;
  readonly items: readonly ReleaseItem[];
}

const MANIFEST_BYTES = 4 * 1024 * 1024;

/** @throws InputError naming line and column of everything that is wrong */
export async function readManifest(path: string): Promise<Manifest> {
  const bytes = await readFile(path).catch((cause: NodeJS.ErrnoException) => {
    throw new InputError(`the manifest ${printable(path, 300)} cannot be read (${cause.code ?? 'error'})`, {
      next: 'Give the path of a release manifest (YAML); fixtures/zoo-tiny.yaml is an example.',
      cause,
    });
  });
  if (bytes.length > MANIFEST_BYTES) {
    throw new InputError(
      `the manifest ${printable(path, 300)} has ${bytes.length} bytes; 4 MiB are enough for any`,
    );
  }
  return parseManifest(bytes.toString('utf8'), path);
}

/** @param path names the manifest in messages; its folder is where relative paths start */
export function parseManifest(source: string, path: string): Manifest {
  const lines = new LineCounter();
  // Aliases that multiply (`*a` of `*a` of …) are refused by the parser's own count.
  const document = parseDocument(source, { lineCounter: lines, uniqueKeys: true, prettyErrors: false });
  const places = new Places(document, lines, path);
  if (document.errors.length > 0) throw yamlError(document.errors[0], places);
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: 100 });
  } catch (cause) {
    throw new InputError(`${places.at(0)}: the aliases of this YAML expand beyond reason`, { cause });
  }
  const checked = manifestSchema.safeParse(value);
  if (!checked.success) throw schemaError(checked.error, value, places);
  const { name, defaults, models } = checked.data;
  refuseDuplicates(models, places);
  const here = dirname(resolve(path));
  return {
    name: name ?? 'release',
    items: models.map((model, index) => {
      const isLocal = checkSource(model.source, places.of(['models', index, 'source']));
      return withPaths({ ...defaults, ...model } as ReleaseItem, here, isLocal);
    }),
  };
}

/** A wrong name is told before hours of work. @returns is it a path? */
function checkSource(text: string, at: string): boolean {
  try {
    const source = parseSource(text);
    if (source.kind === 'official' || source.kind === 'mmpretrain') catalogRow(source.name, source.kind);
    return source.kind === 'file';
  } catch (cause) {
    if (!(cause instanceof UsageError)) throw cause;
    throw new InputError(`${at}: ${cause.message}`, { next: cause.next, cause });
  }
}

function refuseDuplicates(models: readonly { readonly name: string }[], places: Places): void {
  const seen = new Map<string, number>();
  for (const [index, { name }] of models.entries()) {
    // Folders: some file systems do not tell upper from lower case.
    const first = seen.get(name.toLowerCase());
    if (first !== undefined) {
      throw new InputError(
        `${places.of(['models', index, 'name'])}: two models are called ${printable(name)}`,
        {
          next: 'Every model needs a name of its own: it names its folder.',
        },
      );
    }
    seen.set(name.toLowerCase(), index);
  }
}

function withPaths(item: ReleaseItem, here: string, isLocal: boolean): ReleaseItem {
  const local = (path: string): string => (isAbsolute(path) ? path : resolve(here, path));
  return {
    ...item,
    source: isLocal ? local(item.source) : item.source,
    ...(item.config !== undefined && { config: local(item.config) }),
    ...(item.labels !== undefined && { labels: isLabelWord(item.labels) ? item.labels : local(item.labels) }),
  };
}

/** `1/4`: this machine's part, counted from 1. Every n-th item, so that neighbours (of one size) are spread. */
export interface Shard {
  readonly index: number;
  readonly count: number;
}

export function shardOf<T>(items: readonly T[], shard: Shard | undefined): readonly T[] {
  return shard ? items.filter((_, i) => i % shard.count === shard.index - 1) : items;
}

/** Only the named items, in the manifest's order. @throws InputError for a name it lacks */
export function selectItems(
  items: readonly ReleaseItem[],
  only: readonly string[] | undefined,
): readonly ReleaseItem[] {
  if (!only) return items;
  const missing = only.filter((name) => !items.some((item) => item.name === name));
  if (missing.length > 0) {
    throw new InputError(`the manifest has no model called ${listNames(missing)}`, {
      next: `It has ${listNames(
        items.map(({ name }) => name),
        10,
      )}.`,
    });
  }
  return items.filter(({ name }) => only.includes(name));
}
