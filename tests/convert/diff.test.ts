import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Checkpoint } from '../../src/convert/checkpoint.js';
import { diffCheckpoints, isEqual, type CheckpointDiff, type DiffRow } from '../../src/convert/diff.js';
import { openCheckpoint } from '../../src/convert/open.js';
import { diff } from '../../src/index.js';
import { bytesOf, memoryTensor, readBytes, type StateDict, type Tensor } from '../../src/tensor.js';
import { goldenPath } from './goldens.js';
import { writeSafetensors } from './manifest.js';

const official = goldenPath('v1_cls', 'official.safetensors');
const mmpretrain = goldenPath('v1_cls', 'mmpretrain.safetensors');

function inMemory(tensors: StateDict): Checkpoint {
  return { container: 'memory', tensors, metadata: new Map(), files: [], close: () => Promise.resolve() };
}

let golden: ReadonlyMap<string, Tensor>;
beforeAll(async () => {
  const checkpoint = await openCheckpoint(official);
  const tensors = new Map<string, Tensor>();
  for (const [name, tensor] of checkpoint.tensors) {
    tensors.set(name, memoryTensor(tensor.dtype, tensor.shape, await readBytes(tensor)));
  }
  await checkpoint.close();
  golden = tensors;
});

/** The golden with some tensors changed, added or (`undefined`) left out, against the golden. */
async function against(changes: Record<string, Tensor | undefined>): Promise<CheckpointDiff> {
  const changed = new Map(golden);
  for (const [name, tensor] of Object.entries(changes)) {
    if (tensor) changed.set(name, tensor);
    else changed.delete(name);
  }
  return await diffCheckpoints(inMemory(golden), inMemory(changed));
}

const odd = ({ rows }: CheckpointDiff): DiffRow[] => rows.filter(({ status }) => status !== 'equal');
const f32 = (shape: number[], ...values: number[]): Tensor =>
  memoryTensor('F32', shape, bytesOf(Float32Array.from(values)));

async function nudged(name: string, element: number, by: number): Promise<Tensor> {
  const tensor = golden.get(name)!;
  const bytes = (await readBytes(tensor)).slice();
  new Float32Array(bytes.buffer)[element] += by;
  return memoryTensor(tensor.dtype, tensor.shape, bytes);
}

describe('upstream’s own files of one model', () => {
  it('official and mmpretrain are equal, index buffers included', async () => {
    const result = await diff({ a: official, b: mmpretrain });
    expect(result).toMatchObject({ equal: true, counts: { equal: 58, rebuilt: 0 } });
    expect([result.a.layout, result.b.layout]).toEqual(['official', 'mmpretrain']);
  });

  it('another model is not, and every tensor says how far', async () => {
    const result = await diff({ a: official, b: goldenPath('v2_cls', 'official.safetensors') });
    expect(result).toMatchObject({ equal: false, counts: { equal: 3, different: 55 } });
    const table = result.rows.find(({ name }) =>
      name.endsWith('layers.1.attn.relative_position_bias_table'),
    )!;
    expect(table).toMatchObject({ status: 'different', a: { shape: [228, 4] }, differing: 912 });
    expect(result.maxAbs).toBe(Math.max(...result.rows.map(({ maxAbs }) => maxAbs ?? 0)));
  });
});

