/**
 * What a zip archive without a PyTorch pickle is.
 */
import type { ByteSource } from '../../bytes.js';
import { InputError, listNames, printable } from '../../errors.js';
import { grouped, shortName } from '../checkpoint.js';

const CHECKPOINT = /\.(safetensors|pth|pt|bin|ckpt|tar)$/i;
const NEED_SAFETENSORS =
  'Look for a .safetensors or .pth version of the same weights: convert-beit list shows where they are.';

type Row = readonly [test: (names: readonly string[]) => boolean, what: string, next: string];

const ROWS: readonly Row[] = [
  [(names) => names.length === 0, 'an empty zip archive', 'Download or copy it again.'],
  [(names) => names.every((name) => name.endsWith('.npy')), 'a NumPy .npz archive', NEED_SAFETENSORS],
  [
    (names) => names.includes('model.weights.h5') || names.includes('variables.h5'),
    'a Keras model',
    NEED_SAFETENSORS,
  ],
  [
    (names) => names.some((name) => /(^|\/)data\/\d+$/.test(name)),
    'a PyTorch checkpoint without its data.pkl, which says what the numbers mean',
    'Download or copy it again.',
  ],
];

/** @throws InputError always: it says what the archive holds */
export function refuseArchive(names: readonly string[], source: ByteSource): never {
  const file = shortName(source);
  for (const [test, what, next] of ROWS) {
    if (test(names)) throw new InputError(`${file} is ${what}`, { next });
  }
  const checkpoints = names.filter((name) => CHECKPOINT.test(name) && !name.startsWith('__MACOSX/'));
  if (checkpoints.length > 0) {
    throw new InputError(`${file} is a zip archive that holds ${listNames(checkpoints)}`, {
      next: `Unpack it and give the checkpoint inside: unzip ${file}.`,
    });
  }
  throw new InputError(
    `${file} is a zip archive without a checkpoint: ${grouped(names.length)} records, the first is ${printable(names[0])}`,
    { next: 'Give the checkpoint file itself.' },
  );
}
