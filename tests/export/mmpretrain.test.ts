/** Goldens of OpenMMLab's backbone that need more than one export: positions resized as it runs, and its seed commit. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadModel } from '../../src/convert/load.js';
import { openCheckpoint } from '../../src/convert/open.js';
import { resizeModel } from '../../src/convert/resize/model.js';
import { exportOnnx, type ExportOptions } from '../../src/export/index.js';
import type { BeitModel } from '../../src/model.js';
import { resolveTask, type OutType } from '../../src/task.js';
import { bytesOf, memoryTensor, readFloat32, readFloat64, type Tensor } from '../../src/tensor.js';
import { expectOutputs } from '../../src/verify/expected.js';
import { goldenPath } from '../convert/goldens.js';
import { difference, largest } from '../verify/oracle-model.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'convert-beit-mm-'));
});
afterAll(() => rm(folder, { recursive: true }));

interface Golden {
  readonly values: Float64Array;
  readonly shape: readonly number[];
}

async function golden(name: string): Promise<ReadonlyMap<string, Golden>> {
  const io = await openCheckpoint(goldenPath(name, 'io.safetensors'));
  try {
    const rows = [...io.tensors].map(
      async ([key, tensor]) => [key, { values: await readFloat64(tensor), shape: tensor.shape }] as const,
    );
    return new Map(await Promise.all(rows));
  } finally {
    await io.close();
  }
}

let files = 0;
/** What ONNX Runtime makes of the exported file, by output. */
async function run(
  model: BeitModel,
  { values, shape }: Golden,
  options: Partial<ExportOptions>,
): Promise<ReadonlyMap<string, Golden>> {
  const path = join(folder, `${++files}.onnx`);
  await exportOnnx(model, path, { toolVersion: '0.0.0-test', ...options });
  const session = await ort.InferenceSession.create(path, { logSeverityLevel: 3 });
  const input = new ort.Tensor('float32', Float32Array.from(values), [...shape]);
  const found = await session.run({ pixel_values: input });
  await session.release();
  return new Map(
    Object.entries(found).map(([name, { dims, data }]) => [
      name,
      { shape: dims, values: Float64Array.from(data as Float32Array) },
    ]),
  );
}

describe('mmpretrain resizes absolute positions as it runs', () => {
  const load = async (): Promise<BeitModel> =>
    loadModel(goldenPath('mm_dynamic_pos_embed', 'mmpretrain.safetensors'), {
      hints: { heads: 4, imageSize: [32, 32] },
    });

  it.each([
    ['48x48', [48, 48], 'unilm'],
    ['48x48', [48, 48], 'transformers'],
    ['24x40', [24, 40], 'transformers'],
    ['24x40', [24, 40], 'timm-simple'],
  ] as const)('%s: a file of that size, %j, positions by %s', async (size, imageSize, method) => {
    const upstream = await golden('mm_dynamic_pos_embed');
    const model = await load();
    try {
      const resized = resizeModel(model, { imageSize: [...imageSize], method });
      const task = resolveTask(resized.config, { outTypes: ['avg_featmap'] });
      const input = upstream.get(`input.${size}`)!;
      const wanted = upstream.get(`avg_featmap.${size}`)!;
      const found = await run(resized, input, { task });
      expect(found.get('pooler_output')!.shape).toEqual(wanted.shape);
      expect(largest(difference(found.get('pooler_output')!.values, wanted.values))).toBeLessThan(1e-5);
      const pixels = Float32Array.from(input.values);
      const [reference] = await expectOutputs(resized, task, { pixels, batch: 1 });
      expect(largest(difference(reference.values, wanted.values))).toBeLessThan(1e-5);
    } finally {
      await model.close();
    }
  });

  it.each([17, 18, 23])('one file for images of any size is right at both, opset %i', async (opset) => {
    const upstream = await golden('mm_dynamic_pos_embed');
    const model = await load();
    try {
      const task = resolveTask(model.config, { outTypes: ['avg_featmap'] });
      for (const size of ['48x48', '24x40']) {
        const found = await run(model, upstream.get(`input.${size}`)!, {
          task,
          dynamic: 'transformers',
          opset,
        });
        const wanted = upstream.get(`avg_featmap.${size}`)!.values;
        expect(largest(difference(found.get('pooler_output')!.values, wanted))).toBeLessThan(1e-5);
      }
    } finally {
      await model.close();
    }
  });
});

/**
 * At the commit that brought BEiT to OpenMMLab, its MLP adds its own input once more: LN2(x) + mlp(LN2(x)), mended six
 * days later. These goldens hold that. The exact GELU makes it expressible in weights: gelu(u) - gelu(-u) = u. Two more
 * hidden units for every input, with weights 1 and -1 in front and behind, add the input itself, and nothing else changes.
 * So every output is compared, not only those of which the fault can be taken out.
 */
