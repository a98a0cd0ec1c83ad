/** A thread that makes model inputs of picture files, one at a time. Speaks with `decoders.ts`. */
import { parentPort, workerData } from 'node:worker_threads';
import { ConvertBeitError, InputError } from '../errors.js';
import { decodeImage, preprocess, type Preprocessing } from '../image.js';

export interface DecodeRequest {
  readonly id: number;
  readonly path: string;
  /** what messages call the picture */
  readonly shown: string;
}

export type DecodeAnswer =
  | { readonly id: number; /** one per preprocessing */ readonly pixels: readonly Float32Array[] }
  /** the picture's fault */
  | { readonly id: number; readonly unreadable: string }
  /** the surroundings' fault, or a bug */
  | { readonly id: number; readonly failed: string; readonly next?: string };

const { preprocessings } = workerData as { preprocessings: readonly Preprocessing[] };

async function quieten(): Promise<void> {
  try {
    const { default: sharp } = await import('sharp');
    // One picture at a time in each of these threads: libvips needs none of its own, and no picture comes twice.
    sharp.concurrency(1);
    sharp.cache(false);
  } catch {
    // decodeImage says what is missing.
  }
}

async function decode({ id, path, shown }: DecodeRequest): Promise<DecodeAnswer> {
  try {
    const picture = await decodeImage(path, shown);
    return { id, pixels: preprocessings.map((preprocessing) => preprocess(picture, preprocessing)) };
  } catch (error) {
    const message = (error instanceof Error ? error.message : String(error)).replaceAll(path, shown);
    if (error instanceof InputError) return { id, unreadable: message };
    return {
      id,
      failed: message,
      ...(error instanceof ConvertBeitError && error.next && { next: error.next }),
    };
  }
}

let turn = quieten();
parentPort!.on('message', (request: DecodeRequest) => {
  turn = turn.then(async () => {
    const answer = await decode(request);
    const moved = 'pixels' in answer ? answer.pixels.map(({ buffer }) => buffer as ArrayBuffer) : [];
    parentPort!.postMessage(answer, moved);
  });
});
