/**
 * What heads take out of the tokens, with the mistakes that are made there.
 */
import { tokenCount, type BeitConfig } from '../../beit.js';
import type { OutType } from '../../task.js';
import { linear, meanRows, softmax, transpose, type Values } from './arithmetic.js';
import { fitRows, wide } from './block-case.js';
import { rmsLost } from './narrowing.js';
import { carriedNoise, linearVariances, meanNoise, rmsOf } from './noise-steps.js';
import type { Mistake, Step } from './step.js';
import type { Weights } from './weights.js';

/** Tokens that could have been meant, `[images, T, E]`. */
export interface OtherTokens {
  readonly where: string;
  readonly values: Values;
}

export interface TakeCase {
  readonly config: BeitConfig;
  readonly images: number;
  readonly name: string;
  readonly type: OutType;
  readonly tokens: Values;
  readonly found: Float32Array;
  readonly others: readonly OtherTokens[];
}

/** Tokens, class token, feature map, or (of `avg_featmap`) the mean that its norm gets: no new numbers but the mean. */
export function takeStep({ config, images, name, type, tokens, found, others }: TakeCase): Step | undefined {
  const { hiddenSize: E } = config;
  const T = tokenCount(config);
  const right = take(config, type, tokens);
  if (right.length !== found.length) return undefined;
  return {
    name,
    tensors: [],
    found,
    right,
    noise:
      type === 'avg_featmap'
        ? meanNoise(tokens, right, config.window[0] * config.window[1])
        : carriedNoise(right),
    *mistakes() {
      for (const { where, values } of others)
        yield {
          what: `the tokens are those ${where}`,
          tensors: [],
          compute: () => take(config, type, values),
        };
      const make = (what: string, compute: () => Values): Mistake => ({ what, tensors: [], compute });
      if (type === 'cls_token') {
        yield make('the mean over the patches is given instead of the class token', () =>
          meanRows(tokens, E, T, 1),
        );
        yield make('the last token is given instead of the class token', () =>
          gather(tokens, images, T, E, [T - 1]),
        );
        yield make('the first patch is given instead of the class token', () =>
          gather(tokens, images, T, E, [1]),
        );
      }
      if (type === 'avg_featmap') {
        yield make('the mean includes the class token', () => meanRows(tokens, E, T));
        yield make('the class token is used instead of the mean over the patches', () =>
          gather(tokens, images, T, E, [0]),
        );
      }
      if (type === 'featmap') yield* mapMistakes(config, tokens);
      if (type === 'raw' && config.classToken)
        yield make('the class token comes last instead of first', () =>
          gather(tokens, images, T, E, [...Array.from({ length: T - 1 }, (_, i) => i + 1), 0]),
        );
    },
  };
}

function gather(tokens: Values, images: number, T: number, E: number, rows: readonly number[]): Values {
  const out = new Float64Array(images * rows.length * E);
  for (let image = 0; image < images; image++)
    rows.forEach((row, i) => {
      const at = (image * T + row) * E;
      out.set(tokens.subarray(at, at + E), (image * rows.length + i) * E);
    });
  return out;
}

export function take(config: BeitConfig, type: OutType, tokens: Values): Values {
  const { hiddenSize: E } = config;
  const T = tokenCount(config);
  const first = config.classToken ? 1 : 0;
  switch (type) {
    case 'raw':
      return tokens;
    case 'cls_token':
      return gather(tokens, tokens.length / (T * E), T, E, [0]);
    case 'featmap':
      return mapOf(config, tokens, first);
    case 'avg_featmap':
      return meanRows(tokens, E, T, first);
  }
}

/** `[E, Wh, Ww]` of the tokens from `first` on. */
export function mapOf(
  { hiddenSize: E, window, classToken }: BeitConfig,
  tokens: Values,
  first: number,
  turned = false,
): Values {
  const N = window[0] * window[1];
  const T = N + (classToken ? 1 : 0);
  const images = tokens.length / (T * E);
  const out = new Float64Array(images * N * E);
  for (let image = 0; image < images; image++)
    for (let patch = 0; patch < N; patch++) {
      const from = turned ? (patch % window[1]) * window[0] + Math.floor(patch / window[1]) : patch;
      for (let c = 0; c < E; c++)
        out[(image * E + c) * N + patch] = tokens[(image * T + from + first) * E + c];
    }
  return out;
}

