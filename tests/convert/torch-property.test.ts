/** Properties of the PyTorch readers: views of every kind, and mutated files. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { memorySource } from '../../src/bytes.js';
import { gather, isContiguous, lastElement } from '../../src/convert/containers/gather.js';
import { openSource } from '../../src/convert/open.js';
import { ConvertBeitError } from '../../src/errors.js';
import { pthFiles } from './pth-goldens.js';

const noSibling = (): Promise<never> => Promise.reject(new ConvertBeitError('no siblings'));

/** Element by element, as the strides say. */
function naive(bytes: Uint8Array, shape: number[], strides: number[], offset: number, width: number): Buffer {
  const count = shape.reduce((all, side) => all * side, 1);
  const out = Buffer.alloc(count * width);
  for (let i = 0; i < count; i++) {
    let rest = i;
    let at = offset;
    for (let dim = shape.length - 1; dim >= 0; dim--) {
      at += (rest % shape[dim]) * strides[dim];
      rest = Math.floor(rest / shape[dim]);
    }
    out.set(bytes.subarray(at * width, (at + 1) * width), i * width);
  }
  return out;
}

async function gathered(
  bytes: Uint8Array,
  shape: number[],
  strides: number[],
  offset: number,
  width: number,
): Promise<{ bytes: Buffer; chunks: number; longestRead: number }> {
  const inner = memorySource('x', bytes);
  let longestRead = 0;
  const source = {
    ...inner,
    read: (start: number, end: number) => {
      longestRead = Math.max(longestRead, end - start);
      return inner.read(start, end);
    },
  };
  const chunks: Uint8Array[] = [];
  for await (const chunk of gather(
    { source, start: 0, end: bytes.length },
    { shape, strides, offset, width },
  )) {
    chunks.push(chunk);
  }
  return { bytes: Buffer.concat(chunks), chunks: chunks.length, longestRead };
}

describe('gather', () => {
  it('is the naive loop, for any shape and strides', async () => {
    const dims = fc.array(fc.tuple(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 0, max: 40 })), {
      maxLength: 5,
    });
    await fc.assert(
      fc.asyncProperty(
        dims,
        fc.integer({ min: 0, max: 9 }),
        fc.constantFrom(1, 2, 4, 8),
        async (all, offset, width) => {
          const shape = all.map(([side]) => side);
          const strides = all.map(([, stride]) => stride);
          const last = lastElement({ shape, strides, offset });
          const bytes = Uint8Array.from({ length: (last + 1) * width }, (_, i) => (i * 31 + (i >> 8)) % 256);
          const found = await gathered(bytes, shape, strides, offset, width);
          expect(found.bytes.equals(naive(bytes, shape, strides, offset, width))).toBe(true);
          const contiguous = naive(bytes, shape, strides, offset, width).equals(
            bytes.subarray(offset * width),
          );
          if (isContiguous(shape, strides)) expect(contiguous).toBe(true);
        },
      ),
      { numRuns: 300 },
    );
  });

  it.each<[string, number[], number[], number]>([
    ['a transposed matrix', [3000, 2500], [1, 3000], 4],
    ['a matrix transposed far apart', [200, 60], [1, 120_000], 4],
    ['every hundredth number', [70_000], [100], 4],
    ['a repeated row', [5000, 600], [0, 1], 4],
    ['a repeated column', [5000, 600], [1, 0], 4],
    ['channels last', [8, 64, 96, 96], [589_824, 1, 6144, 64], 2],
  ])('%s: in bounded pieces', async (_, shape, strides, width) => {
    const last = lastElement({ shape, strides, offset: 0 });
    const bytes = Buffer.alloc((last + 1) * width);
    for (let i = 0; i + 4 <= bytes.length; i += 4) bytes.writeUInt32LE((i * 2654435761) % 2 ** 32, i);
    const found = await gathered(bytes, shape, strides, 0, width);
    expect(found.longestRead).toBeLessThanOrEqual(16 * 1024 * 1024);
    expect(found.chunks).toBe(Math.ceil(found.bytes.length / (8 * 1024 * 1024)));
    expect(found.bytes.equals(naive(bytes, shape, strides, 0, width))).toBe(true);
  });
});

describe('mutated files of PyTorch', () => {
  const files = [
    'zip_model',
    'zip_views',
    'zip_torch2',
    'legacy_views',
    'legacy_official_full',
    'zip_misc_globals',
  ];
  it.each(files)('%s: read, or refused by an error of this package', async (name) => {
    const original = pthFiles().get(`${name}.pth`)!;
    const edit = fc.tuple(fc.nat(original.length - 1), fc.integer({ min: 0, max: 255 }), fc.boolean());
    await fc.assert(
      fc.asyncProperty(fc.array(edit, { minLength: 1, maxLength: 6 }), async (edits) => {
        const bytes = Buffer.from(original);
        for (const [at, value, late] of edits) {
          // Half of the edits where the pickle or the directory is.
          bytes[late ? (name.startsWith('zip') ? bytes.length - 1 - (at % 3000) : at % 4000) : at] = value;
        }
        try {
          const checkpoint = await openSource(memorySource('x.pth', bytes), noSibling);
          for (const tensor of checkpoint.tensors.values()) {
            for await (const chunk of tensor.chunks()) expect(chunk.length).toBeGreaterThan(0);
          }
        } catch (error) {
          expect(error).toBeInstanceOf(ConvertBeitError);
        }
      }),
      { numRuns: 150 },
    );
  });

  it.each(['zip_model', 'legacy_model'])('%s: cut anywhere, it is refused', async (name) => {
    const original = pthFiles().get(`${name}.pth`)!;
    await fc.assert(
      fc.asyncProperty(fc.nat(original.length - 1), async (length) => {
        const cut = memorySource('x.pth', original.subarray(0, length));
        await expect(openSource(cut, noSibling)).rejects.toBeInstanceOf(ConvertBeitError);
      }),
      { numRuns: 200 },
    );
  });
});
