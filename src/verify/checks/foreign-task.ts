/**
 * What a file of another tool is for, and which of its ports are which. Names say nothing; the checkpoint says what can
 * be asked of it, the first output which of that the file gives, and shapes do the rest as far as they are stated.
 */
import { tokenCount, type BeitConfig } from '../../beit.js';
import { listNames, printable } from '../../errors.js';
import { FEATURE_TAPS, resolveTask, taskOutputs, type FeatureOutput, type Task } from '../../task.js';
import { statesInGraph, tapsInGraph } from '../layers/states.js';
import type { OnnxFile, OnnxPort } from '../onnx-file.js';
import type { MaskType } from '../runtime-child.js';

/** Where pixels go in and outputs come out. */
export interface Ends {
  readonly input: string;
  /** the first one */
  readonly output: string;
  /** default: all, by the names that the task has for them */
  readonly outputs?: readonly string[];
  /** of hidden patches; default: as the task calls it */
  readonly mask?: string;
  /** default `bool` */
  readonly maskType?: MaskType;
  /** a masked-image model that was exported without its mask: nothing is hidden */
  readonly unmasked?: true;
  /** images per run, where the graph takes one number only */
  readonly batch?: number;
}

export interface Recognised {
  readonly task: Task;
  readonly ends: Ends;
  /** outputs of the file that nothing of the checkpoint was found for */
  readonly left: readonly string[];
}

type Sides = readonly (number | null)[];

const FLOAT = 1;
const FLOATS: ReadonlyMap<number | undefined, unknown> = new Map([[FLOAT, 'float32']]);
/** TensorProto.DataType of what may hold booleans. */
const MASK_TYPES: ReadonlyMap<number | undefined, MaskType> = new Map([
  [FLOAT, 'float32'],
  [2, 'uint8'],
  [6, 'int32'],
  [7, 'int64'],
  [9, 'bool'],
]);

/** @returns one sentence why not */
export function recognise(file: OnnxFile, config: BeitConfig): Recognised | string {
  const { channels, imageSize, window } = config;
  const inputs = file.inputs.filter(({ name }) => !file.initializers.has(name));
  const images = inputs.filter((port) => fits(port, [null, channels, ...imageSize]));
  const others = inputs.filter((port) => !images.includes(port));
  const masks = others.filter((port) => fits(port, [null, window[0] * window[1]], MASK_TYPES));
  const masked = masks.length === 1 && config.kind === 'pre-training';
  if (images.length !== 1 || others.length !== Number(masked)) {
    const image = `one float32 [batch, ${channels}, ${imageSize.join(', ')}]`;
    const mask = `, and of a pre-training model one of booleans [batch, ${window[0] * window[1]}]`;
    return `the graph has the inputs ${describe(inputs)}; needed is ${image}${config.kind === 'pre-training' ? mask : ''}`;
  }
  const own = ownTask(file, config, masked);
  const found = own ?? (masked ? undefined : features(file, config));
  if (!found) {
    return `the graph has the outputs ${describe(file.outputs)}; needed is ${neededOutputs(config)}`;
  }
  const batch = images[0].shape?.[0];
  const { task, outputs } = found;
  return {
    task,
    ends: {
      input: images[0].name,
      output: outputs[0],
      outputs,
      ...(masked
        ? { mask: masks[0].name, maskType: MASK_TYPES.get(masks[0].dataType) }
        : task.name === 'masked-image' && { unmasked: true }),
      ...(typeof batch === 'number' && { batch }),
    },
    left: file.outputs.map(({ name }) => name).filter((name) => !outputs.includes(name)),
  };
}

/** Of a classifier, the ends only. */
export function findEnds(file: OnnxFile, config: BeitConfig): Ends | string {
  const found = recognise(file, config);
  if (typeof found === 'string') return found;
  if (found.task.name === 'classify') return found.ends;
  return `the graph has the outputs ${describe(file.outputs)}; needed is ${neededOutputs(config)}`;
}

/** `features: last_hidden_state, pooler_output; not compared: …`; nothing for a classifier. */
export function whatItGives({ task, ends, left }: Recognised): string {
  const rest =
    left.length === 0
      ? ''
      : `; not compared, as nothing tells what they are: ${listNames(left.map((name) => printable(name)))}`;
  if (task.name === 'classify') return rest;
  const taps = task.name === 'segment' ? ` of the tokens after ${task.taps.join(', ')} blocks` : '';
  return `; ${task.name}${taps}: ${listNames((ends.outputs ?? []).map((name) => printable(name)))}${rest}`;
}

interface Found {
  readonly task: Task;
  /** the file's, in the order of the task's */
  readonly outputs: readonly string[];
}

/** What the head of the checkpoint gives. */
function ownTask(file: OnnxFile, config: BeitConfig, masked: boolean): Found | undefined {
  const [first] = file.outputs;
  if (config.kind === 'segmentation') return segmentation(file, config);
  if (config.kind === 'pre-training') return maskedImage(file, config, masked);
  if (config.kind !== 'classification') return undefined;
  const sides = [null, config.classes];
  // Where shapes say nothing, a classifier's first output is its logits.
  const logits = file.outputs.find((port) => states(port, sides)) ?? (fits(first, sides) ? first : undefined);
  return logits && { task: { name: 'classify' }, outputs: [logits.name] };
}

