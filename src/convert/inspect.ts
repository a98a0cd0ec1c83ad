/**
 * What a checkpoint is, as data, without reading a weight. Works for files that can't be converted too: then it says why.
 */
import { complexity, type BeitConfig, type Kind } from '../beit.js';
import { kindOf } from '../infer-kind.js';
import type { DtypeName } from '../dtype.js';
import { dtype } from '../dtype.js';
import { byteLength, elementCount } from '../tensor.js';
import { assess, type LoadOptions } from './assess.js';
import type { PickleContents } from './checkpoint.js';
import { bystanderOf, claim, namesOf, wrapperPrefix, type Table } from './layout.js';

export interface InspectedTensor {
  /** name in the file */
  readonly source: string;
  /** absent when the layout does not know the name */
  readonly canonical?: string;
  readonly dtype: DtypeName;
  readonly shape: readonly number[];
  readonly bytes: number;
  readonly role: 'weight' | 'buffer' | 'left out' | 'unknown';
}

export interface CheckpointInspection {
  readonly container: string;
  readonly files: readonly { readonly name: string; readonly bytes: number }[];
  /** of all files together */
  readonly bytes: number;
  /** the layout that knows at least half of the names */
  readonly layout?: string;
  readonly prefix?: string;
  readonly version?: 1 | 2;
  readonly versionEvidence: string;
  /** absent when the layout does not fit */
  readonly kind?: Kind;
  /** absent when the file is no complete BEiT, or something is needed that no tensor tells */
  readonly config?: BeitConfig;
  /** heads included; absent without a config */
  readonly parameters?: number;
  /** in the published convention; absent without a config */
  readonly flops?: number;
  /** elements of all floating-point tensors in the file, whatever they are */
  readonly weightElements: number;
  /** why it cannot be converted */
  readonly problem?: { readonly kind: string; readonly message: string; readonly next?: string };
  readonly labels?: readonly string[];
  /** one phrase: where the class names are from */
  readonly labelsOrigin?: string;
  /** what a pickle holds beside the weights; absent for containers of tensors alone */
  readonly contents?: Omit<PickleContents, 'labels'>;
  readonly metadata: readonly (readonly [key: string, value: string])[];
  readonly notes: readonly string[];
  /** in the file's order */
  readonly tensors: readonly InspectedTensor[];
}

/**
 * Look at a checkpoint. Headers and one row of an index buffer are read, no weights.
 *
 * @throws InputError, FormatError if it is no readable checkpoint at all
 */
export async function inspectCheckpoint(
  path: string,
  options: LoadOptions = {},
): Promise<CheckpointInspection> {
  const found = await assess(path, options);
  const { checkpoint, config, problem } = found;
  try {
    const prefix = wrapperPrefix(checkpoint.tensors.keys());
    const tensors = [...checkpoint.tensors].map(([source, tensor]): InspectedTensor => {
      const { canonical, role } = place(found.table, source.slice(prefix.length));
      const { dtype, shape } = tensor;
      return { source, ...(canonical && { canonical }), dtype, shape, bytes: byteLength(tensor), role };
    });
    const known = tensors.filter((tensor) => tensor.role !== 'unknown').length;
    const files = checkpoint.files.map(({ name, source }) => ({ name, bytes: source.size }));
    return {
      container: checkpoint.container,
      files,
      bytes: files.reduce((sum, file) => sum + file.bytes, 0),
      ...(known > 0 && 2 * known >= tensors.length && { layout: found.layout.name }),
      ...(prefix !== '' && { prefix }),
      ...(found.version !== undefined && { version: found.version }),
      versionEvidence: found.versionEvidence,
      ...(found.applied && { kind: kindOf(found.applied.tensors) }),
      ...(config && { config, ...complexity(config) }),
      weightElements: tensors
        .filter((tensor) => dtype(tensor.dtype).weight)
        .reduce((sum, tensor) => sum + elementCount(tensor.shape), 0),
      ...(problem && {
        problem: {
          kind: problem.name,
          message: problem.message,
          ...(problem.next !== undefined && { next: problem.next }),
        },
      }),
      ...(found.labels && { labels: found.labels, labelsOrigin: found.labelsOrigin }),
      ...(checkpoint.contents && { contents: withoutLabels(checkpoint.contents) }),
      metadata: [...checkpoint.metadata],
      notes: found.notes,
      tensors,
    };
  } finally {
    await checkpoint.close();
  }
}

/** They stand where all labels stand. */
function withoutLabels({
  weightsAt,
  entries,
  inert,
  inertCount,
}: PickleContents): Omit<PickleContents, 'labels'> {
  return { weightsAt, entries, inert, inertCount };
}

function place(table: Table, name: string): { canonical?: string; role: InspectedTensor['role'] } {
  const claimed = claim(table, name);
  if (!claimed) return { role: bystanderOf(table, name) === undefined ? 'unknown' : 'left out' };
  const { rule, layer, position } = claimed;
  const canonical = namesOf(rule, 'canonical', layer);
  // A rule of n to m tensors makes all of its canonical tensors out of all of its sources.
  return {
    canonical: canonical.length === rule.source.length ? canonical[position] : canonical.join(' + '),
    role: rule.role,
  };
}
