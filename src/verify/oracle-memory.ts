/**
 * The memory that all threads of the oracle share, and the phases of work on it.
 *
 * Activations are row-major `[batch * tokens, width]`.
 */
import { tokenCount, type BeitConfig } from '../beit.js';

/** Tokens of one LayerNorm task and of one task of a linear layer: enough tasks for many threads, few repackings. */
const NORM_TOKENS = 32;
const LINEAR_TOKENS = 288;
/** GELU's mean slope is taken over every so-manieth token: enough for a mean, and saves most of the exponentials. */
export const SLOPE_STEP = 4;
/** Most bytes of one slot: matrices above it are worked on in ranges of rows. */
export const SLOT_BYTES = 16 * 1024 * 1024;

export interface Geometry {
  readonly batch: number;
  /** tokens per image, class token included */
  readonly tokens: number;
  /** E */
  readonly width: number;
  readonly heads: number;
  /** M */
  readonly mlpSize: number;
  /** C * P * P */
  readonly patchLength: number;
  readonly normChunks: number;
  readonly linearChunks: number;
  /** `[Wh, Ww]` in patches */
  readonly window: readonly [number, number];
}

export function geometryOf(config: BeitConfig, batch: number): Geometry {
  const tokens = tokenCount(config);
  return {
    batch,
    tokens,
    width: config.hiddenSize,
    heads: config.heads,
    mlpSize: config.mlpSize,
    patchLength: config.channels * config.patchSize * config.patchSize,
    normChunks: Math.ceil(tokens / NORM_TOKENS),
    linearChunks: Math.ceil(tokens / LINEAR_TOKENS),
    window: config.window,
  };
}

/** Tokens `[from, to)` of a chunk of an image. */
export function chunkRange(tokens: number, chunks: number, chunk: number): [number, number] {
  return [Math.floor((tokens * chunk) / chunks), Math.floor((tokens * (chunk + 1)) / chunks)];
}

/** What is posted to a worker: shared buffers only. */
export interface OracleBuffers {
  readonly geometry: Geometry;
  readonly buffers: Readonly<Record<keyof Omit<OracleMemory, 'geometry' | 'slots'>, SharedArrayBuffer>>;
  readonly slots: readonly [SharedArrayBuffer, SharedArrayBuffer];
}

export interface OracleMemory {
  readonly geometry: Geometry;
  /** residual stream, E wide */
  readonly x: Float64Array;
  /** error variance of the residual stream, element by element, E wide */
  readonly v: Float64Array;
  /** LayerNorm's or attention's output, E wide */
  readonly a: Float64Array;
  /** a branch's output before it joins the residual stream, E wide */
  readonly o: Float64Array;
  /** patches, then qkv, then the MLP's hidden layer; as wide as the widest of them, used as wide as needed */
  readonly wide: Float64Array;
  /** error variance of the residual stream that is common to all tokens, `[batch, E]` */
  readonly r: Float64Array;
  /** what the next linear layer's squared weights are multiplied with (noise.ts), `[batch, widest input]` */
  readonly s: Float64Array;
  /** the product, `[batch, widest output]` */
  readonly product: Float64Array;
  /** sums of single tasks, joined in a fixed order by {@link OracleMemory}'s owner */
  readonly partial: Float64Array;
  /** `[0]`: next task of the running phase */
  readonly next: Int32Array;
  /** ranges of weight rows: one is worked on while the other one is read */
  readonly slots: readonly [SharedArrayBuffer, SharedArrayBuffer];
}

/** Widest input and output of a linear layer before the head. */
export function widest(of: Geometry): number {
  return Math.max(of.patchLength, 3 * of.width, of.mlpSize);
}

export function allocate(geometry: Geometry, slotBytes: number): OracleBuffers {
  const { batch, tokens, width, mlpSize, normChunks, linearChunks } = geometry;
  const rows = batch * tokens;
  const doubles = (count: number): SharedArrayBuffer => new SharedArrayBuffer(count * 8);
  return {
    geometry,
    buffers: {
      x: doubles(rows * width),
      v: doubles(rows * width),
      a: doubles(rows * width),
      o: doubles(rows * width),
      wide: doubles(rows * widest(geometry)),
      r: doubles(batch * width),
      s: doubles(batch * widest(geometry)),
      product: doubles(batch * widest(geometry)),
      partial: doubles(batch * Math.max(normChunks * (width + 1), linearChunks * 2 * mlpSize)),
      next: new SharedArrayBuffer(4),
    },
    slots: [new SharedArrayBuffer(slotBytes), new SharedArrayBuffer(slotBytes)],
  };
}

export function openMemory({ geometry, buffers, slots }: OracleBuffers): OracleMemory {
  return {
    geometry,
    x: new Float64Array(buffers.x),
    v: new Float64Array(buffers.v),
    a: new Float64Array(buffers.a),
    o: new Float64Array(buffers.o),
    wide: new Float64Array(buffers.wide),
    r: new Float64Array(buffers.r),
    s: new Float64Array(buffers.s),
    product: new Float64Array(buffers.product),
    partial: new Float64Array(buffers.partial),
    next: new Int32Array(buffers.next),
    slots,
  };
}

/** `a = LayerNorm(x)`; sums for the noise estimate to `partial[image, chunk, E + 1]`. */
export interface NormPhase {
  readonly kind: 'norm';
  readonly weight: Float64Array;
  readonly bias: Float64Array;
  readonly eps: number;
}

/** Rows of one matrix that are in a slot, and what becomes of their product. */
export interface LinearPhase {
  readonly kind: 'linear';
  readonly from: 'a' | 'wide';
  readonly to: 'x' | 'wide' | 'o';
  readonly slot: 0 | 1;
  /** bytes per weight in the slot: 4 = float32, 8 = float64 */
  readonly weightBytes: 4 | 8;
  /** input channels */
  readonly depth: number;
  /** output channels of the whole matrix */
  readonly outputs: number;
  /** the rows in the slot are outputs `[firstRow, firstRow + rows)` */
  readonly firstRow: number;
  readonly rows: number;
  /** of all outputs */
  readonly bias: Float64Array | undefined;
  /** `residual`: `x += gamma * output` */
  readonly then: 'nothing' | 'gelu' | 'residual';
  readonly gamma: Float64Array | undefined;
}

/** `a = softmax(q k^T / sqrt(d) + biases) v` from qkv in `wide`. */
export interface AttentionPhase {
  readonly kind: 'attention';
  /** `[rows, heads]` each; a block may have its own table, the shared one, both or none */
  readonly tables: readonly Float64Array[];
}

export type Phase = NormPhase | LinearPhase | AttentionPhase;