/** Without a mask it could be features: then the size of the vocabulary must be stated. */
function maskedImage(file: OnnxFile, config: BeitConfig, masked: boolean): Found | undefined {
  const task: Task = { name: 'masked-image' };
  const outputs: string[] = [];
  for (const { shape } of taskOutputs(config, task)) {
    const port = file.outputs.find(
      (each) =>
        !outputs.includes(each.name) &&
        fits(each, [null, ...shape]) &&
        (masked || each.shape?.at(-1) === config.vocabulary),
    );
    if (!port) return undefined;
    outputs.push(port.name);
  }
  return { task, outputs };
}

/**
 * Tokens, their mean or class token, a map: the first of each kind is that of the last block. Further tokens could be of
 * any block: they are those that the graph takes them from.
 */
function features(file: OnnxFile, config: BeitConfig): Found | undefined {
  const { hiddenSize: E, window, depth, tokenNorm, pooledNorm } = config;
  const kinds: (Omit<FeatureOutput, 'name' | 'layer'> & { readonly sides: Sides })[] = [
    { type: 'raw', finalNorm: tokenNorm, sides: [null, tokenCount(config), E] },
    ...(pooledNorm
      ? [{ type: 'avg_featmap' as const, finalNorm: tokenNorm, sides: [null, E] }]
      : config.classToken
        ? [{ type: 'cls_token' as const, finalNorm: tokenNorm, sides: [null, E] }]
        : []),
    { type: 'featmap', finalNorm: tokenNorm, sides: [null, E, ...window] },
  ];
  const outputs: FeatureOutput[] = [];
  const [{ sides: ofTokens }] = kinds;
  const states = statesInGraph(
    file,
    file.outputs.map(({ name }) => name),
  );
  for (const port of file.outputs) {
    const { name } = port;
    const at = kinds.findIndex(({ sides }) => fits(port, sides));
    const state = states.get(name) ?? 0;
    if (at >= 0) {
      const [{ type, finalNorm }] = kinds.splice(at, 1);
      outputs.push({ name, layer: depth - 1, type, finalNorm });
    } else if (fits(port, ofTokens) && state >= 1 && state <= depth)
      outputs.push({ name, layer: state - 1, type: 'raw', finalNorm: false });
  }
  if (outputs.length === 0) return undefined;
  return { task: { name: 'features', outputs }, outputs: outputs.map(({ name }) => name) };
}

/**
 * transformers takes the tokens of other blocks than unilm does for the same weights: what the graph takes tells which of
 * both it follows, or nearly follows, so that a map of the wrong tokens shows.
 */
function segmentation(file: OnnxFile, config: BeitConfig): Found | undefined {
  const { classes, window, imageSize } = config;
  const quarter = [null, classes, 4 * window[0], 4 * window[1]];
  const whole = [null, classes, ...imageSize];
  const port = file.outputs.find((each) => fits(each, quarter) || fits(each, whole));
  if (!port) return undefined;
  const upsample = !fits(port, quarter);
  const taken = tapsInGraph(file, config);
  const tasks = FEATURE_TAPS.flatMap((featureTaps) => {
    try {
      return [resolveTask(config, { task: 'segment', featureTaps, upsample })];
    } catch {
      return [];
    }
  });
  const agreeing = (task: Task): number =>
    task.name === 'segment' ? task.taps.filter((tap, i) => tap === taken?.[i]).length : 0;
  const [task = asTaken(taken, upsample)] = tasks.sort((a, b) => agreeing(b) - agreeing(a));
  return task && { task, outputs: [port.name] };
}

/** Where nothing says which blocks were meant. */
function asTaken(taken: readonly number[] | undefined, upsample: boolean): Task | undefined {
  if (taken?.length !== 4) return undefined;
  const [a, b, c, d] = taken;
  return { name: 'segment', taps: [a, b, c, d], upsample };
}

function neededOutputs(config: BeitConfig): string {
  const { hiddenSize: E, classes, window, vocabulary } = config;
  const tokens = `one float32 [batch, ${tokenCount(config)}, ${E}] or [batch, ${E}]`;
  if (config.kind === 'pre-training')
    return `one float32 [batch, ${window[0] * window[1]}, ${vocabulary}] (or, without a mask, ${tokens} of its features)`;
  if (config.kind === 'classification')
    return `one float32 [batch, ${classes}] (or ${tokens} of its features)`;
  if (config.kind === 'segmentation')
    return `one float32 [batch, ${classes}, ${4 * window[0]}, ${4 * window[1]}] or [batch, ${classes}, ${config.imageSize.join(', ')}]`;
  return tokens;
}

/** What a port leaves open fits; what it states must be right. */
function fits({ dataType, shape }: Omit<OnnxPort, 'name'>, wanted: Sides, types = FLOATS): boolean {
  if (!types.has(dataType)) return false;
  if (!shape) return true;
  return (
    shape.length === wanted.length &&
    shape.every((side, i) => wanted[i] === null || typeof side !== 'number' || side === wanted[i])
  );
}

function states(port: OnnxPort, wanted: Sides): boolean {
  return (
    fits(port, wanted) && port.shape?.every((side, i) => wanted[i] === null || side === wanted[i]) === true
  );
}

function describe(ports: readonly OnnxPort[]): string {
  const one = ({ name, shape }: OnnxPort): string =>
    `${printable(name)} [${shape?.map((side) => side ?? '?').join(', ') ?? 'no shape'}]`;
  return listNames(ports.map(one)) || '(none)';
}
