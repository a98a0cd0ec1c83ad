/** `--layers` alone, without the checks before it: one run of the file instead of two. */
import type { BeitModel } from '../../src/model.js';
import type { PrecisionName } from '../../src/precision.js';
import type { Task } from '../../src/task.js';
import { checkLayers } from '../../src/verify/checks/layers.js';
import { openOnnxFile } from '../../src/verify/onnx-file.js';
import type { Check, LayersReport } from '../../src/verify/report.js';
import { makeInputs } from '../../src/verify/run.js';

export interface LayersOf {
  readonly task?: Task;
  readonly precision?: PrecisionName;
  /** what the other checks would have found */
  readonly wrong?: boolean;
  readonly altered?: boolean;
}

export async function layersOf(
  path: string,
  model: BeitModel,
  { task = { name: 'classify' }, precision = 'fp32', wrong = true, altered = false }: LayersOf = {},
): Promise<{ check: Check; report: LayersReport }> {
  const file = await openOnnxFile(path);
  try {
    const inputs = makeInputs(model, { samples: 2 });
    const ends = { input: 'pixel_values', output: 'logits' };
    const options = { task, precision, ends, wrong, altered, unexplained: [] };
    const { check, report } = await checkLayers(path, file, model, inputs, options);
    return { check, report: report! };
  } finally {
    await file.close();
  }
}
