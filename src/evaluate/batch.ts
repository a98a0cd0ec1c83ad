/**
 * A full batch of pictures → their records.
 */
import { basename } from 'node:path';
import { FormatError, printable } from '../errors.js';
import type { Preprocessing } from '../image.js';
import type { Item } from './dataset.js';
import { topClasses } from './predict.js';
import type { ImageRecord, TopRecord } from './records.js';
import type { ModelSession } from './session.js';

/** A classifier's file and how it is fed. */
export interface Classifier {
  readonly path: string;
  readonly bytes: number;
  readonly sha256: string;
  /** of the weights beside it */
  readonly dataSha256?: string;
  /** names of the graph's input and of its output of class scores */
  readonly input: string;
  readonly output: string;
  readonly classes: number;
  /** `[C, H, W]` of one picture */
  readonly shape: readonly [number, number, number];
  /** pictures per run, where the graph leaves no choice */
  readonly fixedBatch?: number;
  readonly labels?: readonly string[];
  readonly preprocessing: Preprocessing;
}

export interface Place extends Item {
  /** in the data set, from 0 */
  readonly i: number;
  readonly path: string;
  readonly shown: string;
}

export interface Ready {
  readonly place: Place;
  readonly pixels: readonly Float32Array[];
}

const BEST = 5;

/** A record's first part. */
export function commonPart(
  { i, image, className }: Place,
  numbers: ReadonlyMap<string, number>,
): Pick<ImageRecord, 'i' | 'image' | 'class'> {
  return { i, image, ...(className !== undefined && { class: numbers.get(className)! }) };
}

function topRecord(scores: Float32Array): TopRecord {
  const best = topClasses(scores, Math.min(BEST, scores.length));
  return {
    top: best.map((each) => each.class),
    p: best.map(({ probability }) => Number(probability.toFixed(6))),
  };
}

/**
 * Batches are always full: with fewer pictures zeros follow. ONNX Runtime may sum in another order for another batch size,
 * and no result may depend on where a run was cut.
 */
export async function evaluateBatch(
  ready: readonly Ready[],
  models: readonly Classifier[],
  sessions: readonly ModelSession[],
  kinds: readonly number[],
  batch: number,
  numbers: ReadonlyMap<string, number>,
): Promise<ImageRecord[]> {
  const scores = await Promise.all(
    models.map(async ({ shape, classes, path }, m) => {
      const stride = shape.reduce((product, side) => product * side, 1);
      const stacked = new Float32Array(batch * stride);
      ready.forEach(({ pixels }, row) => stacked.set(pixels[kinds[m]], row * stride));
      const { data } = await sessions[m].run(stacked, [batch, ...shape]);
      if (data.length !== batch * classes) {
        throw new FormatError(
          `${printable(basename(path))} gives ${data.length} scores for ${batch} pictures; ${batch}×${classes} are needed`,
        );
      }
      return data;
    }),
  );
  return ready.map(({ place }, row) => {
    const [own, other] = scores.map((data, m) =>
      data.subarray(row * models[m].classes, (row + 1) * models[m].classes),
    );
    return {
      ...commonPart(place, numbers),
      ...topRecord(own),
      ...((other as Float32Array | undefined) && {
        other: topRecord(other),
        difference: largestDifference(own, other),
      }),
    };
  });
}

/** To three figures. */
function largestDifference(a: Float32Array, b: Float32Array): number {
  let most = 0;
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs(a[i] - b[i]);
    if (difference > most) most = difference;
  }
  return Number(most.toPrecision(3));
}