async function withIdentityInMlp(model: BeitModel): Promise<BeitModel> {
  const { hiddenSize: E, mlpSize: M, depth } = model.config;
  const tensors = new Map(model.tensors);
  const wide = M + 2 * E;
  const put = (name: string, shape: readonly number[], values: Float32Array): void => {
    tensors.set(name, memoryTensor('F32', shape, bytesOf(values)));
  };
  for (let layer = 0; layer < depth; layer++) {
    const at = `backbone.layers.${layer}.ffn.layers`;
    const read = async (name: string): Promise<Float32Array> =>
      readFloat32(model.tensors.get(`${at}.${name}`) as Tensor);
    const [first, bias, second] = await Promise.all(['0.0.weight', '0.0.bias', '1.weight'].map(read));
    const expand = new Float32Array(wide * E);
    expand.set(first);
    const contract = new Float32Array(E * wide);
    for (let i = 0; i < E; i++) {
      contract.set(second.subarray(i * M, (i + 1) * M), i * wide);
      for (const [half, sign] of [1, -1].entries()) {
        const unit = M + half * E + i;
        expand[unit * E + i] = sign;
        contract[i * wide + unit] = sign;
      }
    }
    const biases = new Float32Array(wide);
    biases.set(bias);
    put(`${at}.0.0.weight`, [wide, E], expand);
    put(`${at}.0.0.bias`, [wide], biases);
    put(`${at}.1.weight`, [E, wide], contract);
  }
  return { ...model, tensors, config: { ...model.config, mlpSize: wide } };
}

describe('the seed commit of mmcls', () => {
  const load = async (): Promise<BeitModel> =>
    loadModel(goldenPath('mmcls_seed_outputs', 'mmcls_seed.safetensors'));

  /** Its switches in our terms: which tensor of the goldens is which output. */
  const CASES = [1, 0].flatMap((finalNorm) =>
    [
      [1, 1],
      [1, 0],
      [0, 1],
      [0, 0],
    ].flatMap(([average, classToken]) => {
      const prefix = `final_norm=${finalNorm}.avg_token=${average}.output_cls_token=${classToken}`;
      const patches: OutType = average === 1 ? 'avg_featmap' : 'featmap';
      // Without its last norm it was recorded with the class token only.
      if (finalNorm === 0 && classToken === 0) return [];
      return [{ prefix, finalNorm: finalNorm === 1, patches, classToken: classToken === 1 }];
    }),
  );

  it('all its outputs are in the table', async () => {
    const upstream = await golden('mmcls_seed_outputs');
    const named = CASES.flatMap(({ prefix, classToken }) =>
      [0, 1].flatMap((i) =>
        classToken ? [`${prefix}.${i}.patch`, `${prefix}.${i}.cls`] : [`${prefix}.${i}`],
      ),
    );
    expect([...upstream.keys()].sort()).toEqual(['input', ...named].sort());
  });

  it.each(CASES.map((each) => [each.prefix, each] as const))(
    '%s',
    async (prefix, { finalNorm, patches, classToken }) => {
      const upstream = await golden('mmcls_seed_outputs');
      const model = await load();
      try {
        const faulty = await withIdentityInMlp(model);
        const outTypes: OutType[] = classToken ? [patches, 'cls_token'] : [patches];
        const task = resolveTask(model.config, { outTypes, outIndices: [0, -1], finalNorm });
        const input = upstream.get('input')!;
        const found = [...(await run(faulty, input, { task }))];
        const pixels = Float32Array.from(input.values);
        const reference = await expectOutputs(faulty, task, { pixels, batch: 1 });
        expect(found).toHaveLength(2 * outTypes.length);
        const mended = [...(await run(model, input, { task }))];
        for (const [i, [, { shape, values }]] of found.entries()) {
          const block = Math.floor(i / outTypes.length);
          const kind = outTypes[i % outTypes.length] === 'cls_token' ? '.cls' : '.patch';
          const wanted = upstream.get(`${prefix}.${block}${classToken ? kind : ''}`)!;
          expect(shape).toEqual(wanted.shape);
          expect(largest(difference(values, wanted.values))).toBeLessThan(1e-5);
          expect(largest(difference(reference[i].values, wanted.values))).toBeLessThan(1e-5);
          // The fault shows: what is converted without it is another model.
          expect(largest(difference(mended[i][1].values, wanted.values))).toBeGreaterThan(1e-2);
        }
      } finally {
        await model.close();
      }
    },
  );
});
