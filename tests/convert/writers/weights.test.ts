/**
 * Written files against upstream's: `fixtures/layouts` holds the digests of files that upstream's code wrote, so that
 * a name or a row that is swapped both ways is caught.
 */
import { copyFile, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { unzipSync } from 'fflate';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { relativePositionIndex } from '../../../src/beit.js';
import { openCheckpoint } from '../../../src/convert/open.js';
import { LayoutError, UsageError, convertWeights, diff, type WeightsOptions } from '../../../src/index.js';
import { readBytes, type StateDict } from '../../../src/tensor.js';
import { GOLDEN_CASES, GOLDEN_HINTS, goldenPath } from '../goldens.js';
import { UPSTREAM, manifest, rowsOf } from '../manifest.js';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'convert-beit-weights-'));
});
afterEach(() => rm(folder, { recursive: true }));

const at = (name: string): string => join(folder, name);

/** What the shapes of a case can't tell, as a config file in the test's own folder. */
async function config(name: string): Promise<string | undefined> {
  const hints = GOLDEN_HINTS.get(name);
  const fields: Record<string, unknown> = {
    // Only an index buffer tells a window that is not square, and timm stores none.
    image_size: name === 'v1_nonsquare' ? [24, 40] : hints?.imageSize,
    num_attention_heads: hints?.heads,
    early_layers: name.startsWith('mim_v2_cls_pt') ? 2 : undefined,
  };
  if (Object.values(fields).every((value) => value === undefined)) return undefined;
  await writeFile(at('hints.json'), JSON.stringify(fields));
  return at('hints.json');
}

async function write(
  name: string,
  file: string,
  out: string,
  to: WeightsOptions['to'],
  rest: Partial<WeightsOptions> = {},
): ReturnType<typeof convertWeights> {
  return await convertWeights({
    src: goldenPath(name, `${file}.safetensors`),
    configPath: await config(name),
    out: at(out),
    to,
    ...rest,
  });
}

async function contentOf(path: string): Promise<Awaited<ReturnType<typeof rowsOf>>> {
  const checkpoint = await openCheckpoint(path);
  try {
    return await rowsOf(checkpoint.tensors);
  } finally {
    await checkpoint.close();
  }
}

const isIndex = (name: string): boolean => name.endsWith('relative_position_index');

const FILES = UPSTREAM.flatMap(([name, file, layouts]) =>
  layouts.flatMap((to) => ['pth', 'safetensors'].map((ending) => [name, to, ending, file] as const)),
);

describe('written files hold what upstream’s hold', () => {
  it.each(FILES)('%s as %s .%s', async (name, to, ending, file) => {
    const result = await write(name, file, `out.${ending}`, to);
    expect(result.parity.verdict).toBe('passed');
    expect(result.output).toMatchObject({ layout: to, path: at(`out.${ending}`) });
    const wanted = manifest(name).get(to)!;
    const found = await contentOf(at(`out.${ending}`));
    expect(result.output.tensors).toBe(found.size);
    // Index buffers are rebuilt for the layouts that store them, also where the golden left them out to save room.
    const extra = [...found.keys()].filter((key) => !wanted.has(key));
    expect(extra.every(isIndex)).toBe(true);
    for (const key of extra) found.delete(key);
    expect(found).toEqual(wanted);
  });
});

describe('index buffers', () => {
  it.each([
    ['official', 3],
    ['mmpretrain', 3],
    ['timm', 0],
    ['transformers', 0],
  ] as const)('%s stores %d of them', async (to, count) => {
    const result = await write('v1_cls', 'official', 'out.pth', to);
    expect(result.output.buffers).toBe(count);
    const checkpoint = await openCheckpoint(at('out.pth'));
    const found = [...checkpoint.tensors].filter(([name]) => isIndex(name));
    expect(found).toHaveLength(count);
    for (const [, tensor] of found) {
      const values = new BigInt64Array((await readBytes(tensor)).buffer);
      expect(Array.from(values, Number)).toEqual([...relativePositionIndex([8, 8])]);
    }
    await checkpoint.close();
  });
});

