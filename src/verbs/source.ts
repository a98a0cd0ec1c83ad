/** A source as the verbs see it: found, opened, held against what its name says. */
import type { BeitConfig } from '../beit.js';
import type { LoadOptions } from '../convert/load.js';
import { parseSource, resolveSource, type ResolvedSource } from '../convert/source.js';
import { FormatError, printable } from '../errors.js';
import type { BeitModel } from '../model.js';
import type { SourceOptions } from '../results.js';
import { labelsFromFile, withClassNames } from './names.js';

/** Find what `--src` names; download it if need be. */
export async function resolve(options: SourceOptions): Promise<ResolvedSource> {
  return await resolveSource(parseSource(options.src), {
    signal: options.signal,
    env: options.env,
    stream: options.stream,
    onNote: options.onNote,
    progress: ({ file, bytes, total }) =>
      options.onProgress?.({ phase: 'download', label: file, done: bytes, total, unit: 'bytes' }),
  });
}

/** What is known of a source before it is opened. */
export function loadOptions(resolved: ResolvedSource, options: SourceOptions): LoadOptions {
  const { row } = resolved;
  return {
    open: resolved.open,
    id: resolved.id,
    commit: resolved.commit,
    sha256: resolved.sha256,
    configPath: options.configPath,
    sharedTable: options.sharedTable,
    ema: options.ema,
    key: options.key,
    layout: options.layout,
    imageSize: options.imageSize,
    patchSize: options.patchSize,
    resize: options.resize,
    version: options.version ?? row?.version,
    ...(row && {
      versionEvidence: `catalog row ${row.name}`,
      preprocessing: row.preprocessing,
      hints: {
        origin: `the catalog (${row.name})`,
        imageSize: [row.imageSize, row.imageSize],
        ...(row.classes > 0 && { classes: row.classes }),
      },
    }),
  };
}

/**
 * The source as a model; its notes are told. The caller closes it.
 *
 * @param named are class names of any use here? Then a published model gets those it was trained on
 */
export async function load(
  resolved: ResolvedSource,
  options: SourceOptions,
  named: (config: BeitConfig) => boolean,
): Promise<BeitModel> {
  const { loadModel } = await import('../convert/load.js');
  const given = await labelsFromFile(options.labels);
  const model = await loadModel(resolved.path, {
    ...loadOptions(resolved, options),
    ...(given && { labels: given.labels, labelsOrigin: given.origin }),
  });
  for (const note of model.notes) options.onNote?.(note);
  try {
    return await withClassNames(model, options, named);
  } catch (error) {
    await model.close();
    throw error;
  }
}

/** A file that was read where it is could not be held against its name before all of it had come. */
export function checkDigestInName(
  { sha256Prefix, sha256 }: ResolvedSource,
  model: BeitModel,
  found: ReadonlyMap<string, string>,
): void {
  const { name } = model.provenance.files[0];
  const hex = found.get(name);
  if (sha256Prefix === undefined || sha256 !== undefined || !hex || hex.startsWith(sha256Prefix)) return;
  throw new FormatError(
    `${printable(name)} has sha256 ${hex}; its name says that it begins with ${sha256Prefix}`,
    {
      next: 'The copy on that server is damaged, or its name is wrong: get it from somewhere else.',
    },
  );
}
