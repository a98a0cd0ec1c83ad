/**
 * The steps of one place of a graph, from the values that the file gives there.
 */
import { basename } from 'node:path';
import { printable } from '../../errors.js';
import { tokenCount } from '../../beit.js';
import type { BeitModel } from '../../model.js';
import { asFloat32, byteLength, readFloat32 } from '../../tensor.js';
import { explainDifference } from '../checks/difference.js';
import type { OnnxFile } from '../onnx-file.js';
import type { BlockProbes, Probes } from './probes.js';
import type { BlockCase, BlockValues } from './block-case.js';
import { attentionSteps } from './steps-attention.js';
import { embeddingStep } from './steps-embedding.js';
import { headStep, poolingStep } from './steps-ends.js';
import { mlpSteps } from './steps-mlp.js';
import { normStep } from './steps-norm.js';
import type { Step, StepName, Suspect } from './step.js';
import { Weights } from './weights.js';

/** The two ends, and the blocks between them. */
export type Place =
  { readonly kind: 'start' } | { readonly kind: 'block'; readonly layer: number } | { readonly kind: 'end' };

export interface GraphCase {
  readonly path: string;
  readonly file: OnnxFile;
  readonly model: BeitModel;
  readonly probes: Probes;
  readonly pixels: Float32Array;
  readonly images: number;
  readonly wrong: boolean;
  readonly threads?: number;
  readonly signal?: AbortSignal;
}

/** A mistake that the graph itself shows, without any numbers. */
export interface GraphFinding {
  readonly step: StepName;
  readonly tensors: readonly string[];
  readonly mistake: string;
}

/** Tensors above this are not read as a whole to see whether the file has other values. */
const MOST_BYTES = 64 * 1024 * 1024;

export class GraphReader {
  readonly #weights: Weights;
  readonly #norm: string;

  constructor(
    private readonly of: GraphCase,
    private readonly fetch: (names: readonly string[]) => Promise<Map<string, Float32Array>>,
    /** fetched already */
    private readonly known: ReadonlyMap<string, Float32Array>,
  ) {
    this.#weights = new Weights(of.model.config, of.model.tensors);
    this.#norm = of.model.config.pooling === 'mean' ? 'backbone.ln2' : 'backbone.ln1';
  }

  async *steps(place: Place): AsyncGenerator<Step> {
    const { probes, pixels, images, model } = this.of;
    if (place.kind === 'start') {
      const found = this.known.get(probes.blocks[0].input)!;
      const step = await embeddingStep({ weights: this.#weights, images, pixels, found });
      if (step) yield step;
    } else if (place.kind === 'block') {
      const block = await this.#block(place.layer);
      yield* attentionSteps(block);
      yield* mlpSteps(block);
    } else {
      const last = await this.#block(model.config.depth - 1);
      const into = this.known.get(probes.final.input)!;
      const features = this.known.get(probes.final.output)!;
      const pooling = poolingStep(last, into);
      if (pooling) yield pooling;
      const affine = [
        await this.#weights.tensor(`${this.#norm}.weight`),
        await this.#weights.tensor(`${this.#norm}.bias`),
      ] as const;
      yield normStep({
        name: 'last norm',
        of: this.#weights,
        tensor: this.#norm,
        x: Float64Array.from(into),
        found: features,
        affine,
      });
      const logits = this.known.get(probes.logits)!;
      const head = await headStep({ weights: this.#weights, images, features, found: logits });
      if (head) yield head;
    }
  }

  async #block(layer: number): Promise<BlockCase> {
    const { config } = this.of.model;
    const probes = this.of.probes.blocks[layer];
    const inner = (['scores', 'probabilities', 'context', 'projection', 'activation', 'mlp'] as const).filter(
      (role) => probes[role] !== undefined,
    );
    const fetched = await this.fetch(inner.map((role) => probes[role]!));
    const values: Record<string, Float32Array> = {};
    for (const role of inner) values[role] = fetched.get(probes[role]!)!;
    for (const [role, name] of Object.entries(streamRoles(probes))) {
      const value = name === undefined ? undefined : this.known.get(name);
      if (value) values[role] = value;
    }
    return {
      config,
      images: this.of.images,
      block: await this.#weights.block(layer),
      weights: this.#weights,
      values: values as BlockValues,
    };
  }

  /** What the graph shows where the numbers may not. */
  finding(place: Place): GraphFinding | undefined {
    const { config } = this.of.model;
    const { blocks, final } = this.of.probes;
    const eps = Math.fround(config.layerNormEps);
    const norms =
      place.kind === 'block'
        ? ([
            ['LN1', blocks[place.layer].ln1, `backbone.layers.${place.layer}.ln1`],
            ['LN2', blocks[place.layer].ln2, `backbone.layers.${place.layer}.ln2`],
          ] as const)
        : place.kind === 'end'
          ? ([['last norm', final, this.#norm]] as const)
          : [];
    for (const [step, norm] of norms) {
      if (norm.epsilon === undefined || norm.epsilon === eps) continue;
      return {
        step,
        tensors: [],
        mistake: `epsilon is ${Number(norm.epsilon.toPrecision(6))} instead of ${config.layerNormEps}`,
      };
    }
    if (place.kind === 'end' && config.pooling === 'mean') {
      const rows = this.known.get(final.input)!.length / (this.of.images * config.hiddenSize);
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
  async alteredTensors(step: Step): Promise<Suspect[]> {
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

function streamRoles(probes: BlockProbes): Record<string, string | undefined> {
  return {
    input: probes.input,
    ln1: probes.ln1.output,
    attended: probes.attended,
    ln2: probes.ln2.output,
    output: probes.output,
  };
}
