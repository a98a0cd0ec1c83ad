/**
 * The two ends of the oracle's network: pixels to tokens, tokens to logits. Little work, done in the calling thread.
 */
import type { BeitConfig } from '../beit.js';
import { ROUND, UNIT, dotNoise, driftNoise, normRounding, normVariance } from './noise.js';
import { widest, type OracleMemory } from './oracle-memory.js';

/**
 * Lay every patch out as the convolution meets it, `[channel, row, column]`, as token 1, 2, … of `wide`. What is left
 * over at the right and bottom of an image that is no multiple of the patch is not used, as in a convolution without
 * padding; where the window is larger than the image, zeros follow (mmpretrain).
 */
export function unfold(memory: OracleMemory, config: BeitConfig, input: Float32Array | Float64Array): void {
  const { wide, s, geometry } = memory;
  const { batch, tokens, patchLength } = geometry;
  const { channels, patchSize, imageSize, window } = config;
  const [height, width] = imageSize;
  const kappa = dotNoise(patchLength) * UNIT * UNIT;
  const patches = window[0] * window[1];
  for (let image = 0; image < batch; image++) {
    const sums = s.subarray(image * widest(geometry), image * widest(geometry) + patchLength);
    sums.fill(0);
    for (let patch = 0; patch < patches; patch++) {
      const to = (image * tokens + patch + tokens - patches) * patchLength;
      const top = Math.floor(patch / window[1]) * patchSize;
      const left = (patch % window[1]) * patchSize;
      let k = 0;
      for (let channel = 0; channel < channels; channel++) {
        for (let y = 0; y < patchSize; y++) {
          let from = ((image * channels + channel) * height + top + y) * width + left;
          for (let x = 0; x < patchSize; x++, k++, from++) {
            const pixel = top + y < height && left + x < width ? input[from] : 0;
            wide[to + k] = pixel;
            // A float64 pixel has to be rounded before float32 arithmetic can start.
            sums[k] += (pixel - Math.fround(pixel)) ** 2 + kappa * pixel * pixel;
          }
        }
      }
    }
    for (let k = 0; k < patchLength; k++) sums[k] /= patches;
  }
}

/** What is put around and over the patches; each where the model has it. */
export interface Embedding {
  readonly classToken?: Float64Array;
  readonly positions?: Float64Array;
  /** patches that give way to the mask token, before positions are added */
  readonly hidden?: { readonly mask: Uint8Array; readonly token: Float64Array };
}

/** Put the class token before the patches, the mask token over hidden ones, and add the absolute positions. */
export function embed(memory: OracleMemory, { classToken, positions, hidden }: Embedding): void {
  const { x, v, product, geometry } = memory;
  const { batch, tokens, width } = geometry;
  for (let image = 0; image < batch; image++) {
    for (let token = 0; token < tokens; token++) {
      for (let c = 0; c < width; c++) {
        const i = (image * tokens + token) * width + c;
        const patch = token - (classToken ? 1 : 0);
        if (patch < 0) x[i] = classToken![c];
        else if (hidden?.mask[image * (tokens - (classToken ? 1 : 0)) + patch]) x[i] = hidden.token[c];
        else v[i] = product[image * widest(geometry) + c] + 2 * ROUND * x[i] * x[i];
        if (positions) {
          x[i] += positions[token * width + c];
          v[i] += ROUND * x[i] * x[i];
        }
      }
    }
  }
}

/** Sum of the error variances over all tokens and channels of the batch. */
export function totalVariance({ v, r, geometry }: OracleMemory): number {
  const sum = (values: Float64Array): number => values.reduce((total, value) => total + value, 0);
  return sum(v) + geometry.tokens * sum(r);
}

export interface Pooled {
  /** `[E]`, normalised */
  readonly features: Float64Array;
  /** error variance of each */
  readonly variance: Float64Array;
}

/** LayerNorm of every token in place, where the pooled vector gets a norm of its own after it. */
export function normTokens(
  memory: OracleMemory,
  config: BeitConfig,
  weight: Float64Array,
  bias: Float64Array,
): void {
  const { x, v, r, geometry } = memory;
  const { batch, tokens, width } = geometry;
  for (let row = 0; row < batch * tokens; row++) {
    const common = Math.floor(row / tokens) * width;
    const token = x.subarray(row * width, (row + 1) * width);
    const errors = v.subarray(row * width, (row + 1) * width);
    const all = errors.map((own, c) => own + r[common + c]);
    const normed = normalise(token, all, weight, bias, config.layerNormEps);
    token.set(normed.features);
    errors.set(normed.variance);
  }
  r.fill(0);
}

/** Mean over the patch tokens, or the class token; then LayerNorm. */
export function pool(
  memory: OracleMemory,
  config: BeitConfig,
  image: number,
  weight: Float64Array,
  bias: Float64Array,
  share: number,
): Pooled {
  const { x, v, r, geometry } = memory;
  const { tokens, width } = geometry;
  const first = config.pooling === 'mean' && config.classToken ? 1 : 0;
  const count = config.pooling === 'mean' ? tokens - first : 1;
  const pooled = new Float64Array(width);
  const errors = new Float64Array(width);
  for (let c = 0; c < width; c++) {
    let sum = 0;
    let squares = 0;
    let variances = 0;
    for (let token = first; token < first + count; token++) {
      const at = (image * tokens + token) * width + c;
      sum += x[at];
      squares += x[at] * x[at];
      variances += v[at] + r[image * width + c];
    }
    const mean = sum / count;
    pooled[c] = mean;
    errors[c] =
      count === 1
        ? variances
        : (share * variances) / count ** 2 +
          (dotNoise(count) * UNIT * UNIT * squares) / count ** 2 +
          driftNoise(count) * UNIT * UNIT * mean * mean;
  }
  return normalise(pooled, errors, weight, bias, config.layerNormEps);
}

export function normalise(
  x: Float64Array,
  errors: Float64Array,
  weight: Float64Array,
  bias: Float64Array,
  eps: number,
): Pooled {
  const width = x.length;
  const mean = x.reduce((sum, value) => sum + value, 0) / width;
  const variance = x.reduce((sum, value) => sum + (value - mean) ** 2, 0) / width;
  const scale = 1 / Math.sqrt(variance + eps);
  const p = x.map((value) => (value - mean) * scale);
  const features = p.map((value, c) => value * weight[c] + bias[c]);
  let a = 0;
  let b = 0;
  let c2 = 0;
  for (let c = 0; c < width; c++) {
    a += errors[c];
    b += errors[c] * p[c];
    c2 += errors[c] * p[c] * p[c];
  }
  const rounding = normRounding(width, (variance + mean * mean) * scale * scale) * UNIT * UNIT;
  return {
    features,
    variance: features.map(
      (y, c) =>
        weight[c] ** 2 *
          (normVariance(errors[c], p[c], a, b, c2, width) * scale * scale + rounding * p[c] ** 2) +
        ROUND * y * y,
    ),
  };
}
