/**
 * The attention half of a block, step by step, each with the mistakes that are made there.
 */
import {
  BY_HEAD_ORDER,
  context,
  headsOf,
  join,
  linear,
  pickRows,
  positionBias,
  scores,
  softmax,
  transpose,
  type ColumnOrder,
  type Heads,
  type Part,
  type Values,
} from './arithmetic.js';
import { fitQueries, fitRows, wide, type BlockCase } from './block-case.js';
import { contextLoss, rmsLost } from './narrowing.js';
import {
  contextNoise,
  hiddenNoise,
  joinNoise,
  linearVariances,
  meanSquare,
  rmsOf,
  scaleOf,
  scoreNoise,
  softmaxNoise,
} from './noise-steps.js';
import { normStep } from './steps-norm.js';
import { qkvMistakes, scoreMistakes, sum } from './mistakes-attention.js';
import type { Mistake, Step } from './step.js';

/** But the right one, and q and k exchanged. */
const ORDERS: readonly (readonly [Part, Part, Part])[] = [
  ['q', 'v', 'k'],
  ['v', 'k', 'q'],
  ['k', 'v', 'q'],
  ['v', 'q', 'k'],
];

/** Steps of the attention half in their order, as far as the file shows them. */
export function* attentionSteps(of: BlockCase): Generator<Step> {
  const { config, images, block, weights, values } = of;
  const { hiddenSize: E } = config;
  const heads = headsOf(config, images);
  const { at } = block;
  if (!values.input || !values.ln1) return;
  const input = wide(values.input);
  const ln1 = wide(values.ln1);
  yield normStep({
    name: 'LN1',
    of: weights,
    tensor: `${at}ln1`,
    x: input,
    found: values.ln1,
    affine: block.ln1,
  });

  const qkv = linear(ln1, block.qkv, block.qkvBias, E);
  const variances = linearVariances(ln1, block.qkv, qkv, E);
  const lost = weights.narrowing?.loss(`${at}attn.qkv.weight`, ln1, block.qkv, E);
  const scale = 1 / Math.sqrt(heads.d);
  const tables = [block.table, block.shared].filter((table) => table !== undefined);
  const bias = tables.length > 0 ? sum(tables.map((table) => positionBias(table, heads))) : undefined;
  const all = scores(qkv, heads, { scale, bias });
  const qkvTensors = [
    `${at}attn.qkv.weight`,
    ...(config.qvBias ? [`${at}attn.q_bias`, `${at}attn.v_bias`] : []),
    ...(config.qkvBias ? [`${at}attn.qkv.bias`] : []),
  ];
  const tableTensors = [
    ...(block.table ? [`${at}attn.relative_position_bias_table`] : []),
    ...(block.shared ? ['backbone.rel_pos_bias.relative_position_bias_table'] : []),
  ];
  const ofScores = (rows: boolean): Iterable<Mistake> =>
    scoreMistakes({ ...of, heads, ln1, qkv, scale, bias, tables, at, qkvTensors, tableTensors }, rows);
  const scoresRight = values.scores && fitQueries(all, values.scores.length, heads.tokens);
  if (values.scores && scoresRight) {
    const length = values.scores.length;
    yield {
      name: 'attention scores',
      tensors: [...qkvTensors, ...tableTensors],
      found: values.scores,
      right: scoresRight,
      noise: scoreNoise(qkv, variances, all, heads, scale),
      narrowed: lost && scoreNoise(qkv, lost.each, all, heads, scale),
      *mistakes() {
        for (const mistake of ofScores(true)) {
          yield {
            ...mistake,
            compute: async () => fitQueries((await mistake.compute())!, length, heads.tokens),
          };
        }
      },
    };
  }

  const before = values.scores && wide(values.scores);
  if (before && values.probabilities) {
    const right = softmax(before, heads.tokens);
    yield {
      name: 'attention probabilities',
      tensors: [],
      found: values.probabilities,
      right,
      noise: softmaxNoise(before, right, heads.tokens),
      *mistakes() {
        yield {
          what: 'the softmax runs over the queries instead of the keys',
          tensors: [],
          compute: () => overQueries(before, heads),
        };
        yield { what: 'there is no softmax', tensors: [], compute: () => before };
        yield {
          what: 'the logarithm of the softmax is used',
          tensors: [],
          compute: () => right.map(Math.log),
        };
      },
    };
  }

  const probabilities = values.probabilities ? wide(values.probabilities) : softmax(all, heads.tokens);
  const mixed = (p: Values, from: Values, options?: Parameters<typeof context>[3]): Values =>
    p.length === all.length ? context(p, from, heads, options) : classContext(p, from, heads, options);
  const attention = (
    from: Values,
    {
      value,
      order,
      ...other
    }: Partial<Record<'query' | 'key' | 'value', Part>> & { order?: ColumnOrder } = {},
  ): Values =>
    mixed(softmax(scores(from, heads, { scale, bias, order, ...other }), heads.tokens), from, {
      value,
      order,
    });
  const contextRight = mixed(probabilities, qkv);
  const missingSoftmax: Mistake = {
    what: 'there is no softmax',
    tensors: [],
    compute: () => mixed(all, qkv),
  };
  // Where one node does all of attention, its output is the first that shows what is wrong with the scores.
  const unseen = !values.scores && !values.probabilities;
  const contextMistakes = function* (): Generator<Mistake> {
    if (unseen) {
      yield missingSoftmax;
      yield* lifted(ofScores(false), (other) => mixed(softmax(other, heads.tokens), qkv));
      for (const [query, key, value] of ORDERS) {
        yield {
          what: `q, k and v are taken in the order ${query} | ${key} | ${value}`,
          tensors: qkvTensors,
          compute: () => attention(qkv, { query, key, value }),
        };
      }
    }
    const other = (what: string, options: Parameters<typeof context>[3], from = qkv): Mistake => ({
      what,
      tensors: qkvTensors,
      compute: () => mixed(probabilities, from, options),
    });
    yield other('k is averaged instead of v', { value: 'k' });
    yield other('q is averaged instead of v', { value: 'q' });
    yield other('the probabilities are used along their columns (transposed)', { turned: true });
    yield other('the heads are joined without moving them beside their tokens first', { unmoved: true });
    yield {
      what: 'the columns of qkv are taken head by head (q, k, v of a head side by side)',
      tensors: qkvTensors,
      compute: () =>
        unseen
          ? attention(qkv, { order: BY_HEAD_ORDER })
          : mixed(probabilities, qkv, { order: BY_HEAD_ORDER }),
    };
    yield* qkvMistakes(
      of,
      ln1,
      qkvTensors,
      (from) => (unseen ? attention(from) : mixed(probabilities, from)),
      !unseen,
    );
  };
  const noise = Math.hypot(
    contextNoise(probabilities, qkv, variances, contextRight, heads),
    unseen ? hiddenNoise(all, probabilities, qkv, variances, heads, scale) : 0,
  );
  if (values.context?.length === contextRight.length) {
    yield {
      name: 'attention output',
      tensors: qkvTensors,
      found: values.context,
      right: contextRight,
      noise,
      narrowed: lost && contextLoss(probabilities, lost, heads),
      mistakes: contextMistakes,
    };
  }

  const shown = values.context?.length === contextRight.length;
  const joined = shown ? wide(values.context) : contextRight;
  const projected = linear(joined, block.proj, block.projBias, E);
  const projNoise = Math.hypot(
    rmsOf(linearVariances(joined, block.proj, projected, E)),
    shown ? 0 : noise * Math.sqrt(meanSquare(block.proj) * E),
  );
  const projLost = rmsLost(weights.narrowing?.loss(`${at}attn.proj.weight`, joined, block.proj, E));
  const projMistakes = function* (): Generator<Mistake> {
    const tensors = [`${at}attn.proj.weight`];
    yield {
      what: 'attn.proj.weight is transposed',
      tensors,
      compute: () => linear(joined, transpose(block.proj, E), block.projBias, E),
    };
    yield {
      what: 'the bias of attn.proj is missing',
      tensors: [`${at}attn.proj.bias`],
      compute: () => linear(joined, block.proj, undefined, E),
    };
    yield { what: 'there is no projection', tensors, compute: () => joined };
    for (const { where, name, read } of weights.others(at, 'attn.proj.weight').slice(0, 4)) {
      yield {
        what: `attn.proj.weight is that of ${where}`,
        tensors: [...tensors, name],
        compute: async () => linear(joined, await read(), block.projBias, E),
      };
    }
    if (!shown) yield* lifted(contextMistakes(), (rows) => linear(rows, block.proj, block.projBias, E));
  };
  if (values.projection?.length === projected.length) {
    yield {
      name: 'projection',
      tensors: [`${at}attn.proj.weight`, `${at}attn.proj.bias`],
      found: values.projection,
      right: projected,
      noise: projNoise,
      narrowed: projLost,
      mistakes: projMistakes,
    };
  }

  if (!values.attended) return;
  const branch = values.projection ? wide(values.projection) : projected;
  const stream = fitRows(input, branch.length, E, heads.tokens);
  if (!stream) return;
  const { length } = values.attended;
  const fit = (rows: Values): Values | undefined =>
    rows.length === length ? rows : fitRows(rows, length, E, rows.length / (images * E));
  const right = fit(join(stream, branch, block.gamma1, E));
  if (!right) return;
  const gammas: Mistake[] = [];
  const gamma = (what: string, tensors: string[], compute: () => Values | Promise<Values>): void => {
    gammas.push({ what, tensors, compute: async () => fit(join(stream, branch, await compute(), E)) });
  };
  const ones = new Float64Array(E).fill(1);
  if (block.gamma1 && block.gamma2) {
    const { gamma1, gamma2 } = block;
    gamma('LayerScale is missing (gamma_1 is not applied)', [`${at}gamma_1`], () => ones);
    gamma('gamma_2 is used in the place of gamma_1', [`${at}gamma_1`, `${at}gamma_2`], () => gamma2);
    gamma('gamma_1 is applied twice', [`${at}gamma_1`], () => gamma1.map((value) => value * value));
    for (const { where, name, read } of weights.others(at, 'gamma_1'))
      gamma(`gamma_1 is that of ${where}`, [`${at}gamma_1`, name], read);
  }
  gamma('the attention branch is missing', [], () => new Float64Array(E));
  const normed = fitRows(ln1, branch.length, E, heads.tokens);
  yield {
    name: 'first residual',
    tensors: block.gamma1 ? [`${at}gamma_1`] : [],
    found: values.attended,
    right,
    noise: Math.max(
      joinNoise(branch, block.gamma1, right),
      values.projection ? 0 : projNoise * scaleOf(block.gamma1),
    ),
    narrowed: values.projection ? undefined : projLost && projLost * scaleOf(block.gamma1),
    *mistakes() {
      yield* gammas;
      yield {
        what: 'the residual connection is missing',
        tensors: [],
        compute: () => fit(join(new Float64Array(branch.length), branch, block.gamma1, E)),
      };
      if (normed)
        yield {
          what: 'the residual is taken after LN1 instead of before it',
          tensors: [],
          compute: () => fit(join(normed, branch, block.gamma1, E)),
        };
      if (!values.projection)
        yield* lifted(projMistakes(), (rows) => fit(join(stream, rows, block.gamma1, E)));
    },
  };
}

/** Mistakes of an earlier step that the file does not show, carried on to this one. */
function* lifted(
  mistakes: Iterable<Mistake>,
  carry: (rows: Values) => Values | undefined,
): Generator<Mistake> {
  for (const mistake of mistakes) {
    yield { ...mistake, compute: async () => carry((await mistake.compute())!) };
  }
}

/** Average of v for the class token only, `[images, heads, 1, tokens]` to `[images, E]`. */
function classContext(p: Values, qkv: Values, of: Heads, options: Parameters<typeof context>[3]): Values {
  const { images, heads, tokens, d } = of;
  const full = new Float64Array(images * heads * tokens * tokens);
  for (let row = 0; row < images * heads; row++) {
    full.set(p.subarray(row * tokens, (row + 1) * tokens), row * tokens * tokens);
  }
  return pickRows(context(full, qkv, of, options), heads * d, tokens, 0, 1);
}

function overQueries(values: Values, { tokens }: Heads): Values {
  const out = new Float64Array(values.length);
  for (let at = 0; at < values.length; at += tokens * tokens) {
    const square = values.subarray(at, at + tokens * tokens);
    out.set(transpose(softmax(transpose(square, tokens), tokens), tokens), at);
  }
  return out;
}
