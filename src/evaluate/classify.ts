/**
 * The best classes of a few pictures.
 */
import { availableParallelism } from 'node:os';
import { basename } from 'node:path';
import { InputError } from '../errors.js';
import type { OnProgress } from '../progress.js';
import type { Classifier } from './batch.js';
import { Decoders } from './decoders.js';
import { topClasses, type TopClass } from './predict.js';
import { ModelSession } from './session.js';

export interface ClassifyPicturesOptions {
  readonly top: number;
  readonly threads?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: OnProgress;
}

/** Pictures per run, where the graph leaves the choice. */
const BATCH = 4;

/**
 * @returns in the order of `images`, best classes first
 * @throws InputError for the first picture that cannot be read; FormatError if the model cannot be run
 */
export async function classifyPictures(
  model: Classifier,
  images: readonly string[],
  options: ClassifyPicturesOptions,
): Promise<TopClass[][]> {
  const threads = options.threads ?? availableParallelism();
  const decoders = new Decoders(Math.min(threads, images.length), [model.preprocessing]);
  let session: ModelSession | undefined;
  try {
    const [first] = images;
    // A picture that is not there is said before a large model is loaded.
    const check = await decoders.decode({ path: first, shown: first });
    if ('unreadable' in check) throw new InputError(check.unreadable);
    const { path, input, output, shape, classes } = model;
    session = await ModelSession.open({ path, input, output, threads, signal: options.signal });
    const batch = model.fixedBatch ?? Math.min(BATCH, images.length);
    const stride = shape.reduce((product, side) => product * side, 1);
    const out: TopClass[][] = [];
    let stacked = new Float32Array(batch * stride);
    let filled = 0;
    const flush = async (): Promise<void> => {
      const { data } = await session!.run(stacked, [batch, ...shape]);
      for (let row = 0; row < filled; row++) {
        const best = topClasses(
          data.subarray(row * classes, (row + 1) * classes),
          Math.min(options.top, classes),
        );
        if (best.length === 0)
          throw new InputError(`${basename(path)} gives scores that are not finite numbers`);
        out.push(best);
      }
      options.onProgress?.({
        phase: 'evaluate',
        label: basename(path),
        done: out.length,
        total: images.length,
        unit: 'images',
      });
      stacked = new Float32Array(batch * stride);
      filled = 0;
    };
    const pictures = images.map((image) => ({ path: image, shown: image }));
    for await (const [, decoded] of decoders.inOrder(pictures, 2 * batch)) {
      options.signal?.throwIfAborted();
      if ('unreadable' in decoded) throw new InputError(decoded.unreadable);
      stacked.set(decoded.pixels[0], filled * stride);
      filled += 1;
      if (filled === batch) await flush();
    }
    if (filled > 0) await flush();
    return out;
  } finally {
    session?.close();
    await decoders.close();
  }
}
