/** Whole models at another size, against upstream's own runs. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { inventory } from '../../src/beit.js';
import { loadModel, type LoadOptions } from '../../src/convert/load.js';
import { openCheckpoint } from '../../src/convert/open.js';
import { resizeModel } from '../../src/convert/resize/model.js';
import { UsageError } from '../../src/errors.js';
import type { BeitModel } from '../../src/model.js';
import { RESIZE_METHODS, type ResizeMethod, type ResizeRequest } from '../../src/resizing.js';
import { resolveTask } from '../../src/task.js';
import { byteLength, readBytes, readFloat32, readFloat64 } from '../../src/tensor.js';
import { expectOutputs } from '../../src/verify/expected.js';
import { runOracle } from '../../src/verify/oracle.js';
import { difference, largest, randomModel, SMALL, tensorOf } from '../verify/oracle-model.js';
import { GOLDEN_HINTS, goldenPath } from './goldens.js';
import { expandedCheckpoint, RESIZE_CASES, resizeGolden } from './resize-cases.js';

const TABLE = 'backbone.layers.0.attn.relative_position_bias_table';

async function withModel<T>(
  source: string,
  options: LoadOptions,
  use: (model: BeitModel) => Promise<T>,
): Promise<T> {
  const hints = { ...GOLDEN_HINTS.get(source), ...options.hints };
  const model = await loadModel(goldenPath(source, 'official.safetensors'), { ...options, hints });
  try {
    return await use(model);
  } finally {
    await model.close();
  }
}

/** How near to upstream's float32 a tensor must be; the cubic spline's are the same bits. */
function toleranceOf(golden: string): number {
  if (golden.startsWith('unilm.table')) return 0;
  // timm inverts a matrix in float32.
  if (golden.endsWith('.kernel')) return 3e-6;
  // These were made with PyTorch 1.13, whose bicubic is up to 1.9e-6 away from that of 2.13 on the same numbers.
  if (/(unilm|beit2_forward)\.pos_embed$/.test(golden)) return 2e-6;
  return 1e-6;
}

describe.each(RESIZE_CASES)('$name ($method)', (row) => {
  const { source, method, imageSize, patchSize, eps } = row;
  const options = { imageSize, patchSize, resize: method, hints: eps ? { layerNormEps: eps } : {} };

  it('tensors are upstream’s', async () => {
    const golden = await resizeGolden(row.file);
    await withModel(source, options, async ({ config, tensors, derived }) => {
      for (const [name, shape] of inventory(config)) expect(tensors.get(name)?.shape, name).toEqual(shape);
      for (const [name, key] of Object.entries(row.tensors)) {
        const upstream = golden.get(key)!;
        const tensor = tensors.get(name)!;
        expect(derived!.has(name)).toBe(true);
        let own = await readFloat64(tensor);
        // Of pos_embed the first channels are kept, of a patch kernel the first outputs.
        if (key.endsWith('pos_embed')) own = own.filter((_, i) => i % tensor.shape[2] < upstream.shape[2]);
        else if (key.endsWith('kernel')) own = own.subarray(0, upstream.values.length);
        else expect(tensor.shape).toEqual(upstream.shape);
        const tolerance = toleranceOf(key);
        expect(largest(difference(own, upstream.values)), key).toBeLessThanOrEqual(tolerance);
      }
    });
  });

  it.runIf(row.logits !== '')('the oracle gives upstream’s logits', async () => {
    const golden = await resizeGolden(row.file);
    await withModel(source, options, async (model) => {
      const { logits } = await runOracle(model, golden.get(row.input)!.values, 1);
      expect(largest(difference(logits, golden.get(row.logits)!.values))).toBeLessThan(1e-5);
      const double = golden.get(`${row.logits}_f64`);
      if (double) expect(largest(difference(logits, double.values))).toBeLessThan(1e-10);
      else expect(row.method === 'unilm' && row.source === 'v1_cls').toBe(false);
    });
  });
});

