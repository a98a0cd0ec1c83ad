/**
 * Pixels to tokens, with the mistakes that are made there.
 */
import { tokenCount, type BeitConfig } from '../../beit.js';
import { linear, type Values } from './arithmetic.js';
import { wide } from './block-case.js';
import { rmsLost } from './narrowing.js';
import { linearVariances, rmsOf } from './noise-steps.js';
import type { Mistake, Step } from './step.js';
import type { Weights } from './weights.js';

const PATCH = 'backbone.patch_embed.projection';

/** How the values of a patch are laid out, given its pixel `[channel, y, x]`; and which patch comes when. */
interface Unfolding {
  readonly columnMajor?: boolean;
  /** channels in the opposite order: BGR */
  readonly reversed?: boolean;
  /** a pixel as the file would see it */
  readonly pixel?: (value: number, channel: number) => number;
}

function unfold(pixels: Values, config: BeitConfig, images: number, how: Unfolding = {}): Values {
  const { channels, patchSize: P, imageSize, window } = config;
  const [height, width] = imageSize;
  const [rows, columns] = window;
  const length = channels * P * P;
  const out = new Float64Array(images * rows * columns * length);
  let to = 0;
  for (let image = 0; image < images; image++) {
    for (let patch = 0; patch < rows * columns; patch++) {
      const [down, across] = how.columnMajor
        ? [patch % rows, Math.floor(patch / rows)]
        : [Math.floor(patch / columns), patch % columns];
      for (let c = 0; c < channels; c++) {
        const channel = how.reversed ? channels - 1 - c : c;
        for (let y = 0; y < P; y++) {
          const from = ((image * channels + channel) * height + down * P + y) * width + across * P;
          for (let x = 0; x < P; x++) {
            // Where the window is larger than the image, zeros follow (mmpretrain).
            const inside = down * P + y < height && across * P + x < width;
            const value = inside ? pixels[from + x] : 0;
            out[to] = how.pixel && inside ? how.pixel(value, channel) : value;
            to += 1;
          }
        }
      }
    }
  }
  return out;
}

/** What a file may do to pixels that are normalised already. */
const NORMALISATIONS: readonly {
  readonly what: string;
  readonly mean: readonly number[];
  readonly std: readonly number[];
}[] = [
  {
    what: 'the graph normalises the pixels once more, with mean 0.5 and std 0.5 (those of v1)',
    mean: [0.5, 0.5, 0.5],
    std: [0.5, 0.5, 0.5],
  },
  {
    what: "the graph normalises the pixels once more, with ImageNet's mean and std (those of v2)",
    mean: [0.485, 0.456, 0.406],
    std: [0.229, 0.224, 0.225],
  },
  { what: 'the graph divides the pixels by 255', mean: [0, 0, 0], std: [255, 255, 255] },
  {
    what: 'the graph normalises the pixels twice: by 255 and then with mean 0.5 and std 0.5',
    mean: [127.5, 127.5, 127.5],
    std: [127.5, 127.5, 127.5],
  },
];

export interface EmbeddingCase {
  readonly weights: Weights;
  readonly images: number;
  readonly pixels: Float32Array;
  /** `[images, N]`, 1 = hidden by the mask token */
  readonly mask?: Uint8Array;
  readonly found: Float32Array;
}

