/**
 * The file's logits against other outputs: another export, or what another framework gave and somebody recorded.
 */
import { basename } from 'node:path';
import { FormatError, ShapeError, listNames, printable } from '../../errors.js';
import type { BeitModel } from '../../model.js';
import { NOISE_UNITS_ALLOWED, compareLogits } from '../compare.js';
import { openOnnxFile } from '../onnx-file.js';
import type { Check } from '../report.js';
import { reckon, runFile, type Input, type RunOptions } from '../run.js';
import { RuntimeRefusal } from '../runtime.js';
import { findEnds, type Ends } from './foreign-task.js';
import { units, type LogitsPair } from './logits.js';

/** What to compare with. */
export type Reference =
  | { readonly kind: 'onnx'; readonly path: string }
  | {
      readonly kind: 'recorded';
      /** file name, for the report */
      readonly name: string;
      /** `[n, C, H, W]`; absent: the outputs belong to the verification's own inputs, in their order */
      readonly inputs?: Float32Array;
      /** `[n, classes]`, any precision */
      readonly logits: Float32Array | Float64Array;
    };

export interface Subject {
  readonly path: string;
  readonly model: BeitModel;
  readonly ends: Ends;
  /** of the verification's own inputs */
  readonly pairs: readonly LogitsPair[];
  readonly inputs: readonly Input[];
}

interface Row {
  readonly name: string;
  readonly written: Float32Array;
  readonly other: Float64Array;
  readonly noise: number;
}

/** Both sides have float32 noise of their own. */
const TWO_SIDES = Math.SQRT2;

export async function checkAgainst(
  reference: Reference,
  subject: Subject,
  options: RunOptions,
): Promise<Check> {
  const name = printable(reference.kind === 'onnx' ? basename(reference.path) : reference.name);
  try {
    const rows =
      reference.kind === 'onnx'
        ? await otherExport(reference.path, subject, options)
        : await recorded(reference, subject, options);
    return verdict(name, rows);
  } catch (error) {
    if (!(error instanceof RuntimeRefusal) && !(error instanceof FormatError)) throw error;
    return { name: 'against', passed: false, detail: error.message, findings: [error.message] };
  }
}

async function otherExport(
  path: string,
  { model, pairs, inputs }: Subject,
  options: RunOptions,
): Promise<Row[]> {
  const file = await openOnnxFile(path);
  let ends: Ends | string;
  try {
    ends = findEnds(file, model.config);
  } finally {
    await file.close();
  }
  if (typeof ends === 'string')
    throw new FormatError(`${printable(basename(path))} does not take these inputs: ${ends}`);
  const { written } = await runFile(path, model, inputs, { ...options, ends });
  return pairs.map((pair, i) => ({
    name: pair.name,
    written: pair.written[0],
    other: Float64Array.from(written[i][0]),
    noise: pair.noise,
  }));
}

async function recorded(
  { name, inputs, logits }: Extract<Reference, { kind: 'recorded' }>,
  { path, model, ends, pairs }: Subject,
  options: RunOptions,
): Promise<Row[]> {
  const { channels, imageSize, classes } = model.config;
  const count = logits.length / classes;
  const each = channels * imageSize[0] * imageSize[1];
  if (!Number.isInteger(count) || count < 1) {
    throw new ShapeError(
      `${printable(name)} has ${logits.length} logits; this model gives ${classes} for every image`,
    );
  }
  const row = (i: number): Float64Array => Float64Array.from(logits.subarray(i * classes, (i + 1) * classes));
  if (!inputs) {
    if (count !== pairs.length) {
      throw new ShapeError(
        `${printable(name)} has logits of ${count} images and no inputs; the verification has ${pairs.length} inputs`,
        { next: 'Give the same pictures with --image, in the same order, or record the inputs too.' },
      );
    }
    return pairs.map((pair, i) => ({
      name: pair.name,
      written: pair.written[0],
      other: row(i),
      noise: pair.noise,
    }));
  }
  if (inputs.length !== count * each) {
    throw new ShapeError(
      `${printable(name)} has ${inputs.length} input values for ${count} images; this model takes ${channels}×${imageSize.join('×')} = ${each} for each`,
    );
  }
  const own = Array.from({ length: count }, (_, i) => ({
    name: `${name} #${i}`,
    pixels: inputs.subarray(i * each, (i + 1) * each),
  }));
  const { written } = await runFile(path, model, own, { ...options, ends });
  const reckoned = await reckon(model, own, options);
  return own.map((input, i) => ({
    name: input.name,
    written: written[i][0],
    other: row(i),
    noise: reckoned[i].noise,
  }));
}

function verdict(name: string, rows: readonly Row[]): Check {
  const compared = rows.map((row) => ({
    row,
    ...compareLogits(row.written, row.other, row.noise * TWO_SIDES),
  }));
  const bad = compared.filter(({ noiseUnits, top1 }) => !(noiseUnits <= NOISE_UNITS_ALLOWED) || !top1);
  const worst = compared.reduce((a, b) => (b.noiseUnits > a.noiseUnits ? b : a));
  const findings = bad.map(
    ({ row, noiseUnits, maxAbs, top1 }) =>
      `${printable(row.name)}: ${units(noiseUnits)} noise units from ${name} (max |difference| ${maxAbs.toExponential(1)})${top1 ? '' : ', another best class'}`,
  );
  const many = rows.length === 1 ? 'one input' : `${rows.length} inputs`;
  return {
    name: 'against',
    passed: bad.length === 0,
    detail:
      bad.length === 0
        ? `${name}, ${many}: ${units(worst.noiseUnits)} of ${NOISE_UNITS_ALLOWED} noise units allowed, max |difference| ${worst.maxAbs.toExponential(1)}`
        : `${bad.length} of ${many} differ from ${name}: ${listNames(
            bad.map(({ row }) => row.name),
            3,
          )}`,
    findings,
  };
}