describe('a pre-training checkpoint, expanded to a classifier (pt_expand_resize)', () => {
  let folder: string;
  let src: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'convert-beit-resize-'));
    src = await expandedCheckpoint(folder);
  });
  afterAll(() => rm(folder, { recursive: true }));

  it('has upstream’s table in every block, and upstream’s logits', async () => {
    const golden = await resizeGolden('pt_expand');
    const model = await loadModel(src, { imageSize: [48, 48], sharedTable: 'spread' });
    const upstream = golden.get('blocks.0.attn.relative_position_bias_table')!.values;
    for (let layer = 0; layer < model.config.depth; layer++) {
      const own = await readFloat64(model.tensors.get(TABLE.replace('.0.', `.${layer}.`))!);
      expect(own).toEqual(upstream);
    }
    const { logits } = await runOracle(model, golden.get('input')!.values, 1);
    expect(largest(difference(logits, golden.get('logits_f64')!.values))).toBeLessThan(1e-10);
    await model.close();
  });

  it('gives the same with the table kept shared', async () => {
    const golden = await resizeGolden('pt_expand');
    const model = await loadModel(src, { imageSize: [48, 48] });
    expect(model.config.sharedRelativePosition).toBe(true);
    const { logits } = await runOracle(model, golden.get('input')!.values, 1);
    expect(largest(difference(logits, golden.get('logits_f64')!.values))).toBeLessThan(1e-10);
    await model.close();
  });
});

/** A model of random weights, as if it had been loaded. */
function someModel(change: Partial<typeof SMALL> = {}): BeitModel {
  const { config, tensors } = randomModel({ ...SMALL, ...change });
  const index = tensorOf('I64', [1], new BigInt64Array(1));
  return {
    config,
    tensors,
    sourceNames: new Map(),
    buffers: new Map([['blocks.0.attn.relative_position_index', index]]),
    provenance: { id: 'some', files: [], container: '', layout: '', versionEvidence: '' },
    preprocessing: {
      resize: 36,
      crop: config.imageSize,
      interpolation: 'bilinear',
      mean: [0.1],
      std: [0.2],
      origin: 'x',
    },
    notes: [],
    close: () => Promise.resolve(),
  };
}

const SQUARE = { imageSize: [32, 32], window: [8, 8] } as const;

