/**
 * Outputs that another framework gave, as somebody recorded them: a safetensors file, or JSON.
 *
 * safetensors: `logits` `[n, classes]`, and `input` `[n, C, H, W]` that they belong to (both floating point). Without
 * `input` they belong to the verification's own inputs, in their order. JSON: an object with the same two keys, nested
 * or flat lists of numbers.
 */
import { readFile, stat } from 'node:fs/promises';
import { extname } from 'node:path';
import { formatBytes } from '../bytes.js';
import { FormatError, InputError, listNames } from '../errors.js';
import { readFloat32, readFloat64 } from '../tensor.js';
import { baseName, shortName } from './checkpoint.js';
import { openCheckpoint } from './open.js';

export interface Recorded {
  /** file name */
  readonly name: string;
  readonly inputs?: Float32Array;
  readonly logits: Float64Array;
}

const MOST_JSON_BYTES = 256 * 1024 * 1024;
/** Lists of lists of lists of lists: images, channels, rows, pixels. */
const DEEPEST = 4;

/** @throws InputError, FormatError if the file holds no recorded logits */
export async function readRecorded(path: string): Promise<Recorded> {
  if (extname(path).toLowerCase() === '.json') return await readJson(path);
  const checkpoint = await openCheckpoint(path);
  try {
    const name = baseName(path);
    const logits = checkpoint.tensors.get('logits');
    if (!logits) {
      throw new FormatError(
        `${shortName(path)} has no tensor logits, but ${listNames(checkpoint.tensors.keys())}`,
        {
          next: 'Recorded outputs are a tensor logits [n, classes], and input [n, C, H, W] that they belong to.',
        },
      );
    }
    const input = checkpoint.tensors.get('input');
    return {
      name,
      logits: await readFloat64(logits),
      ...(input && { inputs: await readFloat32(input) }),
    };
  } finally {
    await checkpoint.close();
  }
}

async function readJson(path: string): Promise<Recorded> {
  const name = shortName(path);
  const found = await stat(path).catch((cause: unknown) => {
    throw new InputError(`${name}: there is no such file`, { cause });
  });
  if (found.size > MOST_JSON_BYTES) {
    throw new InputError(
      `${name} has ${formatBytes(found.size)}; JSON of up to ${formatBytes(MOST_JSON_BYTES)} is read`,
      {
        next: 'Record large outputs as safetensors.',
      },
    );
  }
  let content: unknown;
  try {
    content = JSON.parse(await readFile(path, 'utf8'));
  } catch (cause) {
    throw new FormatError(`${name} is not JSON`, { cause });
  }
  const field = (key: string): number[] | undefined => {
    if (typeof content !== 'object' || content === null || !Object.hasOwn(content, key)) return undefined;
    const out: number[] = [];
    flatten((content as Record<string, unknown>)[key], out, `${name}: ${key}`, DEEPEST);
    return out;
  };
  const logits = field('logits');
  if (!logits) {
    throw new FormatError(`${name} has no logits`, {
      next: 'Recorded outputs are an object {"logits": [[…]], "input": [[[[…]]]]}; input may be left out.',
    });
  }
  const input = field('input');
  return {
    name: baseName(path),
    logits: Float64Array.from(logits),
    ...(input && { inputs: Float32Array.from(input) }),
  };
}

function flatten(value: unknown, out: number[], what: string, depth: number): void {
  if (typeof value === 'number') out.push(value);
  else if (Array.isArray(value) && depth > 0)
    for (const each of value as unknown[]) flatten(each, out, what, depth - 1);
  else throw new FormatError(`${what} is no list of numbers (${DEEPEST} levels at most)`);
}
