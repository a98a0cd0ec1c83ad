import { readFileSync } from 'node:fs';
import onnxProto from '#onnx-proto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ByteSource } from '../../src/bytes.js';
import { openOnnxFile, readOnnxFile } from '../../src/verify/onnx-file.js';
import { Exports } from './exported.js';
import {
  encodeModel,
  withTensor,
  read,
  field,
  varint,
  nested,
  bytes,
  text,
  type TensorFields,
} from './encode.js';

const { onnx } = onnxProto;
const exports = new Exports();
let golden: { path: string; bytes: Uint8Array };

beforeAll(async () => {
  const { path } = await exports.export('v1_cls');
  golden = { path, bytes: new Uint8Array(readFileSync(path)) };
});
afterAll(async () => {
  await exports.close();
});

describe('reading a written file', () => {
  it('finds what onnx-proto finds', async () => {
    const file = await openOnnxFile(golden.path);
    const whole = onnx.ModelProto.decode(golden.bytes);
    const graph = whole.graph!;
    expect(file.irVersion).toBe(Number(whole.irVersion));
    expect(file.producer).toEqual({ name: whole.producerName, version: whole.producerVersion });
    expect(file.opsets).toEqual(new Map([['', 17]]));
    expect(file.metadata).toEqual(new Map(whole.metadataProps.map(({ key, value }) => [key, value])));
    expect(file.nodes.map(({ type, name, inputs, outputs }) => ({ type, name, inputs, outputs }))).toEqual(
      graph.node!.map(({ opType, name, input, output }) => ({
        type: opType,
        name,
        inputs: input,
        outputs: output,
      })),
    );
    const attributes = file.nodes.flatMap((node) => [...node.attributes]);
    const theirs = graph
      .node!.flatMap((node) => node.attribute!)
      .map((attribute) => [
        attribute.name,
        attribute.type === 1
          ? { kind: 'float', value: attribute.f }
          : attribute.type === 2
            ? { kind: 'int', value: Number(attribute.i) }
            : { kind: 'ints', value: attribute.ints!.map(Number) },
      ]);
    expect(attributes).toEqual(theirs);
    expect(file.inputs).toEqual([{ name: 'pixel_values', dataType: 1, shape: ['batch', 3, 32, 32] }]);
    expect(file.outputs).toEqual([{ name: 'logits', dataType: 1, shape: ['batch', 10] }]);
    expect(file.foreign).toEqual([]);
    expect(file.initializers.size).toBe(graph.initializer!.length);
    for (const { name, dims, rawData, dataType } of graph.initializer!) {
      const ours = file.initializers.get(name!)!;
      expect(ours.dims).toEqual(dims!.map(Number));
      expect(ours.dataType).toBe(dataType);
      const { source, start, end } = ours.stored;
      expect(Buffer.compare(await source.read(start, end), rawData!)).toBe(0);
    }
    await file.close();
  });

  it('reads no weights', async () => {
    const reads: [number, number][] = [];
    const size = 1000 * 1024 * 1024 * 1024;
    // 1 TB of weights: nobody could have them in memory.
    const raw = varint(size);
    const tensorHead = [
      ...nested(8, text('w')),
      ...field(2, 0, 1),
      ...field(1, 0, ...varint(size / 4)),
      ...field(9, 2, ...raw),
    ];
    const graphLength = size + tensorHead.length + 1 + varint(size + tensorHead.length).length;
    const head = [
      ...field(7, 2, ...varint(graphLength)),
      ...field(5, 2, ...varint(size + tensorHead.length)),
      ...tensorHead,
    ];
    const source: ByteSource = {
      name: 'huge.onnx',
      size: head.length + size,
      read(start, end) {
        reads.push([start, end]);
        const out = new Uint8Array(end - start);
        out.set(head.slice(start, end));
        return Promise.resolve(out);
      },
      readInto: () => Promise.reject(new Error('not needed')),
      close: () => Promise.resolve(),
    };
    const file = await readOnnxFile(source);
    expect(file.initializers.get('w')!.stored.end).toBe(head.length + size);
    expect(reads.reduce((sum, [start, end]) => sum + end - start, 0)).toBeLessThan(300_000);
  });
});

