/**
 * A file that takes images of any size, at sizes that are not its own: against the reference of the weights resized
 * outside the graph.
 */
import { otherSizes, type DynamicMethod } from '../../dynamic-size.js';
import { UsageError } from '../../errors.js';
import type { BeitModel } from '../../model.js';
import type { PrecisionName } from '../../precision.js';
import type { Task } from '../../task.js';
import type { Check } from '../report.js';
import type { Ends } from './foreign-task.js';
import { runTask } from '../run-task.js';
import { makeInputs, type RunOptions } from '../run.js';
import { RuntimeRefusal } from '../runtime.js';
import { checkOutputs, type OutputPair } from './outputs.js';

/** The same weights at another image size, `[height, width]` in pixels, as the method has it. */
export type AtSize = (imageSize: readonly [number, number], method: DynamicMethod) => Promise<BeitModel>;

export interface SizesOptions extends RunOptions {
  readonly atSize: AtSize;
  readonly method: DynamicMethod;
  readonly task: Task;
  readonly precision: PrecisionName;
  /** where the graph takes one number of images per run only */
  readonly ends?: Ends;
}

/** @returns the check, and whether the file ran at every size: then only its numbers can be in doubt */
export async function checkSizes(
  path: string,
  model: BeitModel,
  options: SizesOptions,
): Promise<{ check: Check; ran: boolean }> {
  const sizes = otherSizes(model.config);
  const pairs: OutputPair[] = [];
  const findings: string[] = [];
  for (const size of sizes) {
    const name = size.join('×');
    try {
      const resized = await options.atSize(size, options.method);
      const inputs = makeInputs(resized, { samples: 1, seed: options.seed });
      const found = await runTask(path, resized, options.task, inputs, options);
      pairs.push(...found.pairs.map((pair) => ({ ...pair, name: `${pair.name} at ${name}` })));
    } catch (error) {
      // What the file says of itself need not be possible.
      if (!(error instanceof RuntimeRefusal || error instanceof UsageError)) throw error;
      findings.push(`at ${name}: ${error.message}`);
    }
  }
  const compared = pairs.length > 0 ? checkOutputs(pairs, options.precision).check : undefined;
  const ran = findings.length === 0;
  findings.push(...(compared?.findings ?? []));
  const detail = `${sizes.map((size) => size.join('×')).join(', ')} (${options.method}): ${compared?.detail ?? ''}`;
  const passed = findings.length === 0;
  return { ran, check: { name: 'sizes', passed, detail: passed ? detail : findings[0], findings } };
}
