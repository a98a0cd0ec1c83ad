import { describe, expect, it } from 'vitest';
import type { BeitConfig } from '../../src/beit.js';
import {
  EnvironmentError,
  FormatError,
  InterruptedError,
  LayoutError,
  NetworkError,
  ShapeError,
  UsageError,
} from '../../src/errors.js';
import { readFloat32, type Tensor } from '../../src/tensor.js';
import { allocate, geometryOf, type Phase } from '../../src/verify/oracle-memory.js';
import { workerTeam } from '../../src/verify/oracle-team.js';
import { runOracle } from '../../src/verify/oracle.js';
import {
  SMALL,
  difference,
  largest,
  randomInput,
  randomModel,
  runningWorkers,
  tensorOf,
} from './oracle-model.js';

describe('the result', () => {
  it('has the same bits whatever the number of threads', async () => {
    const model = randomModel(SMALL);
    const input = randomInput(SMALL, 2);
    const [alone, ...others] = await Promise.all(
      [0, 1, 2, 3, undefined].map((threads) => runOracle(model, input, 2, { hidden: true, threads })),
    );
    for (const other of others) expect(other).toEqual(alone);
    expect(largest(alone.logits)).toBeGreaterThan(0.1);
    expect(alone.logits.some(Number.isNaN)).toBe(false);
  });

  it('of a batch is that of each image by itself', async () => {
    const model = randomModel(SMALL);
    const input = randomInput(SMALL, 3);
    const image = input.length / 3;
    const together = await runOracle(model, input, 3);
    for (let i = 0; i < 3; i++) {
      const alone = await runOracle(model, input.subarray(i * image, (i + 1) * image), 1);
      expect(together.logits.subarray(i * SMALL.classes, (i + 1) * SMALL.classes)).toEqual(alone.logits);
      expect(together.noise.logits[i]).toBe(alone.noise.logits[0]);
    }
  });

  it('does not depend on how the weights are cut: float64 weights take twice the ranges', async () => {
    const config: BeitConfig = { ...SMALL, depth: 1, hiddenSize: 192, mlpSize: 16_000, classes: 15_000 };
    const input = randomInput(config, 1);
    const narrow = await runOracle(randomModel(config), input, 1, { threads: 0 });
    const wide = await runOracle(randomModel(config, 'F64'), input, 1, { threads: 2 });
    expect(wide.logits).toEqual(narrow.logits);
  });

  it.each([
    ['F16', [0x3c00, 0xb800, 0x0001], [1, -0.5, 2 ** -24]],
    ['BF16', [0x3f80, 0xbf00, 0x4049], [1, -0.5, 3.140625]],
  ] as const)('reads %s weights exactly', async (dtype, bits, values) => {
    const exact = randomModel(SMALL);
    const half = randomModel(SMALL);
    const name = 'head.fc.weight';
    const shape = exact.tensors.get(name)!.shape;
    const count = SMALL.classes * SMALL.hiddenSize;
    const of = <T>(list: readonly T[]): T[] => Array.from({ length: count }, (_, i) => list[i % list.length]);
    (exact.tensors as Map<string, Tensor>).set(name, tensorOf('F32', shape, Float32Array.from(of(values))));
    (half.tensors as Map<string, Tensor>).set(name, tensorOf(dtype, shape, Uint16Array.from(of(bits))));
    const input = randomInput(SMALL, 1);
    expect((await runOracle(half, input, 1)).logits).toEqual((await runOracle(exact, input, 1)).logits);
  });

  it('uses nothing to the right of and below the last whole patch', async () => {
    const model = randomModel(SMALL);
    const [height, width] = SMALL.imageSize;
    const input = randomInput(SMALL, 1);
    const other = input.map((value, i) => (i % width >= 28 ? value + 1 : value));
    const taller: BeitConfig = { ...SMALL, imageSize: [height + 3, width] };
    const tall = new Float32Array(3 * (height + 3) * width).fill(5);
    for (let channel = 0; channel < 3; channel++) {
      const plane = input.subarray(channel * height * width, (channel + 1) * height * width);
      tall.set(plane, channel * (height + 3) * width);
    }
    const { logits } = await runOracle(model, input, 1);
    expect((await runOracle(model, other, 1)).logits).toEqual(logits);
    expect((await runOracle({ ...model, config: taller }, tall, 1)).logits).toEqual(logits);
  });

  it('adds a block’s own table and the shared one', async () => {
    const both = randomModel({ ...SMALL, depth: 1 });
    const shared = 'backbone.rel_pos_bias.relative_position_bias_table';
    const own = 'backbone.layers.0.attn.relative_position_bias_table';
    const [a, b] = [await readFloat32(both.tensors.get(shared)!), await readFloat32(both.tensors.get(own)!)];
    const tensors = new Map(both.tensors);
    tensors.delete(shared);
    const sum = Float64Array.from(a, (value, i) => value + b[i]);
    tensors.set(own, tensorOf('F64', both.tensors.get(own)!.shape, sum));
    const config: BeitConfig = { ...both.config, sharedRelativePosition: false };
    const input = randomInput(SMALL, 1);
    const error = difference(
      (await runOracle({ config, tensors }, input, 1)).logits,
      (await runOracle(both, input, 1)).logits,
    );
    expect(largest(error)).toBeLessThan(1e-13);
  });
});

