import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { InterruptedError, convertWeights, inspect } from '../../src/index.js';
import type { ParityError } from '../../src/errors.js';
import type * as writersModule from '../../src/convert/writers/index.js';
import { goldenPath } from '../convert/goldens.js';

const WRITERS = '../../src/convert/writers/index.js';
const src = goldenPath('v1_cls', 'official.safetensors');
let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'convert-beit-weights-'));
});
afterEach(async () => {
  vi.doUnmock(WRITERS);
  vi.resetModules();
  await rm(folder, { recursive: true });
});

/** The pipeline with a hand laid on the file between writing and verifying it. */
async function tampering(change: (path: string) => Promise<void>): Promise<typeof convertWeights> {
  const real = await vi.importActual<typeof writersModule>(WRITERS);
  vi.doMock(WRITERS, () => ({
    ...real,
    writeOutput: async (...args: Parameters<typeof real.writeOutput>) => {
      const written = await real.writeOutput(...args);
      await change(written.weights.path);
      return written;
    },
  }));
  vi.resetModules();
  return (await import('../../src/pipeline.js')).convertWeights;
}

/** Flip one bit of the file, counted from its end. */
const flip = (fromEnd: number) => async (path: string) => {
  const bytes = await readFile(path);
  bytes[bytes.length - fromEnd] ^= 1;
  await writeFile(path, bytes);
};

describe('a file that is not what was meant', () => {
  it.each([
    [
      'one bit of a weight',
      'out.safetensors',
      flip(50),
      'provenance',
      /head\.fc\.bias|head\.fc\.weight|elements differ/,
    ],
    [
      'a file that is cut off',
      'out.safetensors',
      async (path: string) => writeFile(path, (await readFile(path)).subarray(0, -4)),
      'structure',
      /is cut off/,
    ],
    [
      'one bit of a weight in .pth',
      'out.pth',
      async (path: string) => {
        const bytes = await readFile(path);
        // somewhere in the middle, where only weights are
        bytes[Math.floor(bytes.length / 2)] ^= 1;
        await writeFile(path, bytes);
      },
      'structure',
      /archive\/data\/\d+.*(CRC|checksum)/i,
    ],
  ])('%s: never gets its name', async (_, out, change, check, message) => {
    await writeFile(join(folder, out), 'old');
    const convert = await tampering(change);
    const error: unknown = await convert({ src, out: join(folder, out), to: 'mmpretrain' }).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toMatchObject({
      name: 'ParityError',
      exitCode: 4,
      message: expect.stringMatching(message) as string,
    });
    const { checks, verdict } = (error as ParityError).report as {
      verdict: string;
      checks: { name: string; passed: boolean }[];
    };
    expect(verdict).toBe('failed');
    expect(checks.find(({ passed }) => !passed)?.name).toBe(check);
    expect(await readFile(join(folder, out), 'utf8')).toBe('old');
    expect(await readdir(folder)).toEqual([out]);
  });

  it('a folder whose config says something else', async () => {
    const convert = await tampering(async (path) => {
      const config = path.replace('model.safetensors', 'config.json');
      const text = await readFile(config, 'utf8');
      await writeFile(config, text.replace('"layer_norm_eps": 0.000001', '"layer_norm_eps": 1e-12'));
    });
    const attempt = convert({ src, out: join(folder, 'hf/'), to: 'transformers' });
    await expect(attempt).rejects.toThrow(/config\.json gives another layerNormEps than the source has/);
    expect(await readdir(folder)).toEqual([]);
  });

  it('without verification nobody looks', async () => {
    const convert = await tampering(flip(50));
    const result = await convert({ src, out: join(folder, 'out.safetensors'), verify: false, digest: false });
    expect(result.parity).toMatchObject({ verdict: 'skipped', checks: [] });
    expect(result.output.sha256).toBeUndefined();
  });
});

describe('an interruption', () => {
  it.each([
    ['while it is written', 'write', 'out.pth'],
    ['while it is compared', 'compare', 'out.pth'],
    ['while a folder is compared', 'compare', 'hf/'],
  ])('%s leaves nothing behind', async (_, phase, out) => {
    const stop = new AbortController();
    const attempt = convertWeights({
      src,
      out: join(folder, '/', out),
      to: 'transformers',
      signal: stop.signal,
      onProgress: (event) => {
        if (event.phase === phase) stop.abort();
      },
    });
    await expect(attempt).rejects.toThrow(InterruptedError);
    expect(await readdir(folder)).toEqual([]);
  });
});

describe('what was written', () => {
  it.each(['out.pth', 'out.safetensors'])('%s is a source like any other', async (out) => {
    await convertWeights({ src, out: join(folder, out), to: 'transformers' });
    const inspection = await inspect({ src: join(folder, out) });
    expect(inspection).toMatchObject({ layout: 'transformers', config: { depth: 3, window: [8, 8] } });
  });

  it('a notes list for people, in the result and as it happens', async () => {
    const notes: string[] = [];
    await convertWeights({ src, out: join(folder, 'out.pth'), onNote: (note) => notes.push(note) });
    expect(notes.join()).toContain('BEiT v1 assumed');
  });
});
