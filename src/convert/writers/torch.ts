/**
 * A PyTorch checkpoint in its zip form as pieces to write, nested as the framework's loader looks for it.
 *
 * @see torch `torch/serialization.py` (`_save`), `caffe2/serialize/inline_container.cc` (records that torch 2 adds)
 */
import { createHash } from 'node:crypto';
import type { StateDict } from '../../tensor.js';
import type { Deferred, Piece } from '../../sink.js';
import { pickle, type PickleValue } from './pickle.js';
import { zipPieces, type ZipRecord } from './zip.js';

/** Where the weights are inside of the pickled object, and what is beside them. */
export type Nesting = (stateDict: PickleValue) => PickleValue;

/** What PyTorch calls the folder in a file that it has no name for; the same bytes whatever our file is called. */
const ROOT = 'archive';

/**
 * Pieces of the file: one storage per tensor, in the given order.
 *
 * @param provenance JSON, written as a record that PyTorch passes over
 * @throws FormatError for a dtype without a typed storage
 */
export function torchPieces(tensors: StateDict, nesting: Nesting, provenance: Deferred): Piece[] {
  const stateDict = new Map<string, PickleValue>();
  const storages: ZipRecord[] = [];
  for (const [name, tensor] of tensors) {
    const key = String(storages.length);
    stateDict.set(name, { tensor: { key, dtype: tensor.dtype, shape: tensor.shape } });
    storages.push({ name: `${ROOT}/data/${key}`, content: { tensor } });
  }
  const object = pickle(nesting(stateDict));
  return zipPieces([
    { name: `${ROOT}/data.pkl`, content: object },
    text('.format_version', '1'),
    text('.storage_alignment', '64'),
    text('byteorder', 'little'),
    ...storages,
    text('version', '3\n'),
    text('.data/serialization_id', serializationId(object)),
    { name: `${ROOT}/.data/convert_beit.json`, content: provenance },
  ]);
}

function text(name: string, content: string): ZipRecord {
  return { name: `${ROOT}/${name}`, content: new TextEncoder().encode(content) };
}

/** Forty decimal digits. PyTorch hashes names and checksums; ours tells the object, so that the file is reproducible. */
function serializationId(object: Uint8Array): string {
  const hex = createHash('sha256').update(object).digest('hex');
  return BigInt(`0x${hex}`).toString().padStart(40, '0').slice(-40);
}