describe('rows', () => {
  it('one element of one tensor', async () => {
    const result = await against({
      'blocks.2.mlp.fc1.weight': await nudged('blocks.2.mlp.fc1.weight', 33, 0.5),
    });
    expect(odd(result)).toEqual([
      {
        name: 'backbone.layers.2.ffn.layers.0.0.weight',
        status: 'different',
        a: { name: 'blocks.2.mlp.fc1.weight', dtype: 'F32', shape: [128, 32] },
        b: { name: 'blocks.2.mlp.fc1.weight', dtype: 'F32', shape: [128, 32] },
        differing: 1,
        maxAbs: expect.closeTo(0.5, 5) as number,
        at: [1, 1],
      },
    ]);
    expect(isEqual(result)).toBe(false);
  });

  it.each<[string, () => Record<string, Tensor | undefined>, Partial<DiffRow>]>([
    ['another shape', () => ({ 'head.bias': f32([2], 1, 2) }), { name: 'head.fc.bias', status: 'shape' }],
    ['missing', () => ({ 'head.bias': undefined }), { name: 'head.fc.bias', status: 'only-a' }],
    [
      'too much',
      () => ({ 'norm.bias': f32([1], 0) }),
      { name: 'backbone.ln1.bias', status: 'only-b', b: { name: 'norm.bias', dtype: 'F32', shape: [1] } },
    ],
    ['a name of no layout', () => ({ mystery: f32([1], 0) }), { name: 'mystery', status: 'only-b' }],
    [
      'an index that every loader rebuilds',
      () => ({ 'blocks.0.attn.relative_position_index': undefined }),
      { name: 'backbone.layers.0.attn.relative_position_index', status: 'rebuilt' },
    ],
  ])('%s', async (_, changes, expected) => {
    const result = await against(changes());
    expect(odd(result)).toHaveLength(1);
    expect(odd(result)[0]).toMatchObject(expected);
    expect(isEqual(result)).toBe(expected.status === 'rebuilt');
  });

  it('an index on one side only that nobody would rebuild is a difference', async () => {
    const index = golden.get('blocks.0.attn.relative_position_index')!;
    const bytes = (await readBytes(index)).slice();
    new BigInt64Array(bytes.buffer)[300] = 0n;
    const stale = memoryTensor('I64', index.shape, bytes);
    const a = new Map(golden).set('blocks.0.attn.relative_position_index', stale);
    const b = new Map(golden);
    b.delete('blocks.0.attn.relative_position_index');
    const result = await diffCheckpoints(inMemory(a), inMemory(b));
    expect(odd(result)).toMatchObject([{ status: 'only-a' }]);
    expect(isEqual(result)).toBe(false);
  });

  it('another dtype is a difference, and the values are compared', async () => {
    const bias = golden.get('head.bias')!;
    const values = new Float32Array((await readBytes(bias)).buffer);
    const wide = memoryTensor('F64', bias.shape, bytesOf(Float64Array.from(values)));
    expect(odd(await against({ 'head.bias': wide }))).toMatchObject([{ status: 'dtype', maxAbs: 0 }]);
    const off = Float64Array.from(values);
    off[3] += 0.25;
    const result = await against({ 'head.bias': memoryTensor('F64', bias.shape, bytesOf(off)) });
    expect(odd(result)).toMatchObject([{ status: 'dtype', maxAbs: 0.25, differing: 1, at: [3] }]);
  });
});

describe('files that are no whole models', () => {
  const folder = mkdtempSync(join(tmpdir(), 'convert-beit-diff-'));
  afterAll(() => {
    rmSync(folder, { recursive: true });
  });

  it('what is there is compared, across layouts', async () => {
    const bias = golden.get('blocks.1.attn.proj.bias')!;
    const [a, b] = [join(folder, 'a.safetensors'), join(folder, 'b.safetensors')];
    await writeSafetensors(a, new Map([['blocks.1.attn.proj.bias', bias]]));
    await writeSafetensors(b, new Map([['backbone.layers.1.attn.proj.bias', bias]]));
    expect(await diff({ a, b })).toMatchObject({ equal: true, counts: { equal: 1 } });
  });

  it('a query without its key stays what it is', async () => {
    const name = 'beit.encoder.layer.0.attention.attention.query.weight';
    const [a, b] = [join(folder, 'q.safetensors'), join(folder, 'none.safetensors')];
    await writeSafetensors(a, new Map([[name, f32([2, 2], 1, 2, 3, 4)]]));
    await writeSafetensors(b, new Map([['head.bias', f32([1], 0)]]));
    const result = await diff({ a, b });
    expect(result.rows.map((row) => [row.name, row.status])).toEqual([
      [name, 'only-a'],
      ['head.fc.bias', 'only-b'],
    ]);
  });

  it('names of no layout at all are compared as they are', async () => {
    const [a, b] = [join(folder, 'x.safetensors'), join(folder, 'y.safetensors')];
    await writeSafetensors(a, new Map([['conv1.weight', f32([2], 1, 2)]]));
    await writeSafetensors(b, new Map([['conv1.weight', f32([2], 1, 3)]]));
    const result = await diff({ a, b });
    expect(result.a.layout).toBeUndefined();
    expect(result.rows.map((row) => [row.name, row.status, row.maxAbs])).toContainEqual([
      'conv1.weight',
      'different',
      1,
    ]);
  });
});
