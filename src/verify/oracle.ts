/**
 * The float64 reference: BEiT's forward pass from the canonical weights as they were read.
 *
 * Formulas: unilm `beit/modeling_finetune.py` (`VisionTransformer`, `Block`, `Attention`, `PatchEmbed`), followed one by
 * one: nothing is folded, fused or rearranged. Shares no code with the graph builder.
 *
 * All tensors of a block are streamed: memory holds the activations, two ranges of weight rows of at most 16 MB, and
 * what each thread packs of them (150 kB).
 */
import { availableParallelism } from 'node:os';
import { complexity, type BeitConfig } from '../beit.js';
import { ConvertBeitError, InterruptedError, ShapeError, UsageError } from '../errors.js';
import type { StateDict } from '../tensor.js';
import { Forward, matrixNames } from './oracle-forward.js';
import { allocate, geometryOf, openMemory } from './oracle-memory.js';
import { localTeam, workerTeam } from './oracle-team.js';
import type { OracleOptions, OracleResult } from './oracle-types.js';
import { needTensor } from './oracle-vectors.js';
import { WeightStream, slotBytes } from './oracle-weights.js';

export type { OracleOptions, OracleResult } from './oracle-types.js';

/** Multiply-adds below which starting threads (about 40 ms) does not pay. */
const SMALL_WORK = 25e6;

/**
 * Run the model in float64.
 *
 * @param model canonical tensors as read, any float dtype, and their config
 * @param input `[batch, channels, height, width]`, normalised pixels
 * @throws ShapeError if the input does not fit; LayoutError if a tensor is missing; FormatError if one lies about its
 *   length; InterruptedError when the signal fires; whatever went wrong in a thread
 */
export async function runOracle(
  model: { readonly config: BeitConfig; readonly tensors: StateDict },
  input: Float32Array | Float64Array,
  batch: number,
  options: OracleOptions = {},
): Promise<OracleResult> {
  const { config, tensors } = model;
  const { channels, imageSize } = config;
  const { signal } = options;
  const needed = batch * channels * imageSize[0] * imageSize[1];
  if (!Number.isSafeInteger(batch) || batch < 1 || input.length !== needed) {
    throw new ShapeError(
      `the input has ${input.length} values; ${batch} images of [${channels}, ${imageSize.join(', ')}] need ${needed}`,
    );
  }
  const threads =
    options.threads ??
    (complexity(config).flops * batch < SMALL_WORK ? 0 : Math.max(1, availableParallelism()));
  if (!Number.isSafeInteger(threads) || threads < 0) {
    throw new UsageError(`threads is ${threads}; it must be 0 or more`);
  }

  const headless = options.headless || config.kind !== 'classification';
  const matrices = matrixNames(config, headless);
  const patches = config.window[0] * config.window[1];
  if (options.mask && options.mask.length !== batch * patches) {
    throw new ShapeError(
      `the mask has ${options.mask.length} values; ${batch} images of ${patches} patches need ${batch * patches}`,
    );
  }
  for (const name of matrices) needTensor(tensors, name);
  if (signal?.aborted) throw interrupted(signal);

  const buffers = allocate(geometryOf(config, batch), slotBytes(tensors, matrices));
  const memory = openMemory(buffers);
  const team = threads === 0 ? localTeam(buffers) : workerTeam(buffers, threads);
  const weights = new WeightStream(tensors, matrices, buffers.slots);
  const abort = (): void => team.abort(interrupted(signal!));
  signal?.addEventListener('abort', abort);
  try {
    return await new Forward(config, tensors, memory, team, weights, options).run(input);
  } finally {
    signal?.removeEventListener('abort', abort);
    await Promise.all([team.close(), weights.close()]);
  }
}

function interrupted(signal: AbortSignal): ConvertBeitError {
  const reason: unknown = signal.reason;
  return reason instanceof ConvertBeitError
    ? reason
    : new InterruptedError('the float64 reference was interrupted', { cause: reason });
}
