/**
 * The precisions a file can be written in: what clients call them, and what of a model can be kept out of them.
 *
 * File names and dtype names are those of `@huggingface/transformers` (`src/utils/dtypes.js`).
 */
import { basename, dirname, extname, join } from 'node:path';
import { UsageError, listNames, printable } from './errors.js';

export type PrecisionName = 'fp32' | 'fp16' | 'q8' | 'int8' | 'uint8' | 'q4' | 'q4f16';

/** How a weight can stand in a file. `int8`, `uint8`: one step per output; `int4`: one step per 32 inputs. */
export type WeightForm = 'float32' | 'float16' | 'int8' | 'uint8' | 'int4';

export interface PrecisionRow {
  readonly name: PrecisionName;
  /** between the stem and `.onnx` */
  readonly suffix: string;
  /** what the matrices become; whatever is kept stays float32 */
  readonly weights: WeightForm;
  /** what runs between the matrices, where it may leave float32 */
  readonly compute: 'float32' | 'float16';
  /** places kept by default; measured in `docs/decisions/0009-precision-thresholds.md` */
  readonly keep: readonly string[];
}

const ROWS: readonly PrecisionRow[] = [
  { name: 'fp32', suffix: '', weights: 'float32', compute: 'float32', keep: [] },
  { name: 'fp16', suffix: '_fp16', weights: 'float16', compute: 'float16', keep: ['position'] },
  { name: 'q8', suffix: '_quantized', weights: 'int8', compute: 'float32', keep: ['patch', 'head'] },
  { name: 'int8', suffix: '_int8', weights: 'int8', compute: 'float32', keep: ['patch', 'head'] },
  { name: 'uint8', suffix: '_uint8', weights: 'uint8', compute: 'float32', keep: ['patch', 'head'] },
  { name: 'q4', suffix: '_q4', weights: 'int4', compute: 'float32', keep: ['patch', 'head'] },
  {
    name: 'q4f16',
    suffix: '_q4f16',
    weights: 'int4',
    compute: 'float16',
    keep: ['patch', 'head', 'position'],
  },
];

/** A `Map`, because names come from files and command lines. */
export const PRECISIONS: ReadonlyMap<string, PrecisionRow> = new Map(ROWS.map((row) => [row.name, row]));

/** @throws UsageError for a name that is none */
export function precision(name: string): PrecisionRow {
  const row = PRECISIONS.get(name);
  if (row) return row;
  throw new UsageError(`${printable(name)} is no precision`, {
    next: `Choose among ${listNames(PRECISIONS.keys(), 9)}.`,
  });
}

/**
 * Where the file of each precision goes. One alone gets exactly the name that was asked for; several stand beside it
 * under the names that clients look for: `model.onnx`, `model_fp16.onnx`, `model_quantized.onnx`.
 */
export function precisionPaths(
  out: string,
  names: readonly PrecisionName[],
): { readonly name: PrecisionName; readonly path: string }[] {
  if (names.length === 1) return [{ name: names[0], path: out }];
  const extension = extname(out);
  const stem = basename(out, extension);
  return names.map((name) => ({
    name,
    path: join(dirname(out), `${stem}${precision(name).suffix}${extension}`),
  }));
}

const PLACES: ReadonlyMap<string, string> = new Map([
  ['patch', 'the patch embedding'],
  ['head', 'the head after the last block'],
  ['first', 'the first block'],
  ['last', 'the last block'],
  ['attention', 'the attention of every block'],
  ['mlp', 'the MLP of every block'],
  ['position', 'position tables'],
]);

/** Which weights stay as they are. */
export interface Keep {
  /** as asked for, in a fixed order; goes into the file's metadata */
  readonly places: readonly string[];
  /** @param name canonical name of a weight */
  has(name: string): boolean;
}

/**
 * @param places see {@link PLACES}, or `layers.<i>` for one block; `none` alone: nothing
 * @param depth  number of blocks
 * @throws UsageError for a place that does not exist
 */
export function keepPlaces(places: readonly string[], depth: number): Keep {
  const wanted = new Set(places);
  if (wanted.has('none')) {
    if (wanted.size > 1) throw new UsageError('--keep none stands alone', { next: 'Leave the others out.' });
    wanted.clear();
  }
  for (const place of wanted) {
    const block = /^layers\.(\d{1,4})$/.exec(place);
    if (PLACES.has(place) || (block && Number(block[1]) < depth)) continue;
    throw new UsageError(`--keep ${printable(place)}: there is no such place in this model`, {
      next: `Choose among ${listNames(PLACES.keys(), 9)}, layers.0 to layers.${depth - 1}, or none.`,
    });
  }
  return {
    places: [...wanted].sort(),
    has(name) {
      if (name.endsWith('relative_position_bias_table') || name === 'backbone.pos_embed') {
        return wanted.has('position');
      }
      if (name.startsWith('backbone.patch_embed.')) return wanted.has('patch');
      const inBlock = /^backbone\.layers\.(\d+)\.(attn|ffn)\./.exec(name);
      if (!inBlock) return wanted.has('head');
      const [, layer, part] = inBlock;
      return (
        wanted.has(`layers.${layer}`) ||
        (wanted.has('first') && Number(layer) === 0) ||
        (wanted.has('last') && Number(layer) === depth - 1) ||
        wanted.has(part === 'attn' ? 'attention' : 'mlp')
      );
    },
  };
}
