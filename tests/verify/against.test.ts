/** Other exports, recorded outputs of other frameworks, and published values. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { catalog } from '../../src/convert/catalog.js';
import { GOLDEN_TOLERANCE, goldenRow } from '../../src/convert/catalog-golden.js';
import { openCheckpoint } from '../../src/convert/open.js';
import { readRecorded } from '../../src/convert/recorded.js';
import { FormatError, InputError, ShapeError, UsageError } from '../../src/errors.js';
import type { BeitModel } from '../../src/model.js';
import { convert, verify } from '../../src/pipeline.js';
import { readFloat32 } from '../../src/tensor.js';
import { sampleInput } from '../../src/verify/inputs.js';
import { reckon } from '../../src/verify/run.js';
import { verifyModel, type VerifyModelOptions } from '../../src/verify/verify.js';
import { goldenPath } from '../convert/goldens.js';
import { editOnnx } from '../support/onnx-edit.js';
import { Exports } from './exported.js';
import { unpackForeign } from './foreign.js';

const exports = new Exports();
const folder = mkdtempSync(join(tmpdir(), 'convert-beit-against-'));
const at = (name: string): string => join(folder, name);
let path: string;
let model: BeitModel;

beforeAll(async () => {
  ({ path, model } = await exports.export('v1_cls'));
  unpackForeign('timm', at('timm.onnx'));
  unpackForeign('timm-dynamo', at('other-model.onnx'));
  editOnnx(at('timm.onnx'), at('off.onnx'), (file) => {
    const bias = file.floats('head.bias');
    bias[0] += 1e-3;
    file.setFloats('head.bias', bias);
  });
  const io = await openCheckpoint(goldenPath('v1_cls', 'io.safetensors'));
  const values = async (name: string): Promise<number[]> =>
    Array.from(await readFloat32(io.tensors.get(name)!));
  const [input, logits] = [await values('input'), await values('logits')];
  const nested = [logits.slice(0, 10), logits.slice(10)];
  writeFileSync(at('logits.json'), JSON.stringify({ input, logits: nested }));
  writeFileSync(
    at('wrong.json'),
    JSON.stringify({ input, logits: nested.map(([first, ...rest]) => [first + 1e-3, ...rest]) }),
  );
  writeFileSync(at('only-logits.json'), JSON.stringify({ logits: nested }));
  writeFileSync(at('short.json'), JSON.stringify({ logits: logits.slice(1) }));
  writeFileSync(at('text.json'), '{"logits": ["1"]}');
  writeFileSync(at('empty.json'), '[]');
  writeFileSync(at('broken.json'), '{');
  await io.close();
});
afterAll(async () => {
  await exports.close();
  rmSync(folder, { recursive: true });
});

const against = async (...paths: string[]): Promise<NonNullable<VerifyModelOptions['against']>> =>
  await Promise.all(
    paths.map(async (each) =>
      each.endsWith('.onnx')
        ? ({ kind: 'onnx', path: each } as const)
        : ({ kind: 'recorded', ...(await readRecorded(each)) } as const),
    ),
  );

describe('verify --against', () => {
  it.each([
    ["upstream's own logits (safetensors, PyTorch 1.13)", () => goldenPath('v1_cls', 'io.safetensors')],
    ['the same as JSON', () => at('logits.json')],
    ["an export of timm's model", () => at('timm.onnx')],
  ])('%s', async (_, reference) => {
    const report = await verifyModel(path, model, { against: await against(reference()), samples: 2 });
    const check = report.checks.at(-1)!;
    expect(check).toMatchObject({ name: 'against', passed: true, findings: [] });
    expect(check.detail).toMatch(
      /^[\w.-]+, 2 inputs: [0-4]\.\d of 32 noise units allowed, max \|difference\| \d\.\de-[67]$/,
    );
    expect(report.verdict).toBe('passed');
  });

  it.each([
    ['recorded logits that are off', () => at('wrong.json'), /2 of 2 inputs differ from wrong\.json/],
    ['an export that is off', () => at('off.onnx'), /differ from off\.onnx/],
    ['an export of another model', () => at('other-model.onnx'), /differ from other-model\.onnx/],
  ])('%s', async (_, reference, detail) => {
    const report = await verifyModel(path, model, { against: await against(reference()), samples: 2 });
    expect(report.checks.map(({ passed }) => passed)).toEqual([true, true, true, true, false]);
    expect(report.checks.at(-1)!.detail).toMatch(detail);
    expect(report.verdict).toBe('failed');
  });

  it('logits without inputs belong to the inputs of the verification', async () => {
    const samples = [0, 1].map((i) => ({ name: `${i}`, pixels: sampleInput(model.config, 0, i) }));
    const right = await reckon(model, samples, {});
    writeFileSync(at('own.json'), JSON.stringify({ logits: right.map(({ oracle }) => Array.from(oracle)) }));
    const report = await verifyModel(path, model, { against: await against(at('own.json')), samples: 2 });
    expect(report.verdict).toBe('passed');
    await expect(
      verifyModel(path, model, { against: await against(at('own.json')), samples: 3 }),
    ).rejects.toThrow('own.json has logits of 2 images and no inputs; the verification has 3 inputs');
  });

  it.each([['not the number of classes', 'short.json', 'short.json has 19 logits; this model gives 10']])(
    '%s',
    async (_, name, message) => {
      const failing = verifyModel(path, model, { against: await against(at(name)), samples: 2 });
      await expect(failing).rejects.toBeInstanceOf(ShapeError);
      await expect(failing).rejects.toThrow(message);
    },
  );

  it.each([
    ['text.json', FormatError, 'text.json: logits is no list of numbers'],
    ['empty.json', FormatError, 'empty.json has no logits'],
    ['broken.json', FormatError, 'broken.json is not JSON'],
    ['none.json', InputError, 'none.json: there is no such file'],
  ])('%s', async (name, error, message) => {
    await expect(readRecorded(at(name))).rejects.toBeInstanceOf(error);
    await expect(readRecorded(at(name))).rejects.toThrow(message);
  });

  it('a checkpoint is no recording', async () => {
    await expect(readRecorded(goldenPath('v1_cls', 'official.safetensors'))).rejects.toThrow(
      'has no tensor logits',
    );
  });
});

describe('published check values', () => {
  it('nine official checkpoints have them, with the publisher’s preprocessing', () => {
    const rows = catalog().filter(({ version }) => version === 1);
    for (const { name, imageSize, classes } of rows) {
      const golden = goldenRow(name);
      expect(golden.preprocessing).toMatchObject({
        resize: [imageSize, imageSize],
        interpolation: 'bilinear',
      });
      expect(golden.argmax).toBeLessThan(classes);
      expect(golden.first.every(Number.isFinite)).toBe(true);
    }
    expect(rows).toHaveLength(9);
    expect(GOLDEN_TOLERANCE).toBe(1e-3);
  });

  it('an alias is known too, a v2 checkpoint has none', () => {
    expect(goldenRow('beit-large-patch16-512').first).toEqual([-0.3062, 0.7261, 0.4852]);
    expect(() => goldenRow('beitv2_base_patch16_224_pt1k_ft1k')).toThrow(UsageError);
  });

  // Stands for an official checkpoint: the oracle says what would have been published for it.
  const golden = async (
    change: (first: number[]) => number[],
    argmaxOff = 0,
  ): Promise<VerifyModelOptions['golden']> => {
    const input = { name: 'cats.jpg', pixels: sampleInput(model.config, 7, 0) };
    const [{ oracle }] = await reckon(model, [input], {});
    const argmax = oracle.indexOf(Math.max(...oracle));
    const first = change(Array.from(oracle.subarray(0, 3), (value) => Number(value.toFixed(4))));
    return {
      checkpoint: 'stand-in',
      picture: 'a picture',
      first,
      argmax: argmax + argmaxOff,
      tolerance: GOLDEN_TOLERANCE,
      input,
    };
  };

  it.each([
    [
      'reached',
      (first: number[]) => first,
      0,
      true,
      'published values of stand-in on a picture: logits within',
    ],
    [
      'another logit',
      ([a, b, c]: number[]) => [a, b + 0.002, c],
      0,
      false,
      'the published values are not reached: off by 2.',
    ],
    ['another class', (first: number[]) => first, 1, false, 'the published values are not reached'],
  ])('%s', async (_, change, off, passed, detail) => {
    const report = await verifyModel(path, model, { golden: await golden(change, off), samples: 1 });
    const check = report.checks.at(-1)!;
    expect(check).toMatchObject({ name: 'golden', passed });
    expect(check.detail).toContain(detail);
  });

  it('the command needs the one picture, and a name where the source has none', async () => {
    const model = at('demo.onnx');
    const src = fileURLToPath(new URL('../../fixtures/demo/', import.meta.url));
    await convert({ src, out: model, samples: 1 });
    await expect(verify({ model, src, golden: true })).rejects.toThrow(
      'nothing tells which published values belong',
    );
    const name = 'beit_base_patch16_224_pt22k_ft22kto1k';
    await expect(verify({ model, src, golden: name })).rejects.toThrow('belong to one picture, COCO val2017');
    const images = [join(src, 'heart.jpg')];
    await expect(verify({ model, src, golden: name, images })).rejects.toBeInstanceOf(Error);
  });
});

it('a missing file is an error', async () => {
  await expect(
    verifyModel(path, model, { samples: 1, against: [{ kind: 'onnx', path: at('none.onnx') }] }),
  ).rejects.toBeInstanceOf(InputError);
});
