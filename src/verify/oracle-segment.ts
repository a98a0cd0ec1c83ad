/**
 * UPerNet's logits in float64, at chosen places. A whole map of a full-size model would take minutes; one place looks
 * at a small neighbourhood of every level, so a few of them prove every weight in seconds.
 *
 * @see unilm `beit/semantic_segmentation/backbone/beit.py`; mmsegmentation `models/decode_heads/uper_head.py`,
 *   `psp_head.py`; PyTorch's `interpolate(mode='bilinear', align_corners=False)` and `AdaptiveAvgPool2d`
 */
import type { BeitConfig } from '../beit.js';
import type { Task } from '../task.js';
import { readFloat32, readFloat64, type StateDict } from '../tensor.js';
import { gelu } from './erf.js';
import { UNIT } from './noise.js';
import type { OracleResult } from './oracle.js';
import { needTensor } from './oracle-vectors.js';
import {
  Conv3x3,
  Grid,
  bilinear,
  neighbourhood,
  pointwise,
  type Field,
  type Readable,
  type Size,
} from './oracle-grid.js';

/** Places of the output map, row-major indices; the same for every image. */
export type Positions = readonly number[];

/** PyTorch's default; upstream sets no other. */
export const BATCH_NORM_EPS = 1e-5;
/** Multiply-adds up to which the whole map is computed. */
const SMALL_WORK = 3e8;
/** Places of a large map: corners and edges are special, the rest is spread. */
const PLACES = 8;

export async function segmentAt(
  model: { readonly config: BeitConfig; readonly tensors: StateDict },
  task: Extract<Task, { name: 'segment' }>,
  result: OracleResult,
  batch: number,
): Promise<{ values: Float64Array; shape: readonly number[]; positions: Positions; relativeNoise: number }> {
  const { config } = model;
  const { classes, window, hiddenSize: E, imageSize } = config;
  const quarter: Size = [window[0] * 4, window[1] * 4];
  const size: Size = task.upsample ? imageSize : quarter;
  const positions = choosePlaces(size, quarter[0] * quarter[1] * E * E * 80);
  const values = new Float64Array(batch * classes * positions.length);
  const head = new SegmentHead(model);
  for (let image = 0; image < batch; image++) {
    const tapped = task.taps.map((tap) =>
      result.hidden![tap].subarray(image * (window[0] * window[1] + 1) * E),
    );
    const logits = await head.run(tapped, task.upsample ? sourcesOf(positions, size, quarter) : positions);
    for (const [i, place] of positions.entries()) {
      const at = task.upsample ? bilinear(logits, quarter, size, place) : logits.get(place)!;
      for (let k = 0; k < classes; k++) values[(image * classes + k) * positions.length + i] = at[k];
    }
  }
  return { values, shape: [classes, ...size], positions, relativeNoise: relativeNoise(task, result) };
}

/** Noise of the feature maps relative to their size, and what a dozen normalised convolutions add of their own. */
function relativeNoise({ taps }: Extract<Task, { name: 'segment' }>, result: OracleResult): number {
  const shares = taps.map((tap) => {
    const state = result.hidden![tap];
    let squares = 0;
    for (const value of state) squares += value * value;
    return result.noise.hidden[tap] / Math.sqrt(squares / state.length);
  });
  return Math.hypot(Math.max(...shares), 8 * UNIT);
}

export function choosePlaces([height, width]: Size, work: number): Positions {
  const all = height * width;
  if (work <= SMALL_WORK || all <= PLACES) return Array.from({ length: all }, (_, i) => i);
  // The golden ratio spreads any number of places evenly, without a pattern that a stride could hide behind.
  const spread = Array.from({ length: PLACES - 2 }, (_, i) =>
    Math.floor((((i + 1) * 0.6180339887) % 1) * all),
  );
  return [...new Set([0, ...spread, all - 1])].sort((a, b) => a - b);
}

function sourcesOf(positions: Positions, size: Size, from: Size): Positions {
  const needed = new Set<number>();
  for (const place of positions)
    for (const { index } of new Grid(size).sources(place, from)) needed.add(index);
  return [...needed];
}

class SegmentHead {
  readonly #config: BeitConfig;
  readonly #tensors: StateDict;

  constructor({ config, tensors }: { readonly config: BeitConfig; readonly tensors: StateDict }) {
    this.#config = config;
    this.#tensors = tensors;
  }

