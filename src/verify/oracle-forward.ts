/**
 * BEiT's forward pass, step by step as upstream writes it, each step handed to the team; and the bookkeeping of the
 * noise estimate between the steps (noise.ts).
 */
import type { BeitConfig } from '../beit.js';
import type { StateDict } from '../tensor.js';
import { squaredMultiply } from './kernels.js';
import { ROUND, UNIT, dotNoise, poolShare } from './noise.js';
import { embed, normTokens, pool, totalVariance, unfold, type Pooled } from './oracle-ends.js';
import { SLOPE_STEP, widest, type LinearPhase, type OracleMemory } from './oracle-memory.js';
import type { Team } from './oracle-team.js';
import type { OracleOptions, OracleResult } from './oracle-types.js';
import { readBlockVectors, readOptional, readVector, type BlockVectors } from './oracle-vectors.js';
import type { WeightStream } from './oracle-weights.js';

const PATCH = 'backbone.patch_embed.projection';
const HEAD = 'head.fc';

/** The matrices in the order in which the forward pass needs them. */
export function matrixNames(config: BeitConfig, headless: boolean): string[] {
  const matrices = ['attn.qkv', 'attn.proj', 'ffn.layers.0.0', 'ffn.layers.1'];
  const names = [`${PATCH}.weight`];
  for (const at of blockNames(config)) names.push(...matrices.map((name) => `${at}${name}.weight`));
  if (!headless) names.push(`${HEAD}.weight`);
  return names;
}

/** All blocks in the order in which they run, those of a second output after the backbone's. */
function blockNames({ depth, clsPretraining: second }: BeitConfig): string[] {
  return [
    ...Array.from({ length: depth }, (_, layer) => `backbone.layers.${layer}.`),
    ...Array.from({ length: second?.layers ?? 0 }, (_, layer) => `neck.patch_aggregation.${layer}.`),
  ];
}

type Step = Pick<LinearPhase, 'from' | 'to' | 'then'> & Partial<Pick<LinearPhase, 'gamma'>>;

export class Forward {
  readonly #hidden: Float64Array[] = [];
  readonly #hiddenNoise: number[] = [];
  /** per image: how much the queries look at the same tokens, mean over the heads of the layer where they do most */
  readonly #together: Float64Array;

  constructor(
    private readonly config: BeitConfig,
    private readonly tensors: StateDict,
    private readonly memory: OracleMemory,
    private readonly team: Team,
    private readonly weights: WeightStream,
    private readonly options: OracleOptions,
  ) {
    this.#together = new Float64Array(memory.geometry.batch);
  }