describe('official → X → official is the same, bit for bit', () => {
  const kinds = [...GOLDEN_CASES, 'mim_v1', 'mim_v2_cls_pt'];
  const targets = ['official', 'timm', 'transformers', 'mmpretrain'] as const;
  const cannot = new Set([
    'mim_v1 timm',
    'mim_v2_cls_pt timm',
    'mim_v2_cls_pt transformers',
    'v1_nonsquare transformers',
  ]);
  const trips = kinds.flatMap((name) => targets.map((to) => [name, to] as const));

  it.each(trips.filter(([name, to]) => !cannot.has(`${name} ${to}`)))('%s through %s', async (name, to) => {
    const out = to === 'transformers' ? 'there/' : 'there.pth';
    await write(name, 'official', out, to);
    await convertWeights({
      src: at(out),
      // The folder says everything by itself. mmpretrain pads to whole patches: 4×4 of them are 56×56 pixels there.
      ...(to !== 'transformers' &&
        `${name} ${to}` !== 'v1_indivisible mmpretrain' && { configPath: await config(name) }),
      out: at('back.safetensors'),
      to: 'official',
    });
    const source = await contentOf(goldenPath(name, 'official.safetensors'));
    const back = await contentOf(at('back.safetensors'));
    for (const key of back.keys()) if (isIndex(key) && !source.has(key)) back.delete(key);
    expect(back).toEqual(source);
    const { equal } = await diff({ a: goldenPath(name, 'official.safetensors'), b: at('back.safetensors') });
    expect(equal).toBe(true);
  });

  it('what came from transformers’ file goes back there too', async () => {
    await write('segmentation', 'hf', 'there.pth', 'official');
    await convertWeights({ src: at('there.pth'), out: at('back.safetensors'), to: 'transformers' });
    expect(await contentOf(at('back.safetensors'))).toEqual(manifest('segmentation').get('transformers'));
  });
});

describe('the same model gives the same bytes', () => {
  it.each(['a.safetensors', 'a.pth', 'a.bin'])('%s', async (out) => {
    const first = await write('v1_cls', 'official', out, 'mmpretrain');
    const second = await write('v1_cls', 'official', out.replace('a', 'another-name'), 'mmpretrain');
    expect(Buffer.compare(await readFile(first.output.path), await readFile(second.output.path))).toBe(0);
    expect(first.output.sha256).toBe(second.output.sha256);
  });
});

describe('where it came from', () => {
  it('stands in the metadata of safetensors, as strings', async () => {
    const { source } = await write('v1_cls', 'official', 'out.safetensors', 'timm');
    const checkpoint = await openCheckpoint(at('out.safetensors'));
    const metadata = Object.fromEntries(checkpoint.metadata);
    await checkpoint.close();
    expect(metadata).toMatchObject({
      format: 'pt',
      'convert_beit.source': 'official.safetensors',
      'convert_beit.source_layout': 'official',
      'convert_beit.layout': 'timm',
    });
    expect(JSON.parse(metadata['convert_beit.source_files'])).toEqual(source.files);
    const bytes = await readFile(at('out.safetensors'));
    expect(Number(bytes.readBigUInt64LE(0)) % 8).toBe(0);
  });

  it('is a record of its own in .pth, and in the meta of OpenMMLab', async () => {
    const { source } = await write('v1_cls', 'official', 'out.pth', 'mmpretrain');
    const records = unzipSync(await readFile(at('out.pth')));
    const provenance = JSON.parse(
      Buffer.from(records['archive/.data/convert_beit.json']).toString(),
    ) as Record<string, string>;
    expect(JSON.parse(provenance['convert_beit.source_files'])).toEqual(source.files);
    expect(Object.keys(records).filter((name) => !/\/data\/\d+$/.test(name))).toEqual([
      'archive/data.pkl',
      'archive/.format_version',
      'archive/.storage_alignment',
      'archive/byteorder',
      'archive/version',
      'archive/.data/serialization_id',
      'archive/.data/convert_beit.json',
    ]);
    expect(Buffer.from(records['archive/data.pkl']).toString('latin1')).toContain('convert_beit_source');
  });

  it.each([
    ['official', 'model'],
    ['mmpretrain', 'state_dict'],
    ['timm', ''],
    ['transformers', ''],
  ] as const)('%s looks for its weights at "%s"', async (to, key) => {
    await write('v1_cls', 'official', 'out.pth', to);
    const checkpoint = await openCheckpoint(at('out.pth'));
    await checkpoint.close();
    expect(checkpoint.contents?.weightsAt).toBe(key);
  });
});