  /**
   * @param tapped the tokens of the four levels, `[T, E]` each
   * @returns `[classes]` at every place asked for, of the map of a quarter patch
   */
  async run(tapped: readonly Float64Array[], places: Positions): Promise<Field> {
    const { window } = this.#config;
    const [h, w] = window;
    const sizes: Size[] = [
      [4 * h, 4 * w],
      [2 * h, 2 * w],
      [h, w],
      [Math.floor(h / 2), Math.floor(w / 2)],
    ];
    // What is needed where, from the output down.
    const joined = neighbourhood(places, sizes[0]);
    const outs = sizes.map((size, i) => (i === 0 ? joined : sourcesOf(joined, sizes[0], size)));
    const laterals: Positions[] = [neighbourhood(outs[0], sizes[0])];
    for (let i = 1; i < 4; i++) {
      const own = i < 3 ? neighbourhood(outs[i], sizes[i]) : outs[i];
      laterals.push([...new Set([...own, ...sourcesOf(laterals[i - 1], sizes[i - 1], sizes[i])])]);
    }
    // Computed from the coarsest level up; one weight at a time is in memory.
    const fields: Field[] = [];
    fields[3] = await this.#pyramidPooling(this.#halved(tapped[3], sizes[3]), laterals[3], sizes[3]);
    for (let i = 2; i >= 0; i--) {
      const inputs = await this.#level(i, tapped[i], laterals[i], sizes[i]);
      const own = await this.#conv(inputs, laterals[i], sizes[i], `decode_head.lateral_convs.${i}`, 1);
      for (const [place, value] of own) {
        const above = bilinear(fields[i + 1], sizes[i + 1], sizes[i], place);
        for (let c = 0; c < value.length; c++) value[c] += above[c];
      }
      fields[i] = own;
    }
    const levels: Field[] = [fields[0], fields[1], fields[2], fields[3]];
    for (let i = 0; i < 3; i++) {
      levels[i] = await this.#conv(fields[i], outs[i], sizes[i], `decode_head.fpn_convs.${i}`, 3);
    }
    const stacked = new Map(
      joined.map((place) => [
        place,
        concatenate(
          levels.map((level, i) =>
            i === 0 ? level.get(place)! : bilinear(level, sizes[i], sizes[0], place),
          ),
        ),
      ]),
    );
    const fused = await this.#conv(stacked, places, sizes[0], 'decode_head.fpn_bottleneck', 3);
    const [matrix, bias] = [
      await this.#weights('decode_head.conv_seg.weight'),
      await this.#vector('decode_head.conv_seg.bias'),
    ];
    return new Map(places.map((place) => [place, pointwise(matrix, fused.get(place)!, bias)]));
  }