describe('threads', () => {
  it('are not started for small work, and have ended afterwards', async () => {
    const counts: number[] = [];
    const onProgress = (): void => void counts.push(runningWorkers());
    await runOracle(randomModel(SMALL), randomInput(SMALL, 1), 1, { onProgress });
    await runOracle(randomModel(SMALL), randomInput(SMALL, 1), 1, { onProgress, threads: 2 });
    expect(counts).toEqual([0, 0, 2, 2]);
    expect(runningWorkers()).toBe(0);
  });

  it.each([0, 2])('stop when the signal fires (%i threads)', async (threads) => {
    const controller = new AbortController();
    const done: number[] = [];
    const running = runOracle(randomModel({ ...SMALL, depth: 6 }), randomInput(SMALL, 1), 1, {
      threads,
      signal: controller.signal,
      onProgress: (layer) => {
        done.push(layer);
        if (layer === 2) controller.abort();
      },
    });
    await expect(running).rejects.toThrow(InterruptedError);
    expect(done).toEqual([1, 2]);
    expect(runningWorkers()).toBe(0);
  });

  it('stop with the reason given, if it is an error of ours', async () => {
    const reason = new NetworkError('gone');
    const running = runOracle(randomModel(SMALL), randomInput(SMALL, 1), 1, {
      signal: AbortSignal.abort(reason),
    });
    await expect(running).rejects.toBe(reason);
  });

  it('report what is thrown in one of them', async () => {
    const team = workerTeam(allocate(geometryOf(SMALL, 1), 64), 2);
    const phase: Phase = {
      kind: 'linear',
      from: 'a',
      to: 'wide',
      slot: 0,
      weightBytes: 4,
      depth: 96,
      outputs: 288,
      firstRow: 0,
      rows: 288,
      bias: undefined,
      then: 'gelu',
      gamma: undefined,
    };
    const broken = { ...phase, from: 'nowhere' } as unknown as Phase;
    await expect(team.run(broken)).rejects.toThrow(TypeError);
    await expect(team.run(phase)).rejects.toThrow(TypeError);
    await team.close();
    expect(runningWorkers()).toBe(0);
  });

  it('report that one of them ended by itself', async () => {
    const url = new URL(
      'data:text/javascript,import { parentPort } from "node:worker_threads"; parentPort.on("message", () => process.exit(3));',
    );
    const team = workerTeam(allocate(geometryOf(SMALL, 1), 64), 2, url);
    const running = team.run({ kind: 'attention', tables: [] });
    await expect(running).rejects.toThrow(EnvironmentError);
    await expect(running).rejects.toThrow('ended by itself with code 3');
    await team.close();
    expect(runningWorkers()).toBe(0);
  });
});

describe('errors', () => {
  const cut = (tensor: Tensor, bytes: number): Tensor => ({
    ...tensor,
    async *chunks() {
      for await (const chunk of tensor.chunks()) {
        yield bytes < 0 ? chunk.subarray(0, bytes) : Buffer.concat([chunk, new Uint8Array(bytes)]);
      }
    },
  });

  it.each([
    ['ends early', -4],
    ['goes on after its last element', 4],
  ])('a tensor whose data %s', async (message, bytes) => {
    const model = randomModel(SMALL);
    const name = 'backbone.layers.1.attn.proj.weight';
    const tensors = new Map(model.tensors).set(name, cut(model.tensors.get(name)!, bytes));
    const running = runOracle({ ...model, tensors }, randomInput(SMALL, 1), 1, { threads: 2 });
    await expect(running).rejects.toThrow(FormatError);
    await expect(running).rejects.toThrow(`${name} is f32[96, 96], but its data ${message}`);
    expect(runningWorkers()).toBe(0);
  });

  it.each([
    ['too few values', 1, new Float32Array(5), {}, ShapeError],
    ['no image', 0, new Float32Array(0), {}, ShapeError],
    ['a negative number of threads', 1, randomInput(SMALL, 1), { threads: -1 }, UsageError],
    ['half a thread', 1, randomInput(SMALL, 1), { threads: 0.5 }, UsageError],
  ])('%s', async (_, batch, input, options, error) => {
    await expect(runOracle(randomModel(SMALL), input, batch, options)).rejects.toThrow(error);
  });

  it.each(['head.fc.weight', 'backbone.ln2.bias', 'backbone.layers.1.gamma_2'])(
    '%s is missing',
    async (name) => {
      const model = randomModel(SMALL);
      const tensors = new Map(model.tensors);
      tensors.delete(name);
      const running = runOracle({ ...model, tensors }, randomInput(SMALL, 1), 1);
      await expect(running).rejects.toThrow(LayoutError);
      await expect(running).rejects.toThrow(`${name} is missing`);
    },
  );

  it('an integer tensor where weights belong', async () => {
    const model = randomModel(SMALL);
    const name = 'head.fc.weight';
    const shape = model.tensors.get(name)!.shape;
    const tensors = new Map(model.tensors).set(name, tensorOf('I32', shape, new Int32Array(11 * 96)));
    const running = runOracle({ ...model, tensors }, randomInput(SMALL, 1), 1);
    await expect(running).rejects.toThrow(FormatError);
  });
});