export async function embeddingStep({
  weights,
  images,
  pixels,
  mask,
  found,
}: EmbeddingCase): Promise<Step | undefined> {
  const { config } = weights;
  const { hiddenSize: E, channels, patchSize: P } = config;
  const tokens = tokenCount(config);
  const kernel = await weights.tensor(`${PATCH}.weight`);
  const bias = await weights.tensor(`${PATCH}.bias`);
  const classToken = config.classToken ? await weights.tensor('backbone.cls_token') : undefined;
  const maskToken = mask ? await weights.tensor('backbone.mask_token') : undefined;
  const positions = config.absolutePosition ? await weights.tensor('backbone.pos_embed') : undefined;
  const inputs = channels * P * P;
  const source = wide(pixels);

  interface Assembly {
    readonly patches?: Values;
    readonly token?: Values;
    readonly positions?: Values | undefined;
    readonly last?: boolean;
    readonly hidden?: (image: number, patch: number) => boolean;
    readonly maskToken?: Values;
    /** the mask token covers the positions as well */
    readonly covered?: boolean;
  }
  const patches = unfold(source, config, images);
  const projected = linear(patches, kernel, bias, inputs);
  const N = config.window[0] * config.window[1];
  const before = tokens - N;
  const isHidden = (image: number, patch: number): boolean => mask?.[image * N + patch] === 1;
  const assemble = (how: Assembly = {}): Values => {
    const from = how.patches ?? projected;
    const shift = 'positions' in how ? how.positions : positions;
    const hidden = how.hidden ?? isHidden;
    const out = new Float64Array(images * tokens * E);
    for (let image = 0; image < images; image++) {
      const at = image * tokens * E;
      const first = at + (how.last ? 0 : before) * E;
      out.set(from.subarray(image * N * E, (image + 1) * N * E), first);
      if (classToken) out.set(how.token ?? classToken, how.last ? at + N * E : at);
      const cover = (): void => {
        if (!maskToken) return;
        for (let patch = 0; patch < N; patch++)
          if (hidden(image, patch)) out.set(how.maskToken ?? maskToken, first + patch * E);
      };
      if (!how.covered) cover();
      if (shift) for (let i = 0; i < tokens * E; i++) out[at + i] += shift[i];
      if (how.covered) cover();
    }
    return out;
  };
  const right = assemble();
  if (found.length !== right.length) return undefined;
  const tensors = [
    `${PATCH}.weight`,
    `${PATCH}.bias`,
    ...(classToken ? ['backbone.cls_token'] : []),
    ...(maskToken ? ['backbone.mask_token'] : []),
    ...(positions ? ['backbone.pos_embed'] : []),
  ];
  const unfolded = (what: string, how: Unfolding, names: readonly string[] = []): Mistake => ({
    what,
    tensors: names,
    compute: () => assemble({ patches: linear(unfold(source, config, images, how), kernel, bias, inputs) }),
  });
  return {
    name: 'embedding',
    tensors,
    found,
    right,
    noise: rmsOf(linearVariances(patches, kernel, projected, inputs)),
    narrowed: rmsLost(weights.narrowing?.loss(tensors[0], patches, kernel, inputs)),
    *mistakes() {
      for (const { what, mean, std } of NORMALISATIONS) {
        yield unfolded(what, { pixel: (value, c) => (value - mean[c % 3]) / std[c % 3] });
      }
      for (const { what, mean, std } of NORMALISATIONS.slice(0, 2)) {
        yield unfolded(
          what.replace('normalises the pixels once more', 'takes the normalisation of the pixels back'),
          {
            pixel: (value, c) => value * std[c % 3] + mean[c % 3],
          },
        );
      }
      yield unfolded('the channels are in the opposite order (BGR instead of RGB)', { reversed: true });
      yield unfolded('the patches are in column-major order: x and y of the window change roles', {
        columnMajor: true,
      });
      yield {
        what: 'the patch kernel is transposed: x and y of a patch change roles',
        tensors: [tensors[0]],
        compute: () => assemble({ patches: linear(patches, turnedKernel(kernel, P), bias, inputs) }),
      };
      yield {
        what: 'the patch kernel is read as [P, P, channels]',
        tensors: [tensors[0]],
        compute: () =>
          assemble({ patches: linear(patches, channelsLast(kernel, channels, P), bias, inputs) }),
      };
      yield {
        what: 'the bias of the patch projection is missing',
        tensors: [tensors[1]],
        compute: () => assemble({ patches: linear(patches, kernel, undefined, inputs) }),
      };
      if (classToken) {
        const token = (what: string, how: Assembly): Mistake => ({
          what,
          tensors: ['backbone.cls_token'],
          compute: () => assemble(how),
        });
        yield token('the class token is zero', { token: new Float64Array(E) });
        yield token('the class token comes last instead of first', { last: true });
      }
      if (maskToken) {
        const masked = (what: string, how: Assembly): Mistake => ({
          what,
          tensors: ['backbone.mask_token'],
          compute: () => assemble(how),
        });
        yield masked('the mask is not used: hidden patches are seen', { hidden: () => false });
        yield masked('the mask is the wrong way round: what should be seen is hidden', {
          hidden: (image, patch) => !isHidden(image, patch),
        });
        yield masked('hidden patches are zero instead of the mask token', {
          maskToken: new Float64Array(E),
        });
        yield masked('hidden patches get the class token instead of the mask token', {
          maskToken: classToken,
        });
        yield masked('the mask is shifted by one patch, as if it had a place for the class token', {
          hidden: (image, patch) => patch > 0 && isHidden(image, patch - 1),
        });
        yield masked('the mask is read column by column', {
          hidden: (image, patch) => {
            const [rows, columns] = config.window;
            return isHidden(image, (patch % columns) * rows + Math.floor(patch / columns));
          },
        });
        if (positions) yield masked('hidden patches have lost their positions', { covered: true });
      }
      if (!positions) return;
      const place = (what: string, other: Values | undefined): Mistake => ({
        what,
        tensors: ['backbone.pos_embed'],
        compute: () => assemble({ positions: other }),
      });
      yield place('pos_embed is missing or zero', undefined);
      const withoutClass = positions.slice().fill(0, 0, E);
      if (classToken) yield place('pos_embed is not added to the class token', withoutClass);
      const shifted = new Float64Array(positions.length);
      shifted.set(positions.subarray(0, -E), E);
      yield place('pos_embed is shifted by one row', shifted);
    },
  };
}

/** `[out, C, P, P]` with the two sides of a patch exchanged. */
function turnedKernel(kernel: Values, P: number): Values {
  return kernel.map((_, i) => {
    const x = i % P;
    const y = Math.floor(i / P) % P;
    return kernel[i - x - y * P + x * P + y];
  });
}

function channelsLast(kernel: Values, channels: number, P: number): Values {
  const size = channels * P * P;
  return kernel.map((_, i) => {
    const [row, rest] = [Math.floor(i / size) * size, i % size];
    const [c, pixel] = [Math.floor(rest / (P * P)), rest % (P * P)];
    return kernel[row + pixel * channels + c];
  });
}
