import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadModel } from '../../src/convert/load.js';
import { openCheckpoint } from '../../src/convert/open.js';
import type { BeitModel } from '../../src/model.js';
import { readFloat64, type StateDict } from '../../src/tensor.js';
import { runOracle, type OracleResult } from '../../src/verify/oracle.js';
import { positionRow } from '../../src/verify/position.js';
import { GOLDEN_CASES, GOLDEN_HINTS, goldenConfig, goldenPath } from '../convert/goldens.js';
import { difference, largest, rms } from './oracle-model.js';

/** Upstream's own float32 run against its float64 run, in units of the estimate; see noise.ts. */
const LEAST_NOISE = 0.1;
const MOST_NOISE = 4;

describe.each(GOLDEN_CASES)('%s', (name) => {
  let model: BeitModel;
  let golden: StateDict;
  let result: OracleResult;
  let close: () => Promise<void>;
  const read = async (tensor: string): Promise<Float64Array> => readFloat64(golden.get(tensor)!);

  beforeAll(async () => {
    model = await loadModel(goldenPath(name, 'official.safetensors'), { hints: GOLDEN_HINTS.get(name) });
    const io = await openCheckpoint(goldenPath(name, 'io.safetensors'));
    golden = io.tensors;
    close = async () => {
      await io.close();
      await model.close();
    };
    const batch = golden.get('input')!.shape[0];
    result = await runOracle(model, await read('input'), batch, { hidden: true });
  });
  afterAll(() => close());

  it.each([
    ['logits', 'logits_f64'],
    ['features', 'features_f64'],
  ] as const)('%s are upstream’s in float64', async (output, tensor) => {
    expect(largest(difference(result[output], await read(tensor)))).toBeLessThan(1e-13);
  });

  it('hidden states are upstream’s, to float32', async () => {
    expect(result.hidden).toHaveLength(goldenConfig(name).depth + 1);
    for (const [k, hidden] of result.hidden!.entries()) {
      const upstream = await read(`hidden.${k}`);
      const error = difference(hidden, upstream);
      expect(largest(error) / largest(upstream), `hidden.${k}`).toBeLessThan(1e-5);
      const ratio = rms(error) / result.noise.hidden[k];
      expect(ratio, `noise of hidden.${k}`).toBeGreaterThan(LEAST_NOISE);
      expect(ratio, `noise of hidden.${k}`).toBeLessThan(MOST_NOISE);
    }
  });

  it.each(['logits', 'features'] as const)('the noise of %s is what the estimate says', async (output) => {
    const measured = rms(difference(await read(output), await read(`${output}_f64`)));
    const ratio = measured / rms(result.noise[output]);
    expect(ratio).toBeGreaterThan(LEAST_NOISE);
    expect(ratio).toBeLessThan(MOST_NOISE);
  });
});

describe('positionRow', () => {
  it.each([
    ['v1_cls', 'blocks.0.attn.relative_position_index'],
    ['v1_nonsquare', 'blocks.1.attn.relative_position_index'],
  ])('is upstream’s index buffer (%s)', async (name, buffer) => {
    const checkpoint = await openCheckpoint(goldenPath(name, 'official.safetensors'));
    const tensor = checkpoint.tensors.get(buffer)!;
    const chunks: Uint8Array[] = [];
    for await (const chunk of tensor.chunks()) chunks.push(chunk.slice());
    const upstream = new BigInt64Array(new Uint8Array(Buffer.concat(chunks)).buffer);
    await checkpoint.close();
    const { window } = goldenConfig(name);
    const tokens = tensor.shape[0];
    const own = BigInt64Array.from({ length: tokens * tokens }, (_, i) =>
      BigInt(positionRow(Math.floor(i / tokens), i % tokens, window)),
    );
    expect(own).toEqual(upstream);
  });
});
