/**
 * Class scores as predictions.
 */

export interface TopClass {
  readonly class: number;
  /** softmax */
  readonly probability: number;
  readonly logit: number;
}

/**
 * The `count` best classes of one picture, best first; of equal ones the lower number first.
 *
 * @returns nothing where a score is not a finite number
 */
export function topClasses(logits: Float32Array, count: number): TopClass[] {
  if (!logits.every(Number.isFinite)) return [];
  const largest = logits.reduce((most, value) => Math.max(most, value), -Infinity);
  const sum = logits.reduce((total, value) => total + Math.exp(value - largest), 0);
  const best: number[] = [];
  for (let i = 0; i < logits.length; i++) {
    if (best.length === count && logits[i] <= logits[best[count - 1]]) continue;
    let at = Math.min(best.length, count - 1);
    while (at > 0 && logits[best[at - 1]] < logits[i]) at -= 1;
    best.splice(at, 0, i);
    best.length = Math.min(best.length, count);
  }
  return best.map((i) => ({
    class: i,
    probability: Math.exp(logits[i] - largest) / sum,
    logit: logits[i],
  }));
}