describe('class names', () => {
  it('are where OpenMMLab looks for them', async () => {
    const labels = Array.from({ length: 10 }, (_, i) => `class ${i}`);
    await writeFile(at('labels.json'), JSON.stringify({ id2label: { ...labels } }));
    await write('v1_cls', 'official', 'out.pth', 'mmpretrain', { configPath: at('labels.json') });
    const checkpoint = await openCheckpoint(at('out.pth'));
    await checkpoint.close();
    expect(checkpoint.contents?.labels).toEqual(labels);
  });
});

describe('a folder for transformers', () => {
  it('has weights, config and preprocessing', async () => {
    await writeFile(
      at('labels.json'),
      JSON.stringify({ id2label: { ...Array.from({ length: 10 }, (_, i) => `n${i % 9}`) } }),
    );
    const result = await write('v1_cls', 'official', 'hf/', 'transformers', {
      configPath: at('labels.json'),
    });
    expect((await readdir(at('hf'))).sort()).toEqual([
      'config.json',
      'model.safetensors',
      'preprocessor_config.json',
    ]);
    expect(result.output.files?.map(({ path }) => path)).toEqual([
      at('hf/preprocessor_config.json'),
      at('hf/config.json'),
      at('hf/model.safetensors'),
    ]);
    const text = await readFile(at('hf/config.json'), 'utf8');
    expect(JSON.parse(text)).toEqual({
      architectures: ['BeitForImageClassification'],
      model_type: 'beit',
      image_size: 32,
      patch_size: 4,
      num_channels: 3,
      hidden_size: 32,
      num_hidden_layers: 3,
      num_attention_heads: 4,
      intermediate_size: 128,
      hidden_act: 'gelu',
      layer_norm_eps: 1e-6,
      layer_scale_init_value: 0.1,
      use_absolute_position_embeddings: false,
      use_relative_position_bias: true,
      use_shared_relative_position_bias: false,
      use_mask_token: false,
      use_mean_pooling: true,
      id2label: { 0: 'n0', 1: 'n1', 2: 'n2', 3: 'n3', 4: 'n4', 5: 'n5', 6: 'n6', 7: 'n7', 8: 'n8', 9: 'n0' },
      label2id: { n0: 0, n1: 1, n2: 2, n3: 3, n4: 4, n5: 5, n6: 6, n7: 7, n8: 8 },
      torch_dtype: 'float32',
    });
    expect(JSON.parse(await readFile(at('hf/preprocessor_config.json'), 'utf8'))).toMatchObject({
      image_processor_type: 'CLIPImageProcessor',
      size: { shortest_edge: 36 },
      crop_size: { height: 32, width: 32 },
      resample: 3,
      image_mean: [0.5, 0.5, 0.5],
    });
  });

  it.each([
    ['v1_no_layerscale', '"layer_scale_init_value": 0.0,'],
    ['v2_no_qkv_bias', '"qkv_bias": false'],
    ['v1_indivisible', '"image_size": 60,'],
    ['mim_v1', '"vocab_size": 50'],
    ['mim_v1', 'BeitForMaskedImageModeling'],
    ['v1_cls_pool', '"use_mean_pooling": false'],
  ])('%s: %s', async (name, expected) => {
    await write(name, 'official', 'hf/', 'transformers');
    expect(await readFile(at('hf/config.json'), 'utf8')).toContain(expected);
  });

  it('a segmentation model says which blocks feed its pyramid, or is refused', async () => {
    await write('segmentation', 'hf', 'there.pth', 'official');
    const again = (out: string, configPath?: string): ReturnType<typeof convertWeights> =>
      convertWeights({ src: at('there.pth'), configPath, out: at(out), to: 'transformers' });
    await expect(again('hf/')).rejects.toThrow(
      /no tensor tells which of the 6 blocks feed the feature pyramid/,
    );
    await writeFile(at('taps.json'), '{"out_indices": [2, 3, 4, 5], "layer_norm_eps": 1e-12}');
    const result = await again('hf/', at('taps.json'));
    expect(result.parity.verdict).toBe('passed');
    expect(result.notes.join()).toContain('the same weights segment differently');
    expect(JSON.parse(await readFile(at('hf/config.json'), 'utf8'))).toMatchObject({
      architectures: ['BeitForSemanticSegmentation'],
      out_indices: [2, 3, 4, 5],
      pool_scales: [1, 2, 3, 6],
      auxiliary_channels: 4,
    });
  });

  it('replaces its own files in a folder that exists, and leaves the others', async () => {
    await write('v1_cls', 'official', 'hf/', 'transformers');
    const before = await readFile(at('hf/model.safetensors'));
    await writeFile(at('hf/README.md'), 'mine');
    await writeFile(at('hf/config.json'), 'old');
    await write('v1_cls', 'official', 'hf', 'transformers');
    expect((await readdir(at('hf'))).sort()).toEqual([
      'README.md',
      'config.json',
      'model.safetensors',
      'preprocessor_config.json',
    ]);
    expect(Buffer.compare(await readFile(at('hf/model.safetensors')), before)).toBe(0);
    expect(await readFile(at('hf/config.json'), 'utf8')).toContain('"beit"');
    const attempt = write('v1_cls', 'official', 'hf', 'transformers', { noClobber: true });
    await expect(attempt).rejects.toThrow(/--no-clobber/);
  });

  it('never writes over what it reads', async () => {
    await copyFile(goldenPath('v1_cls', 'official.safetensors'), at('model.safetensors'));
    const attempt = convertWeights({ src: at('model.safetensors'), out: `${folder}/`, to: 'transformers' });
    await expect(attempt).rejects.toThrow(/model\.safetensors is the file that is read/);
    expect(await readdir(folder)).toEqual(['model.safetensors']);
  });
});

