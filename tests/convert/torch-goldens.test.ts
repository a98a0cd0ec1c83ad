/** Files that PyTorch wrote, against the tensors that PyTorch read from them. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { inspectCheckpoint, loadModel } from '../../src/convert/load.js';
import { openCheckpoint } from '../../src/convert/open.js';
import { readBytes, readFloat64, type StateDict, type Tensor } from '../../src/tensor.js';
import { runOracle } from '../../src/verify/oracle.js';
import { difference, largest } from '../verify/oracle-model.js';
import { pthManifest, unpackPth } from './pth-goldens.js';

const MANIFEST = [...pthManifest()];
const WITH_WEIGHTS = MANIFEST.filter(([, row]) => row.expected !== null);

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'cb-pth-'));
  unpackPth(folder);
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

const file = (name: string): string => join(folder, name);

async function chunked(tensor: Tensor): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of tensor.chunks()) chunks.push(chunk.slice());
  return Buffer.concat(chunks);
}

async function expectSame(found: StateDict, expected: StateDict): Promise<void> {
  expect([...found.keys()].sort()).toEqual([...expected.keys()].sort());
  for (const [name, tensor] of expected) {
    const read = found.get(name)!;
    expect({ name, dtype: read.dtype, shape: read.shape }).toEqual({
      name,
      dtype: tensor.dtype,
      shape: tensor.shape,
    });
    const bytes = Buffer.from(await readBytes(tensor));
    expect(bytes.equals(await readBytes(read)), name).toBe(true);
    expect(bytes.equals(await chunked(read)), `${name} in chunks`).toBe(true);
  }
}

describe('every row of the manifest', () => {
  it('there are 37, of which 35 have weights', () => {
    expect(MANIFEST).toHaveLength(37);
    expect(WITH_WEIGHTS).toHaveLength(35);
  });

  it.each(WITH_WEIGHTS)('%s: its tensors bit for bit', async (_, row) => {
    const [found, expected] = await Promise.all([
      openCheckpoint(file(row.file)),
      openCheckpoint(file(row.expected!)),
    ]);
    try {
      expect(found.container).toBe(row.container === 'zip' ? 'PyTorch (zip)' : 'PyTorch (legacy stream)');
      expect(found.contents?.weightsAt).toBe(row.weights_at);
      await expectSame(found.tensors, expected.tensors);
    } finally {
      await Promise.all([found.close(), expected.close()]);
    }
  });

  it.each(WITH_WEIGHTS)('%s: contiguous tensors say where they are stored', async (name, row) => {
    const { tensors, close } = await openCheckpoint(file(row.file));
    const stored = [...tensors.values()].filter((tensor) => tensor.stored !== undefined);
    if (name.includes('views') || name.includes('dtypes')) {
      expect(stored.length).toBeGreaterThan(0);
      expect(stored.length).toBeLessThan(tensors.size);
    } else {
      expect(stored).toHaveLength(tensors.size);
    }
    await close();
  });

  it('zip_quantized_absent: no weights is a clear error', async () => {
    await expect(openCheckpoint(file('zip_quantized_absent.pth'))).rejects.toMatchObject({
      name: 'InputError',
      message:
        'zip_quantized_absent.pth has no weights where publishers put them (model, module, state_dict, top level); its top level has "nothing"',
    });
  });

  it('zip_foreign_call: the call is kept opaque, and the weights beside it are read', async () => {
    const checkpoint = await openCheckpoint(file('zip_foreign_call.pth'));
    expect([...checkpoint.tensors.keys()]).toEqual(['cls_token', 'patch_embed.proj.weight']);
    expect(checkpoint.contents).toMatchObject({
      weightsAt: 'model',
      inert: [{ path: 'x', what: 'posix.getcwd(), not called' }],
    });
    await checkpoint.close();
  });
});

describe('what lies beside the weights', () => {
  it('an optimizer, an epoch and a namespace are listed; the namespace with its fields', async () => {
    const { contents } = await inspectCheckpoint(file('zip_official_full.pth'));
    expect(contents?.entries.map(({ path }) => path)).toEqual(['optimizer', 'epoch', 'scaler', 'args']);
    expect(contents?.inert).toEqual([
      {
        path: 'args',
        what: expect.stringMatching(
          /^argparse\.Namespace object \{batch_size: 64, epochs: 30, model: 'beit_base_patch16_224', /,
        ) as string,
      },
    ]);
  });

  it('pathlib, datetime and NumPy stay what they say they are', async () => {
    const { contents } = await inspectCheckpoint(file('legacy_misc_globals.pth'));
    expect(contents?.inert.slice(0, 4)).toEqual([
      { path: 'path', what: 'pathlib.PurePosixPath(str, str, str), not called' },
      { path: 'when', what: 'datetime.datetime(bytes), not called' },
      { path: 'np_scalar', what: 'numpy.core.multiarray.scalar(result of numpy.dtype, bytes), not called' },
      {
        path: 'np_array',
        what: 'numpy.core.multiarray._reconstruct(name numpy.ndarray, tuple, bytes), not called',
      },
    ]);
    const plain = new Map(contents?.entries.map(({ path, what }) => [path, what]));
    expect(plain.get('size')).toBe('torch.Size(1, 2)');
    expect(plain.get('dtype')).toBe('torch.float16');
    expect(plain.get('device')).toBe('device(cpu)');
    expect(plain.get('self_list')).toBe('[[[1 items]]]');
  });

  it('a HistoryBuffer of mmengine does not stand in the way, and class names are found', async () => {
    const checkpoint = await openCheckpoint(file('zip_mm_message_hub.pth'));
    expect(checkpoint.contents?.inert[0].what).toMatch(
      /^mmengine\.logging\.history_buffer\.HistoryBuffer object/,
    );
    expect(checkpoint.contents?.labels).toHaveLength(2);
    expect(checkpoint.notes).toEqual(['the weights are those at "state_dict"']);
    await checkpoint.close();
  });
});

describe('logits of the weights, in float64, against upstream’s', () => {
  it.each([
    ['zip_model', 'logits_f64', 1e-13],
    ['zip_model', 'logits', 1e-5],
    ['zip_views', 'logits_f64', 1e-13],
    ['zip_dataparallel', 'logits_f64', 1e-13],
    ['zip_mm', 'logits_f64', 1e-13],
    ['legacy_mm_published', 'logits_f64', 1e-13],
    ['legacy_metadata', 'logits_f64', 1e-13],
    ['legacy_views', 'logits_f64', 1e-13],
    ['zip_torch2_views', 'logits_f64', 1e-13],
    ['zip_fp16', 'logits_fp16_weights', 1e-5],
    ['legacy_fp16', 'logits_fp16_weights', 1e-5],
    ['zip_bf16', 'logits_bf16_weights', 1e-5],
    ['legacy_bf16', 'logits_bf16_weights', 1e-5],
    ['zip_torch2_mmap_bf16', 'logits_bf16_weights', 1e-5],
  ])('%s: %s', async (name, logits, tolerance) => {
    const model = await loadModel(file(`${name}.pth`));
    const io = await openCheckpoint(file('io.safetensors'));
    try {
      const { shape } = io.tensors.get('input')!;
      const result = await runOracle(model, await readFloat64(io.tensors.get('input')!), shape[0]);
      const upstream = await readFloat64(io.tensors.get(logits)!);
      expect(largest(difference(result.logits, upstream))).toBeLessThan(tolerance);
    } finally {
      await Promise.all([model.close(), io.close()]);
    }
  });
});
