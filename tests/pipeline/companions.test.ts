/** Options that would have no effect in their company: refused before a file is written, naming a company that works. */
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { UsageError } from '../../src/errors.js';
import { convert, convertWeights, verify } from '../../src/index.js';
import type { ConvertOptions } from '../../src/results.js';
import { goldenPath } from '../convert/goldens.js';

const DEMO = fileURLToPath(new URL('../../fixtures/demo/beit_demo_patch8_64.safetensors', import.meta.url));
const PRETRAINED = goldenPath('mim_v1', 'official.safetensors');
const PICTURE = fileURLToPath(new URL('../../fixtures/demo/star.png', import.meta.url));

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'convert-beit-companions-'));
});
afterAll(() => rm(folder, { recursive: true }));

type Row = readonly [what: string, options: Partial<ConvertOptions>, message: string, next: RegExp];
const features = { task: 'features' } as const;

const ROWS: readonly Row[] = [
  [
    '--resize without a size',
    { resize: 'timm' },
    '--resize timm says how to resize, and nothing says to what',
    /^Give the size with it: --resize timm --img-size 384\.$/,
  ],
  [
    '--samples with --image',
    { samples: 2, images: [PICTURE] },
    '--samples is about generated inputs; with --image the pictures are the inputs',
    /^Use one of them\.$/,
  ],
  [
    '--seed with --image',
    { seed: 1, images: [PICTURE] },
    '--seed is about generated inputs; with --image the pictures are the inputs',
    /^Use one of them\.$/,
  ],
  [
    '--threads with --no-verify',
    { threads: 1, verify: false },
    '--threads is for the verification, and --no-verify leaves it out',
    /^Use one of them\.$/,
  ],
  ['--upsample', { upsample: true }, '--upsample has no meaning for --task classify', /--task segment\.$/],
  [
    '--feature-taps',
    { featureTaps: 'unilm' },
    '--feature-taps has no meaning for --task classify',
    /--task segment\.$/,
  ],
  [
    '--out-indices',
    { outIndices: [0] },
    '--out-indices has no meaning for --task classify',
    /--task features and --task segment\.$/,
  ],
  [
    '--out-type',
    { outTypes: ['raw'] },
    '--out-type has no meaning for --task classify',
    /--task features\.$/,
  ],
  [
    '--final-norm',
    { finalNorm: true },
    '--final-norm has no meaning for --task classify',
    /--task features\.$/,
  ],
  [
    '--no-final-norm',
    { finalNorm: false },
    '--no-final-norm has no meaning for --task classify',
    /--task features\.$/,
  ],
  [
    '--drop-head, masked images',
    { src: PRETRAINED, dropHead: true, task: 'masked-image' },
    '--drop-head has no meaning for --task masked-image',
    /--task features\.$/,
  ],
  [
    '--final-norm and no last block',
    { src: PRETRAINED, ...features, outIndices: [0], finalNorm: true },
    '--final-norm stands after the last block, and no output is taken there',
    /Add the last block to --out-indices \(-1\)/,
  ],
  ['--keep in fp32', { keep: ['head'] }, '--keep head: in fp32 everything is kept', /--dtype q8\.$/],
  [
    '--reduce-range without integers',
    { reduceRange: true },
    '--reduce-range is about 8-bit signed weights; fp32 has none',
    /--dtype int8 or q8\.$/,
  ],
];

it.each(ROWS)('%s', async (_, options, message, next) => {
  const attempt = convert({ src: DEMO, out: join(folder, 'model.onnx'), ...options });
  await expect(attempt).rejects.toThrow(UsageError);
  await expect(attempt).rejects.toThrow(message);
  await expect(attempt).rejects.toMatchObject({ next: expect.stringMatching(next) as unknown });
  expect(await readdir(folder)).toEqual([]);
});

it('weights and verification are told as well', async () => {
  const weights = convertWeights({ src: DEMO, out: join(folder, 'beit.pth'), resize: 'timm' });
  await expect(weights).rejects.toThrow('nothing says to what');
  const model = join(folder, 'model.onnx');
  await convert({ src: DEMO, out: model, verify: false });
  await expect(verify({ src: DEMO, model, resize: 'timm' })).rejects.toThrow('nothing says to what');
  await expect(verify({ src: DEMO, model, images: [PICTURE], samples: 2 })).rejects.toThrow('--samples is');
});

it('in a company that works they do something', async () => {
  const out = join(folder, 'resized.onnx');
  const made = await convert({ src: DEMO, out, resize: 'timm', imageSize: [48, 48], verify: false });
  expect(made.source.config.imageSize).toEqual([48, 48]);
  // The file says that it was resized, and to what: how is enough.
  const again = verify({ src: DEMO, model: out, resize: 'unilm', samples: 1 });
  await expect(again).rejects.toMatchObject({ name: 'ParityError' });
  await expect(verify({ src: DEMO, model: out, resize: 'timm', samples: 1 })).resolves.toBeDefined();
});