/** Of tokens made into a feature map. */
export function* mapMistakes(config: BeitConfig, tokens: Values): Generator<Mistake> {
  const { hiddenSize: E, window, classToken } = config;
  const N = window[0] * window[1];
  const first = classToken ? 1 : 0;
  const make = (what: string, compute: () => Values): Mistake => ({ what, tensors: [], compute });
  if (classToken)
    yield make('the last token is left out instead of the class token', () => mapOf(config, tokens, 0));
  yield make('the feature map has x and y exchanged', () => mapOf(config, tokens, first, true));
  yield make('tokens and channels are not exchanged: [N, E] is read as [E, N]', () => {
    const map = mapOf(config, tokens, first);
    const out = new Float64Array(map.length);
    for (let at = 0; at < map.length; at += N * E) out.set(transpose(map.subarray(at, at + N * E), N), at);
    return out;
  });
}

export interface PatchRowsCase {
  readonly config: BeitConfig;
  readonly name: string;
  readonly tokens: Values;
  readonly found: Float32Array;
  readonly others: readonly OtherTokens[];
}

/** Tokens, or the patches among them, as a norm gets them. */
export function rowsStep({ config, name, tokens, found, others }: PatchRowsCase): Step | undefined {
  const { hiddenSize: E } = config;
  const T = tokenCount(config);
  const fit = (values: Values): Values | undefined => fitRows(values, found.length, E, T);
  const right = fit(tokens);
  if (!right) return undefined;
  return {
    name,
    tensors: [],
    found,
    right,
    noise: carriedNoise(right),
    *mistakes() {
      for (const { where, values } of others)
        yield { what: `the tokens are those ${where}`, tensors: [], compute: () => fit(values) };
      if (found.length < tokens.length && T > 1)
        yield {
          what: 'the last token is left out instead of the class token',
          tensors: [],
          compute: () => {
            const images = tokens.length / (T * E);
            return gather(
              tokens,
              images,
              T,
              E,
              Array.from({ length: T - 1 }, (_, i) => i),
            );
          },
        };
    },
  };
}

export interface WordsCase {
  readonly weights: Weights;
  readonly name: string;
  /** canonical name without `.weight` */
  readonly tensor: string;
  /** normalised tokens, or patches */
  readonly rows: Float32Array;
  readonly images: number;
  readonly found: Float32Array;
}

/** Logits over the visual words of every patch. */
export async function wordsStep({
  weights,
  name,
  tensor,
  rows,
  images,
  found,
}: WordsCase): Promise<Step | undefined> {
  const { config } = weights;
  const { hiddenSize: E, window, vocabulary: V } = config;
  const N = window[0] * window[1];
  const all = wide(rows);
  const T = tokenCount(config);
  const patches = all.length === images * N * E ? all : fitRows(all, images * N * E, E, T);
  if (!patches || found.length !== images * N * V) return undefined;
  const weight = await weights.tensor(`${tensor}.weight`);
  const bias = await weights.tensor(`${tensor}.bias`);
  const right = linear(patches, weight, bias, E);
  const tensors = [`${tensor}.weight`, `${tensor}.bias`];
  return {
    name,
    tensors,
    found,
    right,
    noise: rmsOf(linearVariances(patches, weight, right, E)),
    narrowed: rmsLost(weights.narrowing?.loss(tensors[0], patches, weight, E)),
    *mistakes() {
      const make = (what: string, names: readonly string[], compute: () => Values): Mistake => ({
        what,
        tensors: names,
        compute,
      });
      yield make('the bias of the head is missing', tensors.slice(1), () =>
        right.map((value, i) => value - bias[i % V]),
      );
      yield make('the head is stored [E, words] and read as [words, E]', tensors.slice(0, 1), () =>
        linear(patches, transpose(weight, E), bias, E),
      );
      for (const other of ['head.cls_head', 'head.cls_pt_head']) {
        if (other === tensor || !weights.has(`${other}.weight`)) continue;
        yield {
          what: `the logits are those of ${other}`,
          tensors: [...tensors, `${other}.weight`, `${other}.bias`],
          compute: async () =>
            linear(
              patches,
              await weights.tensor(`${other}.weight`),
              await weights.tensor(`${other}.bias`),
              E,
            ),
        };
      }
      if (all.length !== patches.length)
        yield make('the last token is left out instead of the class token', [], () =>
          linear(
            gather(
              all,
              images,
              T,
              E,
              Array.from({ length: N }, (_, i) => i),
            ),
            weight,
            bias,
            E,
          ),
        );
      yield make('the words are in the opposite order', tensors, () =>
        right.map((_, i) => right[i - (i % V) + V - 1 - (i % V)]),
      );
      yield make('the output is a softmax of the logits, not the logits', [], () => softmax(right, V));
    },
  };
}
