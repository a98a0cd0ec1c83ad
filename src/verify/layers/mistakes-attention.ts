/**
 * Mistakes between LN1's output and the scores, and what they would give.
 */
import {
  BY_HEAD_ORDER,
  linear,
  positionBias,
  scores,
  transpose,
  type Heads,
  type Values,
} from './arithmetic.js';
import type { BlockCase } from './block-case.js';
import { rowChoices } from './positions.js';
import type { Mistake } from './step.js';

export function sum(all: readonly Values[]): Values {
  return all.reduce((total, each) => total.map((value, i) => value + each[i]));
}

/**
 * Mistakes in how q, k and v come from LN1's output; the same for scores and for the average of v.
 *
 * @param keys with a bias on k, which adds the same to all scores of a query: behind a softmax nobody sees it
 */
export function* qkvMistakes(
  { config, block }: BlockCase,
  ln1: Values,
  tensors: readonly string[],
  then: (qkv: Values) => Values,
  keys = true,
): Generator<Mistake> {
  const { hiddenSize: E } = config;
  const bias = block.qkvBias;
  const part = (values: Values, i: number): Values =>
    values.subarray(i * (values.length / 3), (i + 1) * (values.length / 3));
  const [weightName] = tensors;
  const made = (
    what: string,
    weight: Values,
    shift: Values | undefined,
    names: readonly string[],
  ): Mistake => ({
    what,
    tensors: names,
    compute: () => then(linear(ln1, weight, shift, E)),
  });
  for (const order of ['kqv', 'qvk', 'vkq', 'kvq', 'vqk']) {
    const weight = new Float64Array(block.qkv.length);
    [...order].forEach((letter, i) =>
      weight.set(part(block.qkv, 'qkv'.indexOf(letter)), (i * weight.length) / 3),
    );
    const what =
      order === 'kqv'
        ? 'q and k are swapped in the rows of attn.qkv.weight'
        : `the rows of attn.qkv.weight are ${[...order].join(' | ')} instead of q | k | v`;
    yield made(what, weight, bias, [weightName]);
  }
  yield made('attn.qkv.weight is transposed', transpose(block.qkv, E), bias, [weightName]);
  if (!bias) return;
  const zero = new Float64Array(E);
  const joinBias = (...parts: Values[]): Values => {
    const out = new Float64Array(3 * E);
    parts.forEach((each, i) => out.set(each, i * E));
    return out;
  };
  const [q, k, v] = [0, 1, 2].map((i) => part(bias, i));
  const names = tensors.slice(1);
  yield made('the biases of q and v are missing', block.qkv, undefined, names);
  yield made("q's bias is missing", block.qkv, joinBias(zero, k, v), names);
  yield made("v's bias is missing", block.qkv, joinBias(q, k, zero), names);
  if (keys) {
    yield made("v's bias is put on k", block.qkv, joinBias(q, v, k), names);
    yield made("v's bias is put on k as well", block.qkv, joinBias(q, v, v), names);
    yield made("q's bias is put on k", block.qkv, joinBias(k, q, v), names);
    yield made("q's bias is put on k as well", block.qkv, joinBias(q, q, v), names);
  }
  yield made("q's and v's biases are swapped", block.qkv, joinBias(v, k, q), names);
}

interface ScoreCase extends BlockCase {
  readonly heads: Heads;
  readonly ln1: Values;
  readonly qkv: Values;
  readonly scale: number;
  readonly bias: Values | undefined;
  readonly tables: readonly Values[];
  readonly at: string;
  readonly qkvTensors: readonly string[];
  readonly tableTensors: readonly string[];
}

/** @param rows with those in the rows of qkv, which change what is averaged as well */
export function* scoreMistakes(of: ScoreCase, rows = true): Generator<Mistake> {
  const { config, block, weights, heads, ln1, qkv, scale, bias, tables, at, qkvTensors, tableTensors } = of;
  const matrix = qkvTensors.slice(0, 1);
  const make = (what: string, options: Partial<Parameters<typeof scores>[2]>, from = qkv): Mistake => ({
    what,
    tensors: matrix,
    compute: () => scores(from, heads, { scale, bias, ...options }),
  });
  yield make('q and k are swapped', { query: 'k', key: 'q' });
  yield make('scores are not scaled by 1/sqrt(d)', { scale: 1 });
  yield make('scores are scaled by 1/d instead of 1/sqrt(d)', { scale: 1 / heads.d });
  yield make('scores are scaled twice', { scale: scale * scale });
  yield make('scores are scaled by 1/sqrt(E) instead of 1/sqrt(d)', {
    scale: 1 / Math.sqrt(config.hiddenSize),
  });
  yield make('q and v are swapped', { query: 'v' });
  yield make('k and v are swapped', { key: 'v' });
  yield make('the columns of qkv are taken head by head (q, k, v of a head side by side)', {
    order: BY_HEAD_ORDER,
  });
  if (rows) yield* qkvMistakes(of, ln1, qkvTensors, (from) => scores(from, heads, { scale, bias }));

  // What the position tables do is added to the products: those are computed once.
  if (!bias) return;
  let kept: Values | undefined;
  const products = (): Values => (kept ??= scores(qkv, heads, { scale }));
  const one = heads.heads * heads.tokens * heads.tokens;
  const place = (what: string, compute: () => Values | Promise<Values>, tensors = tableTensors): Mistake => ({
    what,
    tensors,
    compute: async () => {
      const other = await compute();
      return products().map((value, i) => value + other[i % one]);
    },
  });
  yield place('the position table is missing or zero', () => new Float64Array(one));
  yield place('the position bias is added before the scores are scaled', () =>
    bias.map((value) => value * scale),
  );
  yield place('the position bias is added twice', () => bias.map((value) => 2 * value));
  yield place('the position bias is subtracted', () => bias.map((value) => -value));
  for (const { what, row } of rowChoices(config.window)) {
    yield place(what, () => sum(tables.map((table) => positionBias(table, heads, row))));
  }
  yield place('the position table is read as if it were stored [heads, rows]', () =>
    sum(tables.map((table) => positionBias(transpose(table, table.length / heads.heads), heads))),
  );
  if (tables.length === 2) {
    yield place(
      "only the table of all blocks is used, the block's own is missing",
      () => positionBias(tables[1], heads),
      tableTensors.slice(0, 1),
    );
    yield place(
      "only the block's own table is used, that of all blocks is missing",
      () => positionBias(tables[0], heads),
      tableTensors.slice(1),
    );
  }
  if (block.table) {
    for (const { where, name, read } of weights.others(at, 'attn.relative_position_bias_table')) {
      yield place(
        `the position table is that of ${where}`,
        async () =>
          sum(
            [await read(), ...(block.shared ? [block.shared] : [])].map((table) =>
              positionBias(table, heads),
            ),
          ),
        [`${at}attn.relative_position_bias_table`, name],
      );
    }
  }
}
