/**
 * A LayerNorm as a step, and how one goes wrong.
 */
import { layerNorm, type Values } from './arithmetic.js';
import { normNoise } from './noise-steps.js';
import type { Mistake, Step } from './step.js';
import type { Weights } from './weights.js';

export interface NormCase {
  readonly name: string;
  readonly of: Weights;
  /** canonical name without `.weight` */
  readonly tensor: string;
  readonly x: Values;
  readonly found: Float32Array;
  readonly affine: readonly [Values, Values];
}

/** Epsilons that implementations use where 1e-6 is right, and the other way round. */
const EPSILONS = [1e-12, 1e-5, 1e-6, 1e-8, 1e-7, 1e-3, 1e-4, 0];

export function normStep({ name, of, tensor, x, found, affine: [weight, bias] }: NormCase): Step {
  const { hiddenSize: width, layerNormEps: eps } = of.config;
  const right = layerNorm(x, width, { weight, bias, eps });
  const tensors = [`${tensor}.weight`, `${tensor}.bias`];
  return {
    name,
    tensors,
    found,
    right,
    noise: normNoise(x, right, width, weight, eps),
    *mistakes() {
      for (const other of EPSILONS) {
        if (other === eps) continue;
        yield {
          what: `epsilon is ${other} instead of ${eps}`,
          tensors: [],
          compute: () => layerNorm(x, width, { weight, bias, eps: other }),
        };
      }
      const make = (
        what: string,
        names: readonly string[],
        options: Partial<Parameters<typeof layerNorm>[2]>,
      ): Mistake => ({
        what,
        tensors: names,
        compute: () => layerNorm(x, width, { weight, bias, eps, ...options }),
      });
      yield make('the norm has no weight', tensors.slice(0, 1), { weight: undefined });
      yield make('the norm has no bias', tensors.slice(1), { bias: undefined });
      yield make('the norm has neither weight nor bias', tensors, { weight: undefined, bias: undefined });
      yield make('the mean is not taken off (RMSNorm)', [], { centred: false });
      yield { what: 'the norm is missing', tensors, compute: () => x };
      for (const other of neighbours(of, tensor)) {
        yield {
          what: `the norm has the weights of ${other.replace(/^backbone\./, '')}`,
          tensors: [...tensors, `${other}.weight`, `${other}.bias`],
          compute: async () =>
            layerNorm(x, width, {
              weight: await of.tensor(`${other}.weight`),
              bias: await of.tensor(`${other}.bias`),
              eps,
            }),
        };
      }
    },
  };
}

/** Every other norm of the model: all are of one width, so any could have been taken. */
function neighbours(of: Weights, tensor: string): string[] {
  return [...of.tensors.keys()]
    .filter((name) => /(^|\.)(ln[12]|norm|cls_pt_norm)\.weight$/.test(name))
    .map((name) => name.slice(0, -'.weight'.length))
    .filter((name) => name !== tensor);
}
