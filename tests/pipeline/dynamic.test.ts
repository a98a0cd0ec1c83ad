/** Graphs for images of any size through the whole pipeline: written, proven at several sizes, and what is refused. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openClassifier } from '../../src/classifier-file.js';
import { DYNAMIC_KEY } from '../../src/dynamic-size.js';
import { ParityError } from '../../src/errors.js';
import { convert, verify } from '../../src/pipeline.js';
import type { ParityReport } from '../../src/verify/report.js';
import { goldenPath } from '../convert/goldens.js';
import { editOnnx } from '../support/onnx-edit.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'convert-beit-dynamic-pipeline-'));
});
afterAll(() => rm(folder, { recursive: true }));

const src = goldenPath('v1_cls', 'official.safetensors');
const at = (name: string): string => join(folder, name);

describe('a file for images of any size', () => {
  it.each([
    ['a classifier', 'v1_cls', {}, 'logits', [['batch', 10]]],
    ['another method', 'v1_cls', { resize: 'timm-simple' }, 'logits', [['batch', 10]]],
    ['a shared table', 'v1_shared_rel', {}, 'logits', [['batch', 10]]],
    ['a window that is not square', 'v1_nonsquare', {}, 'logits', [['batch', 10]]],
    ['images that are padded', 'v1_cls', {}, 'logits', [['batch', 10]]],
    ['a fixed batch', 'v1_cls', { batch: 3 }, 'logits', [[3, 10]]],
    [
      'features',
      'v1_abs_and_rel',
      { task: 'features', outTypes: ['raw', 'featmap'] },
      'outputs',
      [
        ['batch', 'tokens', 32],
        ['batch', 32, 'rows', 'columns'],
      ],
    ],
  ] as const)('is proven at several sizes: %s', async (name, golden, options, check, shapes) => {
    const file = name === 'images that are padded' ? 'mmpretrain' : 'official';
    const source = { src: goldenPath(golden, `${file}.safetensors`) };
    const out = at(`${name.replaceAll(' ', '-')}.onnx`);
    const notes: string[] = [];
    const { output, parity } = await convert({
      ...source,
      ...options,
      out,
      dynamicSize: true,
      onNote: (note) => notes.push(note),
    });
    expect(notes.join()).toMatch(
      /positions are resized inside the graph, as (transformers|timm-simple) does/,
    );
    expect(notes.join()).not.toMatch(/already/);
    expect(output.inputs[0].shape.slice(1)).toEqual([3, 'height', 'width']);
    expect(output.outputs.map(({ shape }) => shape)).toEqual(shapes);
    expect(parity.verdict).toBe('passed');
    expect(parity.checks.map((each) => each.name)).toEqual([
      'structure',
      'inventory',
      'provenance',
      check,
      'sizes',
    ]);
    const again = await verify({ ...source, model: out });
    expect(again.parity.checks).toEqual(parity.checks);
  });

  it('is so in every precision', async () => {
    const precisions = ['fp32', 'fp16', 'q8', 'int8', 'uint8', 'q4', 'q4f16'] as const;
    const { files } = await convert({ src, out: at('all.onnx'), dynamicSize: true, precisions });
    expect(files.map(({ output }) => output.precision)).toEqual(precisions);
    for (const { parity } of files) {
      expect(parity.checks.filter(({ passed }) => !passed)).toEqual([]);
      expect(parity.checks.at(-1)!.detail).toMatch(/^16×16, 19×45, 40×40 \(transformers\): 3 outputs: /);
    }
  });

  it('tells a classifier the size to give pictures', async () => {
    const out = at('size.onnx');
    await convert({ src, out, dynamicSize: true, verify: false });
    expect((await openClassifier(out, {})).shape).toEqual([3, 32, 32]);
  });

  it.each([
    [
      'another method than it says',
      (metadata: Map<string, string>) => metadata.set(DYNAMIC_KEY, 'timm-simple'),
      /logits at 16×16: .* noise units/,
      'sizes',
    ],
    [
      'no word of any size',
      (metadata: Map<string, string>) => metadata.delete(DYNAMIC_KEY),
      /input pixel_values has the shape \[batch, 3, height, width\]; needed is one input/,
      'structure',
    ],
  ])('is refused with %s', async (name, change, message, check) => {
    const [good, bad] = [at('good.onnx'), at('bad.onnx')];
    await convert({ src, out: good, dynamicSize: true, verify: false });
    editOnnx(good, bad, ({ model }) => {
      const metadata = new Map(model.metadataProps!.map(({ key, value }) => [key!, value!]));
      change(metadata);
      model.metadataProps = [...metadata].map(([key, value]) => ({ key, value }));
    });
    const error = await verify({ src, model: bad }).then(
      () => expect.unreachable(name),
      (cause: unknown) => cause as ParityError,
    );
    expect(error).toBeInstanceOf(ParityError);
    const found = (error.report as ParityReport).checks.find((each) => each.name === check)!;
    expect(found.passed).toBe(false);
    expect(found.findings.join('; ')).toMatch(message);
  });
});

it.each([
  ['unilm’s method', { resize: 'unilm' }, /cannot resize positions as unilm does: .* no ONNX operator/],
  ['timm’s method', { resize: 'timm' }, /cannot resize positions as timm does: .* no ONNX operator/],
  ['BEiT v2’s method', { resize: 'beit2' }, /cannot resize positions as beit2 does/],
  ['a size', { imageSize: [48, 48] }, /takes images of every size: --img-size would resize/],
  ['a patch size', { patchSize: 8 }, /takes images of every size: --patch-size would resize/],
] as const)('--dynamic-size is refused with %s', async (_, options, message) => {
  const refused = convert({ src, out: at('refused.onnx'), dynamicSize: true, ...options });
  await expect(refused).rejects.toThrow(message);
  await expect(refused).rejects.toMatchObject({ next: expect.stringMatching(/^(Use|Leave)/) as string });
});

it('is refused for another task, naming those that can', async () => {
  const refused = convert({
    src: goldenPath('mim_v1', 'official.safetensors'),
    out: at('masked.onnx'),
    dynamicSize: true,
  });
  await expect(refused).rejects.toThrow(
    '--dynamic-size is for --task classify and features, not for --task masked-image',
  );
});
