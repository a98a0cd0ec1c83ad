/**
 * The steps of one place of a graph, from the values that the file gives there.
 */
import { basename } from 'node:path';
import { printable } from '../../errors.js';
import { tokenCount } from '../../beit.js';
import type { BeitModel } from '../../model.js';
import type { Task } from '../../task.js';
import { asFloat32, byteLength, readFloat32 } from '../../tensor.js';
import { explainDifference } from '../checks/difference.js';
import type { OnnxFile } from '../onnx-file.js';
import type { BlockProbes, Probes } from './probes.js';
import type { Values } from './arithmetic.js';
import { wide, type BlockCase, type BlockValues } from './block-case.js';
import { headSteps } from './heads.js';
import type { Norm } from './norms.js';
import { attentionSteps } from './steps-attention.js';
import { embeddingStep } from './steps-embedding.js';
import { Narrowing } from './narrowing.js';
import { mlpSteps } from './steps-mlp.js';
import type { Step, Suspect } from './step.js';
import { Weights } from './weights.js';

/** The two ends, and the blocks between them. */
export type Place =
  { readonly kind: 'start' } | { readonly kind: 'block'; readonly layer: number } | { readonly kind: 'end' };

export interface GraphCase {
  readonly path: string;
  readonly file: OnnxFile;
  readonly model: BeitModel;
  readonly task: Task;
  readonly probes: Probes;
  readonly pixels: Float32Array;
  /** `[images, N]`, 1 = hidden */
  readonly mask?: Uint8Array;
  readonly images: number;
  readonly wrong: boolean;
  readonly threads?: number;
  readonly signal?: AbortSignal;
}

/** A mistake that the graph itself shows, without any numbers. */
export interface GraphFinding {
  readonly step: string;
  readonly tensors: readonly string[];
  readonly mistake: string;
}

/** Tensors above this are not read as a whole to see whether the file has other values. */
const MOST_BYTES = 64 * 1024 * 1024;

export class GraphReader {
  readonly #weights: Weights;
  readonly #tokens = new Map<number, Values | undefined>();

  constructor(
    private readonly of: GraphCase,
    private readonly fetch: (names: readonly string[]) => Promise<Map<string, Float32Array>>,
    /** fetched already */
    private readonly known: ReadonlyMap<string, Float32Array>,
  ) {
    this.#weights = new Weights(of.model.config, of.model.tensors, new Narrowing(of.file));
  }

  async *steps(place: Place): AsyncGenerator<Step> {
    const { probes, pixels, mask, images, task } = this.of;
    if (place.kind === 'start') {
      const found = this.known.get(probes.blocks[0].input)!;
      const step = await embeddingStep({ weights: this.#weights, images, pixels, mask, found });
      if (step) yield step;
    } else if (place.kind === 'block') {
      const block = await this.#block(probes.blocks[place.layer], Weights.prefix(place.layer));
      yield* attentionSteps(block);
      yield* mlpSteps(block);
    } else {
      yield* headSteps({
        weights: this.#weights,
        images,
        task,
        probes,
        block: (layer) => this.#block(probes.blocks[layer], Weights.prefix(layer)),
        neckBlock: (layer) => this.#block(probes.second!.blocks[layer], Weights.neckPrefix(layer)),
        fetch: (names) => this.#values(names),
        tokens: (state) => this.#tokensAt(state),
      });
    }
  }

  async #values(names: readonly string[]): Promise<Map<string, Float32Array>> {
    const missing = names.filter((name) => !this.known.has(name));
    const fetched = missing.length > 0 ? await this.fetch(missing) : new Map<string, Float32Array>();
    return new Map(names.map((name) => [name, this.known.get(name) ?? fetched.get(name)!]));
  }

  /** Where the file computes all of them. */
  #tokensAt(state: number): Values | undefined {
    if (this.#tokens.has(state)) return this.#tokens.get(state);
    const { probes, images, model } = this.of;
    const name = state === 0 ? probes.blocks[0].input : probes.blocks.at(state - 1)?.output;
    const value = state > probes.blocks.length || name === undefined ? undefined : this.known.get(name);
    const whole = value?.length === images * tokenCount(model.config) * model.config.hiddenSize;
    const tokens = value && whole ? wide(value) : undefined;
    this.#tokens.set(state, tokens);
    return tokens;
  }

  async #block(probes: BlockProbes, at: string): Promise<BlockCase> {
    const inner = innerRoles(probes);
    const stream = Object.entries(streamRoles(probes)).flatMap(([role, name]) =>
      name === undefined ? [] : [[role, name] as const],
    );
    const fetched = await this.#values([...inner, ...stream].map(([, name]) => name));
    const values = Object.fromEntries([...inner, ...stream].map(([role, name]) => [role, fetched.get(name)]));
    return {
      config: this.of.model.config,
      images: this.of.images,
      block: await this.#weights.block(at),
      weights: this.#weights,
      values: values as BlockValues,
    };
  }