  async run(input: Float32Array | Float64Array): Promise<OracleResult> {
    const { config, memory, options } = this;
    const { batch } = memory.geometry;
    const { depth } = config;

    unfold(memory, config, input);
    await this.#linear(await readVector(this.tensors, `${PATCH}.bias`), {
      from: 'wide',
      to: 'x',
      then: 'nothing',
    });
    const { mask } = options;
    embed(memory, {
      classToken: await readOptional(this.tensors, 'backbone.cls_token', config.classToken),
      positions: await readOptional(this.tensors, 'backbone.pos_embed', config.absolutePosition),
      ...(mask && { hidden: { mask, token: await readVector(this.tensors, 'backbone.mask_token') } }),
    });

    const shared = await readOptional(
      this.tensors,
      'backbone.rel_pos_bias.relative_position_bias_table',
      config.sharedRelativePosition,
    );
    const second = config.clsPretraining;
    const blocks = blockNames(config);
    let ahead = readBlockVectors(this.tensors, config, blocks[0]);
    let early: Float64Array | undefined;
    for (const layer of blocks.keys()) {
      const block = await ahead;
      if (layer + 1 < blocks.length) {
        ahead = readBlockVectors(this.tensors, config, blocks[layer + 1]);
        ahead.catch(() => undefined);
      }
      if (options.hidden && layer < depth) this.#hidden.push(memory.x.slice());
      if (layer === second?.earlyLayer) early = memory.x.slice();
      if (layer === depth) this.#enterSecond(early ?? memory.x.slice());
      await this.#block(block, shared);
      options.onProgress?.(layer + 1, blocks.length);
      if (layer === depth - 1 && options.hidden) this.#hidden.push(memory.x.slice());
    }
    this.#noteHidden(totalVariance(memory));
    if (options.headless || config.kind !== 'classification') {
      const none = new Float64Array(0);
      return {
        logits: none,
        features: none,
        ...(options.hidden && { hidden: this.#hidden }),
        ...(second && { second: memory.x.slice() }),
        noise: { logits: none, features: none, hidden: this.#hiddenNoise },
      };
    }

    const norm = async (name: string): Promise<[Float64Array, Float64Array]> => [
      await readVector(this.tensors, `backbone.${name}.weight`),
      await readVector(this.tensors, `backbone.${name}.bias`),
    ];
    if (config.tokenNorm && config.pooledNorm) normTokens(memory, config, ...(await norm('ln1')));
    const [weight, bias] = await norm(config.pooledNorm ? 'ln2' : 'ln1');
    const pooled = Array.from({ length: batch }, (_, image) =>
      pool(memory, config, image, weight, bias, poolShare(this.#together[image])),
    );
    const { logits, noise } = await this.#head(pooled);
    const features = new Float64Array(batch * config.hiddenSize);
    pooled.forEach((each, image) => features.set(each.features, image * config.hiddenSize));
    return {
      logits,
      features,
      ...(options.hidden && { hidden: this.#hidden }),
      noise: {
        logits: noise,
        features: Float64Array.from(pooled, ({ variance }) => rms(variance)),
        hidden: this.#hiddenNoise,
      },
    };
  }

  /** The class token stays as it is after the last block; the patches are those of an early one. */
  #enterSecond(early: Float64Array): void {
    const { x, geometry } = this.memory;
    const { batch, tokens, width } = geometry;
    for (let image = 0; image < batch; image++) {
      const from = (image * tokens + 1) * width;
      x.set(early.subarray(from, (image + 1) * tokens * width), from);
    }
  }

  /** x += gamma_1 * proj(attention(LN1 x)); x += gamma_2 * fc2(gelu(fc1(LN2 x))) */
  async #block(of: BlockVectors, shared: Float64Array | undefined): Promise<void> {
    const tables = [of.table, shared].filter((table) => table !== undefined);
    this.#noteHidden(await this.#norm(of.ln1));
    await this.#linear(of.qkvBias, { from: 'a', to: 'wide', then: 'nothing' });
    await this.team.run({ kind: 'attention', tables });
    this.#noteTogether();
    await this.#linear(of.projBias, { from: 'a', to: 'o', then: 'residual', gamma: of.gamma1 });
    this.#joinNoise(of.gamma1);
    await this.#norm(of.ln2);
    await this.#linear(of.fc1Bias, { from: 'a', to: 'wide', then: 'gelu' });
    this.#geluNoise();
    await this.#linear(of.fc2Bias, { from: 'wide', to: 'o', then: 'residual', gamma: of.gamma2 });
    this.#joinNoise(of.gamma2);
  }

  /** @returns the sum of the residual stream's error variances */
  async #norm([weight, bias]: readonly [Float64Array, Float64Array]): Promise<number> {
    await this.team.run({ kind: 'norm', weight, bias, eps: this.config.layerNormEps });
    const { s, partial, geometry } = this.memory;
    const { batch, tokens, width, normChunks } = geometry;
    let total = 0;
    for (let image = 0; image < batch; image++) {
      const sAt = image * widest(geometry);
      s.fill(0, sAt, sAt + width);
      for (let chunk = 0; chunk < normChunks; chunk++) {
        const at = (image * normChunks + chunk) * (width + 1);
        for (let c = 0; c < width; c++) s[sAt + c] += partial[at + c] / tokens;
        total += partial[at + width];
      }
    }
    return total;
  }

  /** The next matrix of the stream, range after range. */
  async #linear(bias: Float64Array | undefined, { from, to, then, gamma }: Step): Promise<void> {
    for (;;) {
      const { slot, weightBytes, firstRow, rows, outputs, depth } = await this.weights.next();
      await this.team.run({
        kind: 'linear',
        from,
        to,
        then,
        gamma,
        bias,
        slot,
        weightBytes,
        firstRow,
        rows,
        outputs,
        depth,
      });
      if (firstRow + rows === outputs) return;
    }
  }

  #noteTogether(): void {
    const { partial, geometry } = this.memory;
    const { batch, heads } = geometry;
    for (let image = 0; image < batch; image++) {
      let sum = 0;
      for (let head = 0; head < heads; head++) sum += partial[image * heads + head];
      this.#together[image] = Math.max(this.#together[image], sum / heads);
    }
  }

  /** What a branch brings into the residual stream: the same for all tokens of an image. */
  #joinNoise(gamma: Float64Array | undefined): void {
    const { r, product, geometry } = this.memory;
    const { batch, width } = geometry;
    for (let image = 0; image < batch; image++) {
      for (let c = 0; c < width; c++) {
        r[image * width + c] += product[image * widest(geometry) + c] * (gamma ? gamma[c] ** 2 : 1);
      }
    }
  }

  /** The variances that come out of GELU, for fc2. */
  #geluNoise(): void {
    const { s, product, partial, geometry } = this.memory;
    const { batch, tokens, mlpSize, linearChunks } = geometry;
    const sampled = Math.ceil(tokens / SLOPE_STEP);
    for (let image = 0; image < batch; image++) {
      const at = image * widest(geometry);
      for (let n = 0; n < mlpSize; n++) {
        let slopes = 0;
        let roundings = 0;
        for (let chunk = 0; chunk < linearChunks; chunk++) {
          const sums = (image * linearChunks + chunk) * 2 * mlpSize + n;
          slopes += partial[sums];
          roundings += partial[sums + mlpSize];
        }
        s[at + n] = (slopes / sampled) * product[at + n] + roundings / tokens;
      }
    }
  }

  #noteHidden(total: number): void {
    const { batch, tokens, width } = this.memory.geometry;
    this.#hiddenNoise.push(Math.sqrt(total / (batch * tokens * width)));
  }

  async #head(pooled: readonly Pooled[]): Promise<{ logits: Float64Array; noise: Float64Array }> {
    const { hiddenSize: width, classes } = this.config;
    const bias = await readVector(this.tensors, `${HEAD}.bias`);
    const logits = new Float64Array(pooled.length * classes);
    const variances = new Float64Array(pooled.length * classes);
    const kappa = dotNoise(width) * UNIT * UNIT;
    const s = pooled.map(({ features, variance }) =>
      variance.map((error, c) => error + kappa * features[c] ** 2),
    );
    for (let done = 0; done < classes;) {
      const { slot, weightBytes, firstRow, rows } = await this.weights.next();
      const memory = this.memory.slots[slot];
      const weights = weightBytes === 4 ? new Float32Array(memory) : new Float64Array(memory);
      pooled.forEach(({ features }, image) => {
        squaredMultiply(weights, 0, rows, width, s[image], 0, variances, image * classes + firstRow);
        for (let row = 0; row < rows; row++) {
          let sum = bias[firstRow + row];
          for (let c = 0; c < width; c++) sum += weights[row * width + c] * features[c];
          logits[image * classes + firstRow + row] = sum;
        }
      });
      done = firstRow + rows;
    }
    for (let i = 0; i < logits.length; i++) variances[i] += 2 * ROUND * logits[i] ** 2;
    return {
      logits,
      noise: Float64Array.from(pooled, (_, image) =>
        rms(variances.subarray(image * classes, (image + 1) * classes)),
      ),
    };
  }
}

/** Root of the mean of variances. */
function rms(variances: Float64Array): number {
  return Math.sqrt(variances.reduce((sum, value) => sum + value, 0) / variances.length);
}
