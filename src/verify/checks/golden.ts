/**
 * The file's logits against values that were published for its weights and one named picture.
 */
import { printable } from '../../errors.js';
import type { BeitModel } from '../../model.js';
import { best } from '../compare.js';
import type { Check } from '../report.js';
import { reckon, runFile, type Input, type RunOptions } from '../run.js';
import { RuntimeRefusal } from '../runtime.js';
import type { Ends } from './foreign-task.js';

export interface GoldenValues {
  /** of the checkpoint they were published for */
  readonly checkpoint: string;
  /** what the picture is called where it was published */
  readonly picture: string;
  /** the first logits */
  readonly first: readonly number[];
  readonly argmax: number;
  readonly tolerance: number;
  /** the person's copy of the picture, preprocessed as the publisher did */
  readonly input: Input;
}

export async function checkGolden(
  golden: GoldenValues,
  { path, model, ends }: { path: string; model: BeitModel; ends: Ends },
  options: RunOptions,
): Promise<Check> {
  try {
    const { written } = await runFile(path, model, [golden.input], { ...options, ends });
    const [{ oracle }] = await reckon(model, [golden.input], options);
    return verdict(golden, written[0][0], oracle);
  } catch (error) {
    if (!(error instanceof RuntimeRefusal)) throw error;
    return { name: 'golden', passed: false, detail: error.message, findings: [error.message] };
  }
}

function verdict(golden: GoldenValues, written: Float32Array, oracle: Float64Array): Check {
  const { checkpoint, picture, first, argmax, tolerance, input } = golden;
  const error = (values: ArrayLike<number>): number =>
    Math.max(...first.map((value, i) => Math.abs(values[i] - value)));
  const found = best(written, 1)[0];
  const off = error(written);
  const passed = off <= tolerance && found === argmax;
  if (passed) {
    return {
      name: 'golden',
      passed,
      detail: `published values of ${checkpoint} on ${picture}: logits within ${off.toExponential(1)} (${tolerance} allowed), class ${argmax}`,
      findings: [],
    };
  }
  const values = (of: ArrayLike<number>): string => first.map((_, i) => of[i].toFixed(4)).join(', ');
  const findings = [
    `published for ${checkpoint} on ${picture}: ${first.map((value) => value.toFixed(4)).join(', ')}, class ${argmax}`,
    `the file gives ${values(written)}, class ${found} for ${printable(input.name)}`,
    error(oracle) <= tolerance
      ? 'the weights give the published values: the file does not'
      : `the weights give ${values(oracle)}: either they are not those of ${checkpoint}, or the picture is not ${picture}`,
  ];
  return {
    name: 'golden',
    passed,
    detail: `the published values are not reached: off by ${off.toExponential(1)}`,
    findings,
  };
}