  /** Feature maps at strides of a quarter, a half and one patch. */
  async #level(i: number, tokens: Float64Array, places: Positions, size: Size): Promise<Field> {
    const grown = async (from: Field, at: Positions, to: Size, name: string): Promise<Field> => {
      const matrix = await this.#weights(`${name}.weight`);
      const bias = await this.#vector(`${name}.bias`);
      return new Map(at.map((place) => [place, transposed(matrix, bias, from, place, to)]));
    };
    const whole = this.#patches(tokens);
    if (i === 2) return whole;
    if (i === 1) return await grown(whole, places, size, 'backbone.fpn2.0');
    const half: Size = [size[0] / 2, size[1] / 2];
    const parents = [...new Set(places.map((place) => parentOf(place, size)))];
    const first = await grown(whole, parents, half, 'backbone.fpn1.0');
    await this.#batchNorm(first, 'backbone.fpn1.1');
    for (const value of first.values()) for (let c = 0; c < value.length; c++) value[c] = gelu(value[c]);
    return await grown(first, places, size, 'backbone.fpn1.3');
  }

  #patches(tokens: Float64Array): Field {
    const { hiddenSize: E, window } = this.#config;
    return new Map(
      Array.from({ length: window[0] * window[1] }, (_, i) => [i, tokens.subarray((i + 1) * E, (i + 2) * E)]),
    );
  }

  /** Maximum over 2×2 patches. */
  #halved(tokens: Float64Array, [height, width]: Size): Field {
    const { window } = this.#config;
    const patches = this.#patches(tokens);
    const field = new Map<number, Float64Array>();
    for (let place = 0; place < height * width; place++) {
      const top = 2 * Math.floor(place / width) * window[1] + 2 * (place % width);
      const four = [top, top + 1, top + window[1], top + window[1] + 1].map((i) => patches.get(i)!);
      field.set(
        place,
        four[0].map((_, c) => Math.max(...four.map((each) => each[c]))),
      );
    }
    return field;
  }

  async #pyramidPooling(map: Field, places: Positions, size: Size): Promise<Field> {
    const scales = this.#config.segmentation!.poolScales;
    const around = neighbourhood(places, size);
    const branches: Float64Array[][] = around.map((place) => [map.get(place)!]);
    for (const [i, scale] of scales.entries()) {
      const cells = averages(map, size, scale);
      const own = await this.#conv(
        cells,
        [...cells.keys()],
        [scale, scale],
        `decode_head.psp_modules.${i}.1`,
        1,
      );
      around.forEach((place, j) => branches[j].push(bilinear(own, [scale, scale], size, place)));
    }
    const stacked = new Map(around.map((place, j) => [place, concatenate(branches[j])]));
    return await this.#conv(stacked, places, size, 'decode_head.bottleneck', 3);
  }

  /** Convolution without bias, BatchNorm, ReLU. */
  async #conv(from: Field, places: Positions, size: Size, name: string, kernel: 1 | 3): Promise<Field> {
    const weights = await this.#weights(`${name}.conv.weight`);
    const conv = kernel === 3 ? new Conv3x3(weights, size) : undefined;
    const field = new Map(
      places.map((place) => [place, conv ? conv.at(from, place) : pointwise(weights, from.get(place)!)]),
    );
    await this.#batchNorm(field, `${name}.bn`);
    for (const value of field.values())
      for (let c = 0; c < value.length; c++) value[c] = Math.max(0, value[c]);
    return field;
  }

  async #batchNorm(field: Field, name: string): Promise<void> {
    const [weight, bias, mean, variance] = await Promise.all(
      ['weight', 'bias', 'running_mean', 'running_var'].map((part) => this.#vector(`${name}.${part}`)),
    );
    for (const value of field.values()) {
      for (let c = 0; c < value.length; c++) {
        value[c] = ((value[c] - mean[c]) / Math.sqrt(variance[c] + BATCH_NORM_EPS)) * weight[c] + bias[c];
      }
    }
  }

  #vector(name: string): Promise<Float64Array> {
    return readFloat64(needTensor(this.#tensors, name));
  }

  /** Large kernels stay float32 in memory; every product is float64. */
  #weights(name: string): Promise<Float32Array> {
    return readFloat32(needTensor(this.#tensors, name));
  }
}

/** The place of the map of half the size that a place lies in. */
function parentOf(place: number, [, width]: Size): number {
  return Math.floor(Math.floor(place / width) / 2) * (width / 2) + Math.floor((place % width) / 2);
}

/** ConvTranspose 2×2 with stride 2: every output place has one input place. Weights `[in, out, 2, 2]`. */
export function transposed(
  weights: Float32Array,
  bias: Float64Array,
  from: Readable,
  place: number,
  size: Size,
): Float64Array {
  const x = from.get(parentOf(place, size))!;
  const corner = (Math.floor(place / size[1]) % 2) * 2 + (place % 2);
  const out = bias.slice();
  for (let i = 0; i < x.length; i++) {
    for (let o = 0; o < out.length; o++) out[o] += x[i] * weights[(i * out.length + o) * 4 + corner];
  }
  return out;
}

/** Cell i of `scale` covers floor(i·n/scale) up to ceil((i+1)·n/scale). */
export function averages(map: Readable, [height, width]: Size, scale: number): Field {
  const bounds = (cell: number, side: number): [number, number] => [
    Math.floor((cell * side) / scale),
    Math.ceil(((cell + 1) * side) / scale),
  ];
  const field = new Map<number, Float64Array>();
  for (let cell = 0; cell < scale * scale; cell++) {
    const [top, bottom] = bounds(Math.floor(cell / scale), height);
    const [left, right] = bounds(cell % scale, width);
    const sum = new Float64Array(map.get(0)!.length);
    for (let y = top; y < bottom; y++) {
      for (let x = left; x < right; x++) {
        const value = map.get(y * width + x)!;
        for (let c = 0; c < sum.length; c++) sum[c] += value[c];
      }
    }
    const count = (bottom - top) * (right - left);
    field.set(
      cell,
      sum.map((value) => value / count),
    );
  }
  return field;
}

function concatenate(parts: readonly Float64Array[]): Float64Array {
  const out = new Float64Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