describe('attributes and dimensions', () => {
  const attribute = async (fields: NonNullable<Parameters<typeof onnx.AttributeProto.encode>[0]>) => {
    const file = await read(encodeModel({ graph: { node: [{ opType: 'X', attribute: [fields] }] } }));
    return file.nodes[0].attributes.get(fields.name!);
  };
  it.each([
    [
      { name: 'a', type: 1, f: 1.5 },
      { kind: 'float', value: 1.5 },
    ],
    [
      { name: 'a', type: 1 },
      { kind: 'float', value: 0 },
    ],
    [
      { name: 'a', type: 2, i: -3 },
      { kind: 'int', value: -3 },
    ],
    [
      { name: 'a', type: 2 },
      { kind: 'int', value: 0 },
    ],
    [
      { name: 'a', type: 3, s: Buffer.from('none') },
      { kind: 'string', value: 'none' },
    ],
    [
      { name: 'a', type: 7, ints: [1, -1, 2 ** 40] },
      { kind: 'ints', value: [1, -1, 2 ** 40] },
    ],
    [
      { name: 'a', type: 7 },
      { kind: 'ints', value: [] },
    ],
    [
      { name: 'a', type: 6, floats: [0.5, -2] },
      { kind: 'floats', value: [0.5, -2] },
    ],
    [
      { name: 'a', type: 4, t: { dims: [1], dataType: 1, floatData: [1] } },
      { kind: 'tensor', bytes: 11 },
    ],
    [
      { name: 'a', type: 5, g: { name: 'inner' } },
      { kind: 'other', what: 'a subgraph' },
    ],
  ])('%j', async (fields, expected) => {
    expect(await attribute(fields)).toEqual(expected);
  });

  it('tells fixed, symbolic and silent dimensions apart', async () => {
    const dim = [{ dimValue: 3 }, { dimParam: 'batch' }, {}, { dimValue: 0 }];
    const input = [{ name: 'x', type: { tensorType: { elemType: 1, shape: { dim } } } }, { name: 'y' }];
    expect((await read(encodeModel({ graph: { input } }))).inputs).toEqual([
      { name: 'x', dataType: 1, shape: [3, 'batch', null, 0] },
      { name: 'y', dataType: undefined, shape: undefined },
    ]);
  });
});

describe('typed lists become bytes', () => {
  const contents = async (tensor: TensorFields): Promise<Uint8Array> => {
    const { stored } = (await read(withTensor({ name: 't', ...tensor }))).initializers.get('t')!;
    return stored.source.read(stored.start, stored.end);
  };
  it.each([
    ['float_data', { dims: [2], dataType: 1, floatData: [1, -2] }, Float32Array.of(1, -2)],
    ['double_data', { dims: [1], dataType: 11, doubleData: [0.1] }, Float64Array.of(0.1)],
    ['int32_data', { dims: [2], dataType: 6, int32Data: [7, -7] }, Int32Array.of(7, -7)],
    ['int32_data of int8', { dims: [2], dataType: 3, int32Data: [7, -7] }, Int8Array.of(7, -7)],
    ['int64_data', { dims: [2], dataType: 7, int64Data: [-1, 2 ** 40] }, BigInt64Array.of(-1n, 2n ** 40n)],
    ['nothing', { dims: [0], dataType: 1 }, Float32Array.of()],
  ])('%s', async (_, tensor, expected) => {
    expect(Buffer.from(await contents(tensor))).toEqual(Buffer.from(expected.buffer));
  });

  it('reads unpacked lists and packed dims', async () => {
    const tensor = [
      ...nested(8, text('t')),
      ...field(2, 0, 7),
      ...nested(1, [1, 2]),
      ...field(7, 0, 5),
      ...field(7, 0, 6),
    ];
    const file = await read(bytes(nested(7, nested(5, tensor))));
    const { dims, stored } = file.initializers.get('t')!;
    expect(dims).toEqual([1, 2]);
    expect(new BigInt64Array((await stored.source.read(0, 16)).slice().buffer)).toEqual(
      BigInt64Array.of(5n, 6n),
    );
  });
});
