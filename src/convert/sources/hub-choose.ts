/** Which files of a repository are the model. */
import { readFile } from 'node:fs/promises';
import { FormatError, InputError, listNames, printable } from '../../errors.js';
import { hubId, type Wanted } from './hub-errors.js';
import { folderOf, isRepoFile } from './hub-names.js';

const WEIGHTS = 'model.safetensors';
const INDEX_SUFFIX = '.safetensors.index.json';
const TORCH_WEIGHTS = 'pytorch_model.bin';
const SHARDS_LIMIT = 1000;

/** Certain to be the choice whatever else there is. */
export const FIRST_CHOICE = WEIGHTS;

export function isShardIndex(file: string): boolean {
  return file.endsWith(INDEX_SUFFIX) || file.endsWith('.bin.index.json');
}

/** The file to take when none is named. */
export function pickWeights(names: readonly string[], wanted: Wanted): string {
  if (names.includes(WEIGHTS)) return WEIGHTS;
  const indexes = names.filter((name) => name.endsWith(INDEX_SUFFIX));
  const index =
    indexes.find((name) => name === `model${INDEX_SUFFIX}`) ??
    (indexes.length === 1 ? indexes[0] : undefined);
  if (index !== undefined) return index;
  const weights = names.filter((name) => name.endsWith('.safetensors'));
  if (weights.length === 1 && indexes.length === 0) return weights[0];
  if (weights.length > 0) {
    const choices = indexes.length > 0 ? indexes : weights;
    throw noWeights(
      wanted,
      `holds several models: ${listNames(choices, 20)}`,
      `Name one: hf:${wanted.repo}/${choices[0]}.`,
    );
  }
  const torch = pickTorch(names);
  if (torch.length === 1) return torch[0];
  if (torch.length > 1) {
    throw noWeights(
      wanted,
      `holds several models: ${listNames(torch, 20)}`,
      `Name one: hf:${wanted.repo}/${torch[0]}.`,
    );
  }
  const holds = names.length > 0 ? `it holds ${listNames(names, 20)}` : 'it is empty';
  throw noWeights(
    wanted,
    `has no safetensors or PyTorch file; ${holds}`,
    'Give a repository or a local file with weights.',
  );
}

/** PyTorch files that can be the model; what a trainer writes beside it can't. */
function pickTorch(names: readonly string[]): string[] {
  for (const exact of [TORCH_WEIGHTS, `${TORCH_WEIGHTS}.index.json`])
    if (names.includes(exact)) return [exact];
  return names.filter(
    (name) =>
      /\.(?:bin|pth?|pt)$/.test(name) &&
      !/(?:^|\/)(?:training_args|optimizer|scheduler|scaler|rng_state)/.test(name),
  );
}

/**
 * The shards that an index names, beside it. What else an index must be is for its reader to check.
 * @param id what messages call the index
 */
export async function shardsOf(
  index: { readonly file: string; readonly path: string },
  id: string,
): Promise<string[]> {
  const map: unknown = await readFile(index.path, 'utf8')
    .then((text) => (JSON.parse(text) as { weight_map?: unknown } | null)?.weight_map)
    .catch(() => undefined);
  if (typeof map !== 'object' || map === null || Array.isArray(map)) {
    throw new FormatError(`${id} is not an index of shards: it has no "weight_map"`);
  }
  const names = new Set<unknown>(Object.values(map));
  for (const name of names) {
    if (!isRepoFile(name) || name.includes('/') || !/\.(?:safetensors|bin)$/.test(name)) {
      throw new FormatError(
        `${id} names the shard ${printable(JSON.stringify(name))}; the name of a .safetensors or .bin file beside it is needed`,
      );
    }
  }
  if (names.size === 0 || names.size > SHARDS_LIMIT) {
    throw new FormatError(`${id} names ${names.size} shards; 1 to ${SHARDS_LIMIT} are possible`);
  }
  return [...(names as Set<string>)].sort().map((name) => folderOf(index.file) + name);
}

function noWeights(wanted: Wanted, message: string, next: string): InputError {
  return new InputError(`${hubId(wanted)} ${message}`, { next });
}
