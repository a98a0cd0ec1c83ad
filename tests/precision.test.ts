/** Names of files, places, and combinations of options that cannot be. */
import { describe, expect, it } from 'vitest';
import { UsageError } from '../src/errors.js';
import { planPrecisions, type PlanOptions } from '../src/plan.js';
import { keepPlaces, precision } from '../src/precision.js';

describe('planPrecisions', () => {
  it.each<[string, Partial<PlanOptions>, string[]]>([
    ['fp32 by default', {}, ['a/model.onnx']],
    ['one alone has the name that was asked for', { precisions: ['q8'] }, ['a/model.onnx']],
    [
      'several have the names that clients look for',
      { precisions: ['fp32', 'fp16', 'q8', 'int8', 'uint8', 'q4', 'q4f16'] },
      [
        'a/model.onnx',
        'a/model_fp16.onnx',
        'a/model_quantized.onnx',
        'a/model_int8.onnx',
        'a/model_uint8.onnx',
        'a/model_q4.onnx',
        'a/model_q4f16.onnx',
      ],
    ],
    ['several without fp32', { precisions: ['fp16', 'q4'] }, ['a/model_fp16.onnx', 'a/model_q4.onnx']],
  ])('%s', (_, options, paths) => {
    expect(planPrecisions({ out: 'a/model.onnx', ...options }).map(({ path }) => path)).toEqual(paths);
  });

  it.each<[string, Partial<PlanOptions>, RegExp, RegExp]>([
    [
      '--link × int8',
      { link: true, precisions: ['int8'] },
      /int8 changes the weights/,
      /--link --dtype fp32, or --external-data --dtype int8/,
    ],
    [
      '--link × fp32 and others',
      { link: true, precisions: ['fp32', 'q4'] },
      /--dtype fp32 only: q4/,
      /--external-data --dtype fp32,q4/,
    ],
    ['--link × --external-data', { link: true, externalData: true }, /exclude each other/, /Use one of them/],
    ['nothing', { precisions: [] }, /names no precision/, /--dtype fp32,q8/],
    ['twice the same', { precisions: ['q8', 'q8'] }, /names q8 twice/, /once/],
    ['--keep × fp32', { keep: ['patch'] }, /in fp32 everything is kept/, /--dtype q8/],
    [
      '--reduce-range × fp16',
      { reduceRange: true, precisions: ['fp16'] },
      /fp16 has none/,
      /--dtype int8 or q8/,
    ],
    ['--accept-quality × fp32', { acceptQuality: true }, /either right or wrong/, /--dtype q4/],
    [
      '--accept-quality × --no-verify',
      { acceptQuality: true, verify: false, precisions: ['q4'] },
      /does not look at/,
      /Leave one/,
    ],
  ])('%s is refused, and a combination that works named', (_, options, message, next) => {
    const plan = (): unknown => planPrecisions({ out: 'model.onnx', ...options });
    expect(plan).toThrow(UsageError);
    expect(plan).toThrow(message);
    try {
      plan();
    } catch (error) {
      expect((error as UsageError).next).toMatch(next);
    }
  });
});

describe('keepPlaces', () => {
  const names = {
    patch: 'backbone.patch_embed.projection.weight',
    head: 'head.fc.weight',
    table: 'backbone.layers.1.attn.relative_position_bias_table',
    first: 'backbone.layers.0.attn.qkv.weight',
    middle: 'backbone.layers.1.ffn.layers.0.0.weight',
    last: 'backbone.layers.2.attn.proj.weight',
  };
  it.each<[string, (keyof typeof names)[]]>([
    ['patch', ['patch']],
    ['head', ['head']],
    ['position', ['table']],
    ['first', ['first']],
    ['last', ['last']],
    ['attention', ['first', 'last']],
    ['mlp', ['middle']],
    ['layers.1', ['middle']],
    ['none', []],
    ['patch,last', ['patch', 'last']],
  ])('%s', (places, kept) => {
    const keep = keepPlaces(places.split(','), 3);
    expect(Object.entries(names).flatMap(([key, name]) => (keep.has(name) ? [key] : []))).toEqual(kept);
  });
});

describe('precision', () => {
  it.each(['bf16', '', '__proto__', 'FP16'])('%s is none', (name) => {
    expect(() => precision(name)).toThrow(/is no precision/);
  });
});
