/**
 * A weights file that was written, read back by the same readers that read anybody's, and held against the source.
 */
import { LayoutError, ConvertBeitError, printable } from '../../errors.js';
import { describeTensor, type StateDict, type Tensor } from '../../tensor.js';
import { compareTensors } from '../compare.js';
import { applyLayout, type AppliedLayout } from '../layout.js';
import { loadModel } from '../load.js';
import { openCheckpoint } from '../open.js';
import type { BeitModel } from '../../model.js';
import type { Expressed } from './express.js';

/** One check, in the shape of a parity report's. */
export interface WeightsCheck {
  readonly name: 'structure' | 'inventory' | 'provenance';
  readonly passed: boolean;
  /** one sentence */
  readonly detail: string;
  /** everything that is wrong, one sentence each */
  readonly findings: readonly string[];
  /** an earlier one failed */
  readonly notRun?: true;
}

export interface CheckWeightsOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * Read a written file and compare every tensor, bit for bit, with what it was made from.
 *
 * @param path file, or the folder of a model for transformers, whose `config.json` is held against the model's too
 */
export async function checkWeights(
  path: string,
  model: BeitModel,
  expressed: Expressed,
  options: CheckWeightsOptions & { readonly folder?: boolean } = {},
): Promise<WeightsCheck[]> {
  const { layout } = expressed;
  try {
    if (options.folder && expressed.dropped.length === 0) await checkConfig(path, model, expressed);
    const checkpoint = await openCheckpoint(path);
    try {
      const applied = applyLayout(layout, checkpoint.tensors);
      const structure = passed(
        'structure',
        `opens as ${checkpoint.container}, every name is one of ${layout.name}'s`,
      );
      return [structure, ...(await compareAll(applied, expressed, options))];
    } finally {
      await checkpoint.close();
    }
  } catch (error) {
    if (!(error instanceof ConvertBeitError)) throw error;
    return [
      failed('structure', [error.message]),
      { name: 'inventory', passed: false, detail: 'not run', findings: [], notRun: true },
      { name: 'provenance', passed: false, detail: 'not run', findings: [], notRun: true },
    ];
  }
}

/** The folder, opened as a stranger's, must be this model. */
async function checkConfig(folder: string, model: BeitModel, expressed: Expressed): Promise<void> {
  const again = await loadModel(folder, { layout: expressed.layout.name });
  await again.close();
  // transformers has biases of q and v where the source has one of all three.
  const wanted = { ...model.config, qvBias: model.config.qvBias || model.config.qkvBias, qkvBias: false };
  const odd = Object.keys(wanted).filter(
    (field) =>
      JSON.stringify(wanted[field as keyof typeof wanted]) !==
      JSON.stringify(again.config[field as keyof typeof wanted]),
  );
  if (odd.length > 0)
    throw new LayoutError(`config.json gives another ${odd.join(', ')} than the source has`);
}

async function compareAll(
  applied: AppliedLayout,
  expressed: Expressed,
  options: CheckWeightsOptions,
): Promise<WeightsCheck[]> {
  const found = new Map(applied.tensors);
  for (const [canonical, name] of applied.bufferNames) found.set(canonical, applied.buffers.get(name)!);
  const wanted: StateDict = new Map([...expressed.weights, ...expressed.buffers]);
  const wrong = inventoryFindings(found, wanted);
  const count = `${expressed.weights.size} weights${expressed.buffers.size > 0 ? ` and ${expressed.buffers.size} index buffers` : ''}`;
  const inventory =
    wrong.length === 0 ? passed('inventory', `${count}, all there`) : failed('inventory', wrong);
  const different: string[] = [];
  let done = 0;
  for (const [name, tensor] of wanted) {
    const written = found.get(name);
    if (written && describeTensor(written) === describeTensor(tensor)) {
      const difference = await compareTensors(tensor, written, options.signal);
      if (difference) {
        different.push(
          `${printable(name)}: ${difference.differing.toLocaleString('en-US')} elements differ, by up to ${String(difference.maxAbs)}`,
        );
      }
    }
    options.onProgress?.(++done, wanted.size);
  }
  const provenance =
    different.length === 0
      ? passed('provenance', `read back, every bit is the source's`)
      : failed('provenance', different);
  return [inventory, provenance];
}

function inventoryFindings(found: StateDict, wanted: StateDict): string[] {
  const describe = (tensor: Tensor | undefined): string => (tensor ? describeTensor(tensor) : 'absent');
  const names = new Set([...wanted.keys(), ...found.keys()]);
  return [...names]
    .filter((name) => describe(found.get(name)) !== describe(wanted.get(name)))
    .map(
      (name) => `${printable(name)} is ${describe(found.get(name))}; needed: ${describe(wanted.get(name))}`,
    );
}

function passed(name: WeightsCheck['name'], detail: string): WeightsCheck {
  return { name, passed: true, detail, findings: [] };
}

function failed(name: WeightsCheck['name'], findings: readonly string[]): WeightsCheck {
  const [first] = findings;
  const detail = findings.length === 1 ? first : `${first}, and ${findings.length - 1} more findings`;
  return { name, passed: false, detail, findings };
}