describe('resizeModel', () => {
  it.each(RESIZE_METHODS)('%s to the size it has touches nothing', (method) => {
    for (const model of [someModel(), someModel(SQUARE)]) {
      const { imageSize, patchSize } = model.config;
      const same = resizeModel(model, { imageSize, patchSize, method });
      expect(same.tensors).toBe(model.tensors);
      expect(same.buffers).toBe(model.buffers);
      expect(same.derived).toBeUndefined();
      expect(same.notes.join()).toContain('already: nothing is resized');
    }
  });

  it('touches only what depends on the size, and says what it did', () => {
    const model = someModel(SQUARE);
    const resized = resizeModel(model, { imageSize: [48, 48] });
    const how = 'resized from 8×8 to 12×12 patches (unilm)';
    expect(resized.derived).toEqual(
      new Map([
        ['backbone.pos_embed', how],
        ['backbone.rel_pos_bias.relative_position_bias_table', how],
        [TABLE, how],
        [TABLE.replace('.0.', '.1.'), how],
      ]),
    );
    for (const [name, tensor] of model.tensors) {
      expect(resized.tensors.get(name) === tensor, name).toBe(!resized.derived!.has(name));
    }
    expect([...resized.tensors.keys()]).toEqual([...model.tensors.keys()]);
    expect(resized.config).toEqual({ ...model.config, imageSize: [48, 48], window: [12, 12] });
    expect(resized.resized).toEqual({
      method: 'unilm',
      from: { imageSize: [32, 32], patchSize: 4, window: [8, 8] },
    });
    expect([...resized.buffers]).toEqual([]);
    expect(resized.preprocessing).toEqual({
      ...model.preprocessing,
      resize: 54,
      crop: [48, 48],
      origin: 'x, brought to 48×48',
    });
    expect(resized.notes).toEqual([
      'positions resized from 8×8 to 12×12 patches (unilm: geometric spacing and cubic spline; absolute positions bicubic)',
      'a resized model is where fine-tuning begins: published accuracies belong to the original size',
    ]);
  });

  it('pads an mmpretrain model’s image to whole patches, as mmpretrain does', async () => {
    const path = goldenPath('mm_corner_pad', 'mmpretrain.safetensors');
    const [model, io] = await Promise.all([
      loadModel(path, { imageSize: [30, 31] }),
      openCheckpoint(goldenPath('mm_corner_pad', 'io.safetensors')),
    ]);
    expect(model.config).toMatchObject({ imageSize: [30, 31], window: [8, 8] });
    expect(model.notes.join()).toContain(
      'zeros follow at the bottom and the right, up to 32×32 (as in mmpretrain)',
    );
    const task = resolveTask(model.config, { outTypes: ['avg_featmap'] });
    const pixels = await readFloat32(io.tensors.get('input')!);
    const [{ values }] = await expectOutputs(model, task, { pixels, batch: 1 });
    const expected = await readFloat32(io.tensors.get('avg_featmap.0')!);
    expect(Math.max(...expected.map((value, i) => Math.abs(value - values[i])))).toBeLessThan(1e-5);
    await Promise.all([model.close(), io.close()]);
  });

  it('keeps what an image of the same number of patches needs', async () => {
    const model = someModel(SQUARE);
    const resized = resizeModel(model, { imageSize: [35, 34] });
    expect(resized.tensors).toEqual(model.tensors);
    expect(resized.buffers).toEqual(model.buffers);
    expect(resized.notes.join()).toContain(
      '35×34 pixels are no whole number of patches of 4: the last 3 rows and the last 2 columns of pixels are not looked at (as in unilm, timm and transformers)',
    );
    const patch = resizeModel(model, { imageSize: [64, 64], patchSize: 8 });
    expect([...patch.derived!]).toEqual([
      ['backbone.patch_embed.projection.weight', 'resized from 4×4 to 8×8 pixels (timm)'],
    ]);
    const kernel = patch.tensors.get('backbone.patch_embed.projection.weight')!;
    expect(kernel.shape).toEqual([96, 3, 8, 8]);
    expect(await readBytes(kernel)).toHaveLength(byteLength(kernel));
  });

  it.each([
    ['below 384 pixels 224/256 of the picture', 36, 320, 365],
    ['from 384 on all of it', 36, 384, 384],
    ['squeezed stays squeezed', [32, 32] as const, 320, [320, 320] as const],
  ])('preprocessing: %s', (_, before, size, after) => {
    const model = someModel(SQUARE);
    const given = { ...model, preprocessing: { ...model.preprocessing, resize: before } };
    const { preprocessing } = resizeModel(given, { imageSize: [size, size], patchSize: 32 });
    expect(preprocessing).toMatchObject({
      resize: after,
      crop: [size, size],
      interpolation: 'bilinear',
      mean: [0.1],
    });
  });

  it.each(['F32', 'F64'] as const)('is lazy, and the same every time (%s)', async (dtype) => {
    const { tensors } = randomModel({ ...SMALL, ...SQUARE }, dtype);
    const model = resizeModel({ ...someModel(SQUARE), tensors }, { imageSize: [48, 48] });
    for (const name of model.derived!.keys()) {
      const tensor = model.tensors.get(name)!;
      expect(tensor.dtype).toBe(dtype);
      expect(await readBytes(tensor)).toEqual(await readBytes(tensor));
    }
  });

  it('leaves rows without a place on the grid as they are, whatever the sizes', async () => {
    const side = fc.integer({ min: 3, max: 12 });
    await fc.assert(
      fc.asyncProperty(side, side, fc.constantFrom(...RESIZE_METHODS.slice(0, 4)), async (a, b, method) => {
        const model = someModel({ imageSize: [4 * a, 4 * a], window: [a, a] });
        const resized = resizeModel(model, { imageSize: [4 * b, 4 * b], method });
        const pair = async (name: string): Promise<Float64Array[]> =>
          await Promise.all([model, resized].map((each) => readFloat64(each.tensors.get(name)!)));
        const [before, after] = await pair(TABLE);
        expect(after.slice(-3 * SMALL.heads)).toEqual(before.slice(-3 * SMALL.heads));
        const [old, grown] = await pair('backbone.pos_embed');
        expect(grown.slice(0, SMALL.hiddenSize)).toEqual(old.slice(0, SMALL.hiddenSize));
      }),
      { numRuns: 20 },
    );
  });
});

