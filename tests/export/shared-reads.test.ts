/**
 * One pass over the source for several files: everybody gets every byte, nothing is read twice, nobody waits for ever.
 */
import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { ByteSource } from '../../src/bytes.js';
import { SourceDigest } from '../../src/digest.js';
import { GraphBuilder } from '../../src/export/graph.js';
import { SharedReads } from '../../src/export/shared-reads.js';
import { memoryTensor, readBytes, storedTensor, type Tensor } from '../../src/tensor.js';

const MEGABYTE = 1024 * 1024;

/** Bytes that tell their place, and a list of what was read. */
function countingSource(size: number): ByteSource & { readonly reads: [number, number][] } {
  const reads: [number, number][] = [];
  const readInto = (target: Uint8Array, start: number): Promise<void> => {
    reads.push([start, start + target.length]);
    for (let i = 0; i < target.length; i++) target[i] = ((start + i) * 2654435761) >>> 13;
    return Promise.resolve();
  };
  return {
    name: 'counted',
    size,
    reads,
    readInto,
    async read(start, end) {
      const bytes = new Uint8Array(end - start);
      await readInto(bytes, start);
      return bytes;
    },
    close: () => Promise.resolve(),
  };
}

/** Small, several blocks, a row longer than a block, a last row that is not full. */
const SHAPES = [[16], [3000, 1100], [2, 1_500_000], [70_001, 3], [8]];

function source(): { file: ReturnType<typeof countingSource>; tensors: Tensor[] } {
  const sizes = SHAPES.map((shape) => shape.reduce((a, b) => a * b, 4));
  const file = countingSource(sizes.reduce((a, b) => a + b));
  let at = 0;
  const tensors = SHAPES.map((shape, i) =>
    storedTensor('F32', shape, { source: file, start: at, end: (at += sizes[i]) }),
  );
  return { file, tensors };
}

function graphOf(tensors: readonly Tensor[]) {
  const g = new GraphBuilder(17);
  tensors.forEach((tensor, i) => g.initializer(`t${i}`, tensor));
  return g.build('test');
}

const none = new Map<ByteSource, SourceDigest>();

describe('SharedReads', () => {
  it.each([1, 2, 5])('gives %d readers the same bytes from one pass, and hashes them', async (readers) => {
    const { file, tensors } = source();
    const digest = new SourceDigest(file);
    const shared = new SharedReads(readers, new AbortController().signal, new Map([[file, digest]]));
    const graphs = Array.from({ length: readers }, () => shared.graph(graphOf(tensors)));
    const hashes = await Promise.all(
      graphs.map(async (graph, reader) => {
        const hash = createHash('sha256');
        for (const { tensor } of graph.initializers) {
          for await (const chunk of tensor.chunks()) {
            // Readers are of different speed; a block must not change under a slow one.
            if (reader % 2 === 1) await new Promise((resolve) => setTimeout(resolve, 1));
            hash.update(chunk);
          }
        }
        return hash.digest('hex');
      }),
    );
    const read = file.reads.reduce((sum, [start, end]) => sum + end - start, 0);
    const hex = await digest.hex();
    expect(read).toBe(file.size);
    expect(new Set(file.reads.map(String)).size).toBe(file.reads.length);
    const whole = createHash('sha256')
      .update(await file.read(0, file.size))
      .digest('hex');
    expect([...new Set(hashes)]).toEqual([whole]);
    expect(hex).toBe(whole);
  });

  it('lets small tensors be taken in any order', async () => {
    const { tensors } = source();
    const shared = new SharedReads(2, new AbortController().signal, none);
    const [a, b] = [shared.graph(graphOf(tensors)), shared.graph(graphOf(tensors))];
    const order = [4, 0, 1, 2, 3];
    const [first, second] = await Promise.all([
      (async () => {
        const out = [];
        for (const { tensor } of a.initializers) out.push((await readBytes(tensor)).length);
        return out;
      })(),
      (async () => {
        const out: number[] = [];
        for (const i of order) out[i] = (await readBytes(b.initializers[i].tensor)).length;
        return out;
      })(),
    ]);
    expect(second).toEqual(first);
  });

  it('ends all when one fails', async () => {
    const { tensors } = source();
    const stop = new AbortController();
    const shared = new SharedReads(2, stop.signal, none);
    const [a] = [shared.graph(graphOf(tensors)), shared.graph(graphOf(tensors))];
    const waiting = readBytes(a.initializers[1].tensor);
    stop.abort(new Error('the disk is full'));
    await expect(waiting).rejects.toThrow('the disk is full');
    await expect(readBytes(a.initializers[2].tensor)).rejects.toThrow('the disk is full');
  });

  it('says when a weight is read again', async () => {
    const { tensors } = source();
    const shared = new SharedReads(1, new AbortController().signal, none);
    const { initializers } = shared.graph(graphOf(tensors));
    await readBytes(initializers[1].tensor);
    await expect(readBytes(initializers[1].tensor)).rejects.toThrow('read more often than announced');
  });

  it('passes a failing source on to every reader', async () => {
    const broken: Tensor = {
      dtype: 'F32',
      shape: [MEGABYTE],

      async *chunks() {
        await Promise.resolve();
        throw new Error('unreadable');
      },
    };
    const shared = new SharedReads(2, new AbortController().signal, none);
    const graphs = [shared.graph(graphOf([broken])), shared.graph(graphOf([broken]))];
    const results = await Promise.allSettled(
      graphs.map(({ initializers }) => readBytes(initializers[0].tensor)),
    );
    expect(results.map((result) => result.status === 'rejected' && String(result.reason))).toEqual([
      'Error: unreadable',
      'Error: unreadable',
    ]);
  });

  it('leaves constants alone', () => {
    const constant = memoryTensor('I64', [2], new Uint8Array(16));
    const shared = new SharedReads(2, new AbortController().signal, none);
    expect(shared.graph(graphOf([constant])).initializers[0].tensor).toBe(constant);
  });
});
