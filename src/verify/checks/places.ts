/**
 * What a segmentation sees in a picture: the best class of every place that was compared, by the file and by the oracle.
 */
import { NOISE_UNITS_ALLOWED } from '../compare.js';
import type { ClassShare, PlacesParity } from '../report.js';
import type { OutputPair } from './outputs.js';

const MOST_CLASSES = 5;

/**
 * @param pair  a map `[K, H, W]`, or some places of it
 * @param image number of the input
 */
export function comparePlaces(
  { shape: [classes], inputs, written, oracle, noise }: OutputPair,
  image: number,
  labels?: readonly string[],
): PlacesParity {
  const each = oracle.length / inputs.length;
  const places = each / classes;
  const at = (k: number, place: number): number => image * each + k * places + place;
  const bestOf = (values: ArrayLike<number>, place: number): number => {
    let best = 0;
    for (let k = 1; k < classes; k++) if (values[at(k, place)] > values[at(best, place)]) best = k;
    return best;
  };
  // As for logits: what is as good as the best within the noise is no other answer.
  const tie = 2 * NOISE_UNITS_ALLOWED * noise;
  const seen = { written: new Map<number, number>(), oracle: new Map<number, number>() };
  let same = 0;
  for (let place = 0; place < places; place++) {
    const [ours, theirs] = [bestOf(written, place), bestOf(oracle, place)];
    if (oracle[at(ours, place)] >= oracle[at(theirs, place)] - tie) same += 1;
    seen.written.set(ours, (seen.written.get(ours) ?? 0) + 1);
    seen.oracle.set(theirs, (seen.oracle.get(theirs) ?? 0) + 1);
  }
  const shares = (counts: ReadonlyMap<number, number>): ClassShare[] =>
    [...counts]
      .sort(([a, many], [b, more]) => more - many || a - b)
      .slice(0, MOST_CLASSES)
      .map(([index, count]) => ({
        class: index,
        ...(labels?.[index] !== undefined && { label: labels[index] }),
        share: count / places,
      }));
  return { compared: places, same, written: shares(seen.written), oracle: shares(seen.oracle) };
}