describe('what a target cannot express', () => {
  const qkv = 'backbone.layers.*.attn.qkv.bias';
  it.each<[string, string, string, WeightsOptions['to'], RegExp, RegExp]>([
    [
      'a bias of k',
      'mm_bias_true',
      'mmpretrain',
      'official',
      /^official cannot express backbone\.layers\.0\.attn\.qkv\.bias, .* \(it has no bias of k/,
      /--drop backbone\.layers\.0\.attn\.qkv\.bias/,
    ],
    [
      'a bias of k',
      'mm_bias_true',
      'mmpretrain',
      'transformers',
      /^transformers cannot express .*qkv\.bias/,
      /--drop/,
    ],
    ['a bias of k', 'mm_bias_true', 'mmpretrain', 'timm', /^timm cannot express .*qkv\.bias/, /--drop/],
    [
      'both norms',
      'mm_out_types',
      'mmpretrain',
      'official',
      /ln1\.weight, .*ln1\.bias \(.*only mmpretrain has both norms/,
      /--drop/,
    ],
    ['both norms', 'mm_out_types', 'mmpretrain', 'transformers', /only mmpretrain has both norms/, /--drop/],
    [
      'pre-training',
      'mim_v1',
      'official',
      'timm',
      /^timm cannot express mask_token, lm_head\.weight, lm_head\.bias \(it has no pre-training models\)$/,
      /--drop 'mask_token\*' --drop 'lm_head\*'/,
    ],
    [
      'a second output',
      'mim_v2_cls_pt',
      'official',
      'transformers',
      /^transformers cannot express cls_pt_layers\.0\.gamma_1, .* \(it has no second output in pre-training\)$/,
      /: --drop 'cls_pt_layers\*'\.$/,
    ],
    ['segmentation', 'segmentation', 'hf', 'timm', /it has no segmentation models/, /--drop/],
    ['segmentation', 'segmentation', 'hf', 'mmpretrain', /it has no segmentation models/, /--drop/],
    [
      'a window that is not square',
      'v1_nonsquare',
      'official',
      'transformers',
      /relative_position_bias_table .*6×10 patches/,
      /^Choose another --to, or convert to ONNX\.$/,
    ],
  ])('%s: %s/%s to %s', async (_, name, file, to, message, next) => {
    const attempt = write(name, file, 'out.pth', to);
    await expect(attempt).rejects.toThrow(LayoutError);
    await expect(attempt).rejects.toThrow(message);
    await expect(attempt).rejects.toMatchObject({ exitCode: 3, next: expect.stringMatching(next) as string });
    expect((await readdir(folder)).filter((entry) => entry !== 'hints.json')).toEqual([]);
  });

  it('can be left out by name, and the file says so', async () => {
    const result = await write('mim_v2_cls_pt', 'official', 'hf/', 'transformers', {
      drop: ['cls_pt_layers*'],
    });
    expect(result.parity.verdict).toBe('passed');
    expect(result.output.dropped).toHaveLength(30);
    expect(result.notes.join()).toContain('left out as asked: cls_pt_layers.0.gamma_1');
    const checkpoint = await openCheckpoint(at('hf'));
    expect(JSON.parse(checkpoint.metadata.get('convert_beit.dropped')!)).toEqual(result.output.dropped);
    // The norm of the first output is transformers' norm.
    expect([...checkpoint.tensors.keys()]).toEqual(
      expect.arrayContaining(['layernorm.weight', 'lm_head.bias']),
    );
    await checkpoint.close();
  });

  it('a bias of k goes, those of q and v stay', async () => {
    const result = await write('mm_bias_true', 'mmpretrain', 'out.safetensors', 'official', { drop: [qkv] });
    expect(result.output.dropped[0]).toBe('backbone.layers.0.attn.qkv.bias (its part for k)');
    const [there, source] = await Promise.all([
      openCheckpoint(at('out.safetensors')),
      openCheckpoint(goldenPath('mm_bias_true', 'mmpretrain.safetensors')),
    ]);
    const read = async (tensors: StateDict, name: string): Promise<number[]> =>
      Array.from(new Float32Array((await readBytes(tensors.get(name)!)).buffer));
    const whole = await read(source.tensors, 'backbone.layers.1.attn.qkv.bias');
    expect(await read(there.tensors, 'blocks.1.attn.q_bias')).toEqual(whole.slice(0, 32));
    expect(await read(there.tensors, 'blocks.1.attn.v_bias')).toEqual(whole.slice(64));
    await Promise.all([there.close(), source.close()]);
  });

  it.each([
    ['nothing of that name', 'no.such.tensor', /the source has no tensor of that name/],
    ['what has a place', 'blocks.0.norm1.weight', /official has a place for blocks\.0\.norm1\.weight/],
    ['everything', '*', /official has a place for cls_token/],
    ['a name that looks like an expression', 'blocks.(0).+', /no tensor of that name/],
  ])('--drop of %s is refused', async (_, name, message) => {
    const attempt = write('v1_cls', 'official', 'out.pth', 'official', { drop: [name] });
    await expect(attempt).rejects.toThrow(UsageError);
    await expect(attempt).rejects.toThrow(message);
    expect(await readdir(folder)).toEqual([]);
  });
});

describe('what a loader must be told', () => {
  it.each<[string, WeightsOptions['to'], RegExp]>([
    ['v2_no_qkv_bias', 'transformers', /biases of zeros are added/],
    ['v1_indivisible', 'mmpretrain', /img_size 56×56/],
    ['v1_nonsquare', 'timm', /load_state_dict/],
  ])('%s for %s', async (name, to, expected) => {
    const notes: string[] = [];
    const result = await write(name, 'official', 'out.pth', to, { onNote: (note) => notes.push(note) });
    expect(result.notes.join()).toMatch(expected);
    expect(result.output.added).toBe(name === 'v2_no_qkv_bias' ? 4 : 0);
    expect(notes).toEqual(expect.arrayContaining([...result.notes]));
  });

  it('another LayerNorm eps than the framework’s own', async () => {
    await writeFile(at('eps.json'), '{"layer_norm_eps": 1e-12}');
    const result = await write('v1_cls', 'official', 'out.pth', 'mmpretrain', { configPath: at('eps.json') });
    expect(result.notes.join()).toMatch(/LayerNorm eps of 1e-12; mmpretrain uses 1e-6/);
    await write('v1_cls', 'official', 'hf/', 'transformers', { configPath: at('eps.json') });
    expect(await readFile(at('hf/config.json'), 'utf8')).toContain('"layer_norm_eps": 1e-12,');
  });
});

describe('--out', () => {
  it.each<[string, string, WeightsOptions['to'], RegExp]>([
    ['an unknown ending', 'out.onnx', 'timm', /does not say what to write for timm/],
    ['no ending', 'out', 'transformers', /does not say what to write for transformers/],
    [
      'a folder for a framework that loads files',
      'out/',
      'mmpretrain',
      /is a folder; mmpretrain loads a file/,
    ],
    ['an unknown layout', 'out.pth', 'keras' as never, /there is no layout "keras" to write/],
  ])('%s', async (_, out, to, message) => {
    const attempt = write('v1_cls', 'official', out, to);
    await expect(attempt).rejects.toThrow(UsageError);
    await expect(attempt).rejects.toThrow(message);
    expect(await readdir(folder)).toEqual([]);
  });
});
