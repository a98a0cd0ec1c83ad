/** The gate of masked-image models: what every patch chooses, besides how near the numbers are. */
import { describe, expect, it } from 'vitest';
import { checkOutputs } from '../../src/verify/checks/outputs.js';
import { isWithin, outputColumns, outputRows } from '../../src/verify/report/facts.js';
import { gaussian } from './oracle-model.js';

const PLACES = 2000;
const CHOICES = 40;

/** Logits of many places; the errors are `error` standard deviations, the best choices of some places change places. */
function pair(changed: number, gap: number, rank = 0) {
  const next = gaussian(3);
  const oracle = Float64Array.from({ length: PLACES * CHOICES }, next);
  const written = Float32Array.from(oracle);
  for (let place = 0; place < changed * PLACES; place++) {
    const row = oracle.subarray(place * CHOICES, (place + 1) * CHOICES);
    const order = [...row.keys()].sort((a, b) => row[b] - row[a]);
    const [better, worse] = [order[rank], order[rank + 1]];
    // Made so by hand: one is `gap` better by the source, and by the file the other one.
    for (const above of order.slice(0, rank)) {
      row[above] += 3 * gap;
      written[place * CHOICES + above] = row[above];
    }
    row[better] = row[worse] + gap;
    written[place * CHOICES + better] = row[worse];
    written[place * CHOICES + worse] = row[better];
  }
  return {
    name: 'logits',
    shape: [PLACES, CHOICES],
    inputs: ['seed 0 #0'],
    written,
    oracle,
    noise: 1e-7,
    choices: CHOICES,
  };
}

describe('choices of the places', () => {
  it.each([
    ['all the same', 0, 0, 0, 'fp16', 1, 1, []],
    ['ties', 0.5, 0.01, 0, 'fp16', 1, 1, []],
    [
      'another best choice in one place of a hundred',
      0.01,
      0.04,
      0,
      'fp16',
      0.99,
      1,
      ['logits: 99 % of the places make the same best choice; 99.9 % must'],
    ],
    ['as many in q8', 0.01, 0.4, 0, 'q8', 0.99, 1, []],
    [
      'twice as many in q8',
      0.02,
      0.4,
      0,
      'q8',
      0.98,
      1,
      ['logits: 98 % of the places make the same best choice; 99 % must'],
    ],
    [
      'another fifth choice',
      0.02,
      0.4,
      4,
      'int8',
      1,
      0.98,
      ['logits: 98 % of the places have the same five best choices; 99 % must'],
    ],
    ['q4 may lose more', 0.04, 1.6, 0, 'q4', 0.96, 1, []],
    [
      'but not everything',
      0.06,
      1.6,
      0,
      'q4f16',
      0.94,
      1,
      ['logits: 94 % of the places make the same best choice; 95 % must'],
    ],
  ] as const)('%s', (_, changed, gap, rank, precision, top1, top5, findings) => {
    const { check, outputs } = checkOutputs([pair(changed, gap, rank)], precision);
    expect(check.findings).toEqual(findings);
    expect(check.passed).toBe(findings.length === 0);
    expect(outputs[0]).toMatchObject({ top1Agreement: top1, top5Agreement: top5 });
    // What the report's table shows and judges.
    expect(isWithin(outputs[0])).toBe(check.passed);
    const shown = outputColumns(outputs).findIndex(({ title }) => title === 'top-1, top-5');
    const row = outputRows(outputs)[0];
    const percent = (share: number): string => `${Number((100 * share).toFixed(1))} %`;
    expect(row[shown]).toBe(`${percent(top1)}, ${percent(top5)}`);
    expect(row).toHaveLength(outputColumns(outputs).length);
    if (check.passed) expect(check.detail).toMatch(/of the places choose the same$/);
  });

  it('nothing is said where nothing is chosen', () => {
    const { outputs, check } = checkOutputs([{ ...pair(0, 0), choices: undefined }], 'fp16');
    expect(outputs[0]).not.toHaveProperty('top1Agreement');
    expect(check.detail).not.toContain('places');
    expect(outputRows(outputs)[0]).toHaveLength(outputColumns(outputs).length);
  });
});
