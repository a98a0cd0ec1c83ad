import { describe, expect, it } from 'vitest';
import { relativePositionIndex, tableRows, type BeitConfig } from '../../src/beit.js';
import { checkIndexBuffers, indexWindow } from '../../src/convert/relative-position.js';
import { memorySource } from '../../src/bytes.js';
import { LayoutError } from '../../src/errors.js';
import { bytesOf, memoryTensor, storedTensor, type Tensor } from '../../src/tensor.js';

type Window = readonly [number, number];

function values(window: Window, dtype: 'I64' | 'I32'): Uint8Array {
  const index = relativePositionIndex(window);
  return bytesOf(dtype === 'I32' ? index : BigInt64Array.from(index, BigInt));
}

function indexTensor(window: Window, dtype: 'I64' | 'I32' = 'I64'): Tensor {
  const tokens = window[0] * window[1] + 1;
  return memoryTensor(dtype, [tokens, tokens], values(window, dtype));
}

describe('the window an index buffer was made for', () => {
  it.each<[Window]>([[[1, 1]], [[2, 2]], [[6, 10]], [[10, 6]], [[14, 14]], [[2, 3]], [[24, 24]], [[32, 32]]])(
    '%j, from int64 and int32',
    async (window) => {
      expect(await indexWindow(indexTensor(window), tableRows(window))).toEqual(window);
      expect(await indexWindow(indexTensor(window, 'I32'), tableRows(window))).toEqual(window);
    },
  );

  it.each<[Window]>([[[1, 5]], [[5, 1]]])(
    '%j cannot be told: a single row and column have one index',
    async (window) => {
      expect(await indexWindow(indexTensor(window), tableRows(window))).toBeUndefined();
      expect([...relativePositionIndex([1, 5])]).toEqual([...relativePositionIndex([5, 1])]);
    },
  );

  it('reads one row, not the whole buffer', async () => {
    const window = [24, 24] as const;
    const source = memorySource('x', values(window, 'I64'));
    let bytes = 0;
    const spy = {
      ...source,
      read: (start: number, end: number) => ((bytes += end - start), source.read(start, end)),
    };
    const tensor = storedTensor('I64', [577, 577], { source: spy, start: 0, end: source.size });
    expect(await indexWindow(tensor, tableRows(window))).toEqual(window);
    expect(bytes).toBe(577 * 8);
  });

  it.each<[string, Tensor, number]>([
    ['a table of another window', indexTensor([8, 8]), tableRows([14, 14])],
    ['zeros', memoryTensor('I64', [5, 5], new Uint8Array(200)), 12],
    ['floats', memoryTensor('F32', [5, 5], new Uint8Array(100)), 12],
    ['not square', memoryTensor('I64', [5, 4], new Uint8Array(160)), 12],
    ['one dimension', memoryTensor('I64', [25], new Uint8Array(200)), 12],
    ['a single element', memoryTensor('I64', [1, 1], new Uint8Array(8)), 12],
    ['empty', memoryTensor('I64', [0, 0], new Uint8Array(0)), 12],
  ])('%s: none', async (_, tensor, rows) => {
    expect(await indexWindow(tensor, rows)).toBeUndefined();
  });
});

describe('checking index buffers', () => {
  const CANONICAL = 'backbone.layers.0.attn.relative_position_index';
  const check = (window: Window, tensor: Tensor): Promise<void> =>
    checkIndexBuffers(new Map([['index', tensor]]), new Map([[CANONICAL, 'index']]), {
      window,
      depth: 1,
      classToken: true,
      relativePosition: true,
      sharedRelativePosition: false,
    } as BeitConfig);

  // 24×24 takes more than one piece of what is compared at a time
  it.each<[Window]>([[[2, 2]], [[6, 10]], [[24, 24]]])(
    '%j is accepted, from int64 and int32, in memory or stored',
    async (window) => {
      for (const dtype of ['I64', 'I32'] as const) {
        const tensor = indexTensor(window, dtype);
        await check(window, tensor);
        const bytes = values(window, dtype);
        const source = memorySource('x', Buffer.concat([Buffer.alloc(3), bytes]));
        await check(window, storedTensor(dtype, tensor.shape, { source, start: 3, end: 3 + bytes.length }));
      }
    },
  );

  it.each<[Window, 'I64' | 'I32', number]>([
    [[24, 24], 'I64', 577 * 577 - 1],
    [[24, 24], 'I64', 577 * 300 + 12],
    [[24, 24], 'I32', 577 * 577 - 1],
    [[2, 2], 'I32', 0],
  ])('%j %s: one wrong element at %i is named', async (window, dtype, at) => {
    const bytes = Uint8Array.from(values(window, dtype));
    const width = dtype === 'I64' ? 8 : 4;
    bytes[at * width] ^= 1;
    const tokens = window[0] * window[1] + 1;
    const needed = relativePositionIndex(window)[at];
    await expect(check(window, memoryTensor(dtype, [tokens, tokens], bytes))).rejects.toThrow(
      `index[${Math.floor(at / tokens)}, ${at % tokens}] is ${needed ^ 1}; a window of ${window.join('×')} patches needs ${needed}`,
    );
  });

  it('a transposed window has the right size and is refused', async () => {
    await expect(check([6, 10], indexTensor([10, 6]))).rejects.toBeInstanceOf(LayoutError);
  });
});