describe('what cannot be done is refused', () => {
  const relative = { ...SQUARE, absolutePosition: false };
  const small = { ...relative, imageSize: [8, 8], window: [2, 2] } as const;
  const absolute = { ...SQUARE, relativePosition: false, sharedRelativePosition: false };
  const wide = { imageSize: [20, 28], window: [5, 7] } as const;
  it.each([
    [
      'unilm, non-square target',
      relative,
      { imageSize: [24, 40] },
      'unilm cannot resize from 8×8 to 6×10 patches: it knows square images only',
      ['timm', 'timm-simple', 'transformers'],
    ],
    [
      'unilm, non-square target, absolute positions only',
      absolute,
      { imageSize: [24, 40] },
      'unilm cannot resize from 8×8 to 6×10 patches: it knows square images only',
      ['timm', 'timm-simple', 'transformers', 'beit2'],
    ],
    [
      'unilm, window of 2',
      small,
      { imageSize: [16, 16] },
      'unilm cannot resize from 2×2 to 4×4 patches: a cubic spline needs 4 points, and a window of 2×2 patches gives 3',
      ['timm', 'timm-simple', 'transformers'],
    ],
    [
      'timm, non-square source',
      wide,
      { imageSize: [32, 32], method: 'timm' },
      'timm cannot resize from 5×7 to 8×8 patches: it takes every source for square',
      ['transformers'],
    ],
    [
      'unilm, non-square source',
      wide,
      { imageSize: [32, 32] },
      'unilm cannot resize from 5×7 to 8×8 patches: it takes every source for square',
      ['transformers'],
    ],
    [
      'beit2, relative positions',
      relative,
      { imageSize: [48, 48], method: 'beit2' },
      'beit2 cannot resize from 8×8 to 12×12 patches: it knows absolute positions only, and this model has relative ones',
      ['unilm', 'timm', 'timm-simple', 'transformers'],
    ],
  ] as [string, Partial<typeof SMALL>, ResizeRequest, string, ResizeMethod[]][])(
    '%s',
    (_, config, request, message, able) => {
      const attempt = (): BeitModel => resizeModel(someModel(config), request);
      expect(attempt).toThrow(UsageError);
      expect(attempt).toThrow(message);
      expect(attempt).toThrow(
        expect.objectContaining({
          next: `Methods that can: ${able.map((method) => `--resize ${method}`).join(', ')}.`,
        }) as Error,
      );
      for (const method of able) resizeModel(someModel(config), { ...request, method });
    },
  );

  it.each([
    ['smaller than a patch', { imageSize: [32, 3] }, 'an image of 32×3 pixels has no whole patch of 4'],
    ['a patch larger than the image', { patchSize: 33 }, 'an image of 32×32 pixels has no whole patch of 33'],
    ['too many patches', { imageSize: [4096, 4096] }, 'at most 10,000 are possible'],
    [
      'no pixels',
      { imageSize: [0, 32] },
      'an image size of 0×32 pixels: needed are whole numbers from 1 to 8192',
    ],
    ['half a pixel', { imageSize: [32.5, 32] }, 'an image size of 32.5×32 pixels'],
    ['an endless image', { imageSize: [Infinity, 32] }, 'an image size of Infinity×32 pixels'],
    [
      'too large a patch',
      { patchSize: 129 },
      'a patch size of 129 pixels: needed is a whole number from 1 to 128',
    ],
  ] as [string, ResizeRequest, string][])('%s', (_, request, message) => {
    const attempt = (): BeitModel => resizeModel(someModel(SQUARE), request);
    expect(attempt).toThrow(UsageError);
    expect(attempt).toThrow(message);
  });

  it('a model without positions goes anywhere with any method', () => {
    const model = someModel({ ...absolute, absolutePosition: false });
    const resized = resizeModel(model, { imageSize: [24, 40] });
    expect([...resized.derived!]).toEqual([]);
    expect(resized.notes[0]).toBe('from 8×8 to 6×10 patches: this model has no positions to resize');
  });

  it('transformers says that a non-square source is read as it is', () => {
    const { notes } = resizeModel(someModel(wide), { imageSize: [32, 32], method: 'transformers' });
    expect(notes.join()).toContain('takes the positions of a non-square model for others');
  });
});
