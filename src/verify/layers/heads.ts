/**
 * The steps after the encoder's last block, for every task, in the order in which the file computes them.
 */
import { tokenCount } from '../../beit.js';
import type { Task } from '../../task.js';
import type { Values } from './arithmetic.js';
import { fitRows, wide, type BlockCase } from './block-case.js';
import type { Norm } from './norms.js';
import type { Probes } from './probes.js';
import { attentionSteps } from './steps-attention.js';
import { headStep, poolingStep } from './steps-ends.js';
import { mlpSteps } from './steps-mlp.js';
import { normStep } from './steps-norm.js';
import { segmentSteps } from './steps-segment.js';
import { rowsStep, takeStep, wordsStep, type OtherTokens } from './steps-tokens.js';
import type { Step } from './step.js';
import type { Weights } from './weights.js';

export interface HeadCase {
  readonly weights: Weights;
  readonly images: number;
  readonly task: Task;
  readonly probes: Probes;
  /** of the encoder; what the file gave in it */
  block(layer: number): Promise<BlockCase>;
  /** of the second output */
  neckBlock(layer: number): Promise<BlockCase>;
  fetch(names: readonly string[]): Promise<Map<string, Float32Array>>;
  /** all tokens of the file: [0] entering block 0, [k] after block k; absent where it does not compute them */
  tokens(state: number): Values | undefined;
}

export function headSteps(of: HeadCase): AsyncGenerator<Step> {
  const { task } = of;
  switch (task.name) {
    case 'classify':
      return classifier(of);
    case 'features':
      return features(of, task.outputs);
    case 'masked-image':
      return masked(of);
    case 'segment':
      return segmentSteps({ ...of, task, probes: of.probes.segment!, logits: of.probes.outputs[0] });
  }
}

async function valueOf(of: HeadCase, name: string): Promise<Float32Array> {
  return (await of.fetch([name])).get(name)!;
}

async function normOf(of: HeadCase, name: string, tensor: string, norm: Norm): Promise<Step> {
  const { weights } = of;
  return normStep({
    name,
    of: weights,
    tensor,
    x: wide(await valueOf(of, norm.input)),
    found: await valueOf(of, norm.output),
    affine: [await weights.tensor(`${tensor}.weight`), await weights.tensor(`${tensor}.bias`)],
  });
}

async function* classifier(of: HeadCase): AsyncGenerator<Step> {
  const { weights, images, probes } = of;
  const { config } = weights;
  const mean = config.pooling === 'mean';
  const last = probes.finals.at(-1)!;
  if (probes.finals.length === 2) {
    yield await normOf(of, 'norm of all tokens', 'backbone.ln1', probes.finals[0]);
    const step = await meanStep(of, await valueOf(of, probes.finals[0].output), last);
    if (step) yield step;
  } else {
    const pooling = poolingStep(await of.block(config.depth - 1), await valueOf(of, last.input), mean);
    if (pooling) yield pooling;
  }
  yield await normOf(of, 'last norm', mean ? 'backbone.ln2' : 'backbone.ln1', last);
  const head = await headStep({
    weights,
    images,
    features: await valueOf(of, last.output),
    found: await valueOf(of, probes.outputs[0]),
  });
  if (head) yield head;
}

/** The mean over the patches, of all tokens or of the patches only. */
async function meanStep(of: HeadCase, from: Float32Array, norm: Norm): Promise<Step | undefined> {
  const { weights, images } = of;
  const { config } = weights;
  const E = config.hiddenSize;
  const rows = from.length / (images * E);
  const alike = rows === tokenCount(config) ? config : { ...config, classToken: false };
  return takeStep({
    config: alike,
    images,
    name: 'pooling',
    type: 'avg_featmap',
    tokens: wide(from),
    found: await valueOf(of, norm.input),
    others: [],
  });
}