  /** What the graph shows where the numbers may not. */
  finding(place: Place): GraphFinding | undefined {
    const { probes, task, model, images } = this.of;
    const { config } = model;
    const eps = Math.fround(config.layerNormEps);
    const { second } = probes;
    const norms: (readonly [string, Norm])[] =
      place.kind === 'block'
        ? [
            ['LN1', probes.blocks[place.layer].ln1],
            ['LN2', probes.blocks[place.layer].ln2],
          ]
        : place.kind === 'end'
          ? [
              ...probes.finals.map((norm) => ['last norm', norm] as const),
              ...(second?.blocks ?? []).flatMap(({ ln1, ln2 }, i) => [
                [`second output, block ${i}, LN1`, ln1] as const,
                [`second output, block ${i}, LN2`, ln2] as const,
              ]),
              ...(second ? [['second output, last norm', second.final] as const] : []),
            ]
          : [];
    for (const [step, norm] of norms) {
      if (norm.epsilon === undefined || norm.epsilon === eps) continue;
      return {
        step,
        tensors: [],
        mistake: `epsilon is ${Number(norm.epsilon.toPrecision(6))} instead of ${config.layerNormEps}`,
      };
    }
    if (place.kind === 'end' && task.name === 'classify' && config.pooling === 'mean') {
      const rows = this.known.get(probes.finals.at(-1)!.input)!.length / (images * config.hiddenSize);
      if (rows === tokenCount(config) || rows === tokenCount(config) - 1) {
        return {
          step: 'pooling',
          tensors: [],
          mistake: 'the last norm is applied to the tokens, before the mean over them',
        };
      }
    }
    return undefined;
  }

  /** Tensors of the step whose values in the file, under the source's name, are not the source's. */
  async alteredTensors(step: Pick<Step, 'tensors'>): Promise<Suspect[]> {
    const { file, model } = this.of;
    const found: Suspect[] = [];
    for (const name of step.tensors) {
      const source = model.tensors.get(name);
      const written = file.initializers.get(name);
      if (!source || written?.dtype?.name !== 'F32') continue;
      const bytes = byteLength(asFloat32(source));
      if (bytes > MOST_BYTES || written.stored.end - written.stored.start !== bytes) continue;
      const values = new Float32Array(bytes / 4);
      await written.stored.source.readInto(new Uint8Array(values.buffer), written.stored.start);
      const right = await readFloat32(source);
      const differing = values.reduce((count, value, i) => count + (Object.is(value, right[i]) ? 0 : 1), 0);
      if (differing === 0) continue;
      const cause = await explainDifference(name, source, written, model.tensors);
      found.push({
        mistake: `${name} has other values in ${printable(basename(this.of.path))} than in the source: ${cause ?? `${differing.toLocaleString('en-US')} of ${values.length.toLocaleString('en-US')} differ`}`,
        tensors: [name],
        rmsLeft: 0,
        explainsAll: true,
      });
    }
    return found;
  }
}

type Named = readonly [role: string, name: string];

/** Values inside a block, fetched only where it is looked at. */
export function innerRoles(probes: BlockProbes): Named[] {
  const roles = ['scores', 'probabilities', 'context', 'projection', 'activation', 'mlp'] as const;
  return roles.flatMap((role) => (probes[role] === undefined ? [] : [[role, probes[role]] as const]));
}

function streamRoles(probes: BlockProbes): Record<string, string | undefined> {
  return {
    input: probes.input,
    ln1: probes.ln1.output,
    attended: probes.attended,
    ln2: probes.ln2.output,
    output: probes.output,
  };
}
