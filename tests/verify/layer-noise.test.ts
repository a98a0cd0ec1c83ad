/**
 * The float32 noise band of every layer, against float32 arithmetic that is not ours: the goldens' hidden states, which
 * PyTorch computed in float32.
 */
import { describe, expect, it } from 'vitest';
import { loadModel } from '../../src/convert/load.js';
import { openCheckpoint } from '../../src/convert/open.js';
import { readFloat32 } from '../../src/tensor.js';
import { deviation } from '../../src/verify/layers/step.js';
import { runOracle } from '../../src/verify/oracle.js';
import { GOLDEN_CASES, GOLDEN_HINTS, goldenPath } from '../convert/goldens.js';

describe('rms of PyTorch float32 minus oracle float64, in units of the band’s middle', () => {
  it.each(GOLDEN_CASES)('%s', async (name) => {
    const model = await loadModel(goldenPath(name, 'official.safetensors'), {
      hints: GOLDEN_HINTS.get(name),
    });
    const io = await openCheckpoint(goldenPath(name, 'io.safetensors'));
    const recorded = async (tensor: string): Promise<Float32Array> =>
      await readFloat32(io.tensors.get(tensor)!);
    const input = await recorded('input');
    const { depth } = model.config;
    const images = io.tensors.get('input')!.shape[0];
    const { hidden, features, logits, noise } = await runOracle(model, input, images, { hidden: true });
    const rms = (values: Float64Array): number =>
      Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
    const found: Record<string, number> = {};
    for (let k = 0; k <= depth; k++) {
      found[`hidden.${k}`] = deviation(await recorded(`hidden.${k}`), hidden![k]).rms / noise.hidden[k];
    }
    found.features = deviation(await recorded('features'), features).rms / rms(noise.features);
    found.logits = deviation(await recorded('logits'), logits).rms / rms(noise.logits);
    for (const [place, units] of Object.entries(found)) {
      // Saturated softmaxes (v1_stress) are taken for noisier than they are.
      expect(units, place).toBeGreaterThan(0.15);
      expect(units, place).toBeLessThan(2.5);
    }
    await model.close();
    await io.close();
  });
});