async function* features(
  of: HeadCase,
  outputs: Extract<Task, { name: 'features' }>['outputs'],
): AsyncGenerator<Step> {
  const { weights, images, probes } = of;
  const { config } = weights;
  const finals = [...probes.finals];
  let normed: Float32Array | undefined;
  const depth = Math.max(...outputs.map(({ layer }) => layer)) + 1;
  if (outputs.some(({ finalNorm }) => finalNorm)) {
    const norm = finals.shift()!;
    const into = await valueOf(of, norm.input);
    const tokens = of.tokens(depth);
    const entering = tokens
      ? rowsStep({ config, name: 'tokens of the last norm', tokens, found: into, others: others(of, depth) })
      : poolingStep(await of.block(depth - 1), into, false);
    if (entering) yield entering;
    yield await normOf(of, 'last norm', 'backbone.ln1', norm);
    normed = await valueOf(of, norm.output);
  }
  for (const [i, { name, layer, type, finalNorm }] of outputs.entries()) {
    const found = await valueOf(of, probes.outputs[i]);
    const state = of.tokens(layer + 1);
    if (type === 'avg_featmap') {
      const norm = finals.shift()!;
      const into = await valueOf(of, norm.input);
      const step = finalNorm
        ? await meanStep(of, normed!, norm)
        : state
          ? takeStep({
              config,
              images,
              name: `mean for ${name}`,
              type,
              tokens: state,
              found: into,
              others: others(of, layer + 1),
            })
          : poolingStep(await of.block(layer), into, true);
      if (step) yield step;
      yield await normOf(of, `norm of ${name}`, 'backbone.ln2', norm);
      continue;
    }
    const tokens = finalNorm ? wide(normed!) : state;
    // Where only the class token was computed there is nothing left to choose.
    if (tokens?.length !== images * tokenCount(config) * config.hiddenSize) continue;
    const step = takeStep({
      config,
      images,
      name: `output ${name}`,
      type,
      tokens,
      found,
      others: finalNorm
        ? [{ where: 'without the last norm', values: of.tokens(depth) ?? new Float64Array(0) }]
        : others(of, layer + 1),
    });
    if (step) yield step;
  }
}

function others(of: HeadCase, but: number): OtherTokens[] {
  const found: OtherTokens[] = [];
  for (let state = 0; state <= of.weights.config.depth; state++) {
    const values = state === but ? undefined : of.tokens(state);
    if (values)
      found.push({ where: state === 0 ? 'before the first block' : `after block ${state - 1}`, values });
  }
  return found;
}

async function* masked(of: HeadCase): AsyncGenerator<Step> {
  const { weights, images, probes } = of;
  const { config } = weights;
  const { depth, hiddenSize: E, clsPretraining: second } = config;
  const tensor = second ? 'neck.norm' : 'backbone.ln1';
  const words = async (name: string, norm: Norm, head: string, output: string): Promise<Step | undefined> =>
    await wordsStep({
      weights,
      name,
      tensor: head,
      rows: await valueOf(of, norm.output),
      images,
      found: await valueOf(of, output),
    });
  const [norm] = probes.finals;
  const last = of.tokens(depth);
  if (last) {
    const step = rowsStep({
      config,
      name: 'tokens of the last norm',
      tokens: last,
      found: await valueOf(of, norm.input),
      others: others(of, depth),
    });
    if (step) yield step;
  }
  yield await normOf(of, 'last norm', tensor, norm);
  const logits = await words('logits', norm, 'head.cls_head', probes.outputs[0]);
  if (logits) yield logits;
  if (!second || !probes.second) return;

  const of2 = 'second output, ';
  const entering = await valueOf(of, probes.second.blocks[0].input);
  const early = of.tokens(second.earlyLayer);
  if (last && early) {
    const joined = (from: Values, patches: Values): Values => {
      const T = tokenCount(config);
      const out = patches.slice();
      for (let at = 0; at < out.length; at += T * E) out.set(from.subarray(at, at + E), at);
      return out;
    };
    const right = joined(last, early);
    const step: Step = {
      name: `${of2}tokens`,
      tensors: [],
      found: entering,
      right,
      noise: Number.MIN_VALUE,
      *mistakes() {
        for (const { where, values } of others(of, second.earlyLayer))
          yield {
            what: `the patch tokens are those ${where} instead of those after block ${second.earlyLayer - 1}`,
            tensors: [],
            compute: () => joined(last, values),
          };
        yield {
          what: 'the class token is that of the early block instead of the last one',
          tensors: [],
          compute: () => early,
        };
      },
    };
    if (fitRows(right, entering.length, E, tokenCount(config))?.length === right.length) yield step;
  }
  for (let layer = 0; layer < probes.second.blocks.length; layer++) {
    const block = await of.neckBlock(layer);
    for (const step of [...attentionSteps(block), ...mlpSteps(block)])
      yield { ...step, name: `${of2}block ${layer}, ${step.name}`, mistakes: () => step.mistakes() };
  }
  const own = !second.sharedHead;
  yield await normOf(of, `${of2}last norm`, own ? 'neck.cls_pt_norm' : tensor, probes.second.final);
  const other = await words(
    `${of2}logits`,
    probes.second.final,
    own ? 'head.cls_pt_head' : 'head.cls_head',
    probes.outputs[1],
  );
  if (other) yield other;
}
