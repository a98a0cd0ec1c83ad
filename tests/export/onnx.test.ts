import onnxProto from '#onnx-proto';
import { describe, expect, it } from 'vitest';
import { memorySource } from '../../src/bytes.js';
import { GraphBuilder, int } from '../../src/export/graph.js';
import { irVersion, layoutOnnx, PROTOBUF_LIMIT } from '../../src/export/onnx.js';
import { pieceLength, type Piece } from '../../src/sink.js';
import { bytesOf, memoryTensor, readBytes, storedTensor, type Tensor } from '../../src/tensor.js';

const { onnx } = onnxProto;

async function join(pieces: readonly Piece[]): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for (const piece of pieces) {
    if (piece instanceof Uint8Array) parts.push(piece);
    else parts.push('tensor' in piece ? await readBytes(piece.tensor) : await piece.bytes());
  }
  return Buffer.concat(parts);
}

const floats = (...values: number[]): Tensor =>
  memoryTensor('F32', [values.length], bytesOf(Float32Array.from(values)));

function smallGraph(weight: Tensor): ReturnType<GraphBuilder['build']> {
  const g = new GraphBuilder(17);
  const x = g.input('x', ['batch', weight.shape[0]]);
  const sum = g.scoped('block', () => g.op('Add', [x, g.initializer('weight', weight)]));
  const scaled = g.op('Mul', [sum, g.scalar(2)]);
  g.output(g.op('Softmax', [scaled], { axis: int(-1) }), 'y', ['batch', weight.shape[0]]);
  return g.build('small');
}

describe('layoutOnnx', () => {
  it('says the size before the bytes, and onnx-proto reads back what was meant', async () => {
    const layout = await layoutOnnx(smallGraph(floats(1, -2, 3)), {
      producerVersion: '9.9.9',
      metadata: [
        { key: 'a', value: 'ü' },
        { key: 'late', value: '0000', final: () => Promise.resolve('done') },
      ],
    });
    const bytes = await join(layout.model);
    expect(bytes.length).toBe(layout.modelBytes);
    const model = onnx.ModelProto.decode(bytes);
    expect(Number(model.irVersion)).toBe(8);
    expect(model.opsetImport.map((set) => [set.domain, Number(set.version)])).toEqual([['', 17]]);
    expect(model.producerName).toBe('convert-beit');
    expect(model.metadataProps.map(({ key, value }) => [key, value])).toEqual([
      ['a', 'ü'],
      ['late', 'done'],
    ]);
    const graph = model.graph!;
    expect(graph.node!.map(({ opType, name, input, output }) => [opType, name, input, output])).toEqual([
      ['Add', 'block/Add', ['x', 'weight'], ['block/Add:0']],
      ['Mul', 'Mul', ['block/Add:0', 'const.f32.2'], ['Mul:0']],
      ['Softmax', 'Softmax', ['Mul:0'], ['y']],
    ]);
    const weight = graph.initializer!.find(({ name }) => name === 'weight')!;
    expect([...new Float32Array(Uint8Array.from(weight.rawData!).buffer)]).toEqual([1, -2, 3]);
    expect(
      graph.output![0].type!.tensorType!.shape!.dim!.map((d) => d.dimParam || Number(d.dimValue)),
    ).toEqual(['batch', 3]);
  });

  it('orders stored weights as their source does, so that reading is sequential', async () => {
    const source = memorySource('s', new Uint8Array(8192).fill(1));
    const at = (start: number): Tensor => storedTensor('F32', [512], { source, start, end: start + 2048 });
    const g = new GraphBuilder(17);
    const x = g.input('x', [512]);
    const second = g.op('Add', [x, g.initializer('second', at(4096))]);
    g.output(g.op('Add', [second, g.initializer('first', at(0))]), 'y', [512]);
    const layout = await layoutOnnx(g.build('order'), { producerVersion: '0', metadata: [] });
    const starts = layout.model.flatMap((piece) => ('tensor' in piece ? [piece.tensor.stored!.start] : []));
    expect(starts).toEqual([0, 4096]);
  });

  it('keeps large weights apart with external data, aligned, and small ones inside', async () => {
    const big = memoryTensor('F32', [1024], new Uint8Array(4096).fill(7));
    const layout = await layoutOnnx(smallGraph(big), { producerVersion: '0', metadata: [] }, 'm.onnx_data');
    const model = onnx.ModelProto.decode(await join(layout.model));
    const external = model.graph!.initializer!.filter((t) => t.dataLocation === 1);
    expect(external.map((t) => [t.name, t.externalData!.map(({ key, value }) => [key, value])])).toEqual([
      [
        'weight',
        [
          ['location', 'm.onnx_data'],
          ['offset', '0'],
          ['length', '4096'],
        ],
      ],
    ]);
    expect(layout.data!.reduce((sum, piece) => sum + pieceLength(piece), 0)).toBe(4096);
  });

  it.each([
    ['just below the limit', 2 ** 29 - 1024, true],
    ['beyond the limit', 2 ** 29, false],
  ])('one file %s', async (_, elements, fits) => {
    // 64-bit lengths without the bytes: the tensor is never pulled.
    const source = { ...memorySource('huge', new Uint8Array(0)), size: 2 ** 33 };
    const huge = storedTensor('F32', [elements], { source, start: 0, end: elements * 4 });
    const layout = layoutOnnx(smallGraph(huge), { producerVersion: '0', metadata: [] });
    if (fits) expect((await layout).modelBytes).toBeLessThanOrEqual(PROTOBUF_LIMIT);
    else await expect(layout).rejects.toThrow(/beyond protobuf's limit of 2 GiB/);
  });

  it('knows which IR belongs to which opset', () => {
    expect([17, 18, 19, 20, 21, 22, 23].map(irVersion)).toEqual([8, 8, 9, 9, 10, 10, 11]);
    expect(() => irVersion(16)).toThrow(/opset 16 is not supported/);
  });
});
