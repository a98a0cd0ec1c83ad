/** PyTorch files that a description makes: what is read, what is chosen, what stays inert. */
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { memorySource, type ByteSource } from '../../src/bytes.js';
import type { Checkpoint, OpenOptions } from '../../src/convert/checkpoint.js';
import { inspectCheckpoint, loadModel } from '../../src/convert/load.js';
import { openSource } from '../../src/convert/open.js';
import { readBytes, type Tensor } from '../../src/tensor.js';
import { build, safetensorsBytes, TINY } from './recipe.js';
import { stateLines, tinyLines, torchBytes, type TorchRecipe } from './torch-recipe.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'cb-torch-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

const noSibling = (): Promise<never> => Promise.reject(new Error('not asked for'));

function source(recipe: TorchRecipe, name = 'model.pth'): ByteSource {
  return memorySource(name, torchBytes(recipe));
}

function open(recipe: TorchRecipe, options?: OpenOptions): Promise<Checkpoint> {
  return openSource(source(recipe), noSibling, options);
}

async function expectTiny(checkpoint: Checkpoint): Promise<void> {
  const whole = await openSource(memorySource('x.safetensors', safetensorsBytes(TINY)), noSibling);
  expect([...checkpoint.tensors.keys()].sort()).toEqual([...whole.tensors.keys()].sort());
  for (const [name, tensor] of whole.tensors) {
    expect(Buffer.from(await readBytes(checkpoint.tensors.get(name)!)), name).toEqual(
      Buffer.from(await readBytes(tensor)),
    );
  }
}

describe('what a well-formed file may have', () => {
  const rows: [string, TorchRecipe][] = [
    ['a root folder of another name', { root: 'beit_base_patch16_224' }],
    ['a root folder in a folder', { root: 'a/b' }],
    ['no root folder', { root: '' }],
    [
      'records of torch 2',
      { records: { byteorder: 'little', '.format_version': '1', '.storage_alignment': '64' } },
    ],
    ['zip64 ends, as PyTorch writes', { end: { zip64: true } }],
    [
      'zip64 sizes of every record',
      { end: { zip64: true }, edit: { 'data.pkl': { zip64: true }, 'data/0': { zip64: true } } },
    ],
    ['counts and sizes that only zip64 says', { end: { zip64: true, count: 0xffff, count64: 43 } }],
    ['sizes behind the data', { edit: { 'data.pkl': { later: true }, 'data/0': { later: true } } }],
    ['aligned records', { edit: { 'data/0': { padding: 40 }, 'data/3': { padding: 61 } } }],
    ['a comment', { end: { comment: 'packed again' } }],
    ['deflated records', { deflate: true }],
    ['a legacy stream', { form: 'legacy' }],
    ['weights under module', { pickle: stateLines([], [], 'module') }],
    ['weights under state_dict', { pickle: stateLines([], [], 'state_dict') }],
    [
      'weights below two names',
      {
        pickle: ['PROTO 2', 'EMPTY_DICT', 'STR state_dict', ...stateLines().slice(1, -1), 'SETITEM', 'STOP'],
      },
    ],
    ['weights at the top level', { pickle: ['PROTO 2', 'EMPTY_DICT', 'MARK', 'TINY', 'SETITEMS', 'STOP'] }],
    [
      'a frame and memoized values',
      { pickle: ['PROTO 4', 'FRAME 20', 'EMPTY_DICT', 'MEMOIZE', ...stateLines().slice(2)] },
    ],
  ];
  it.each(rows)('%s', async (_, recipe) => {
    const checkpoint = await open(recipe);
    await expectTiny(checkpoint);
    await checkpoint.close();
  });

  it('a .zip that is a PyTorch file is read for what it is (unilm #1361)', async () => {
    const checkpoint = await openSource(source({}, 'beit_base.zip'), noSibling);
    expect(checkpoint.container).toBe('PyTorch (zip)');
    await expectTiny(checkpoint);
  });

  it('a pickle longer than the first look at a legacy stream', async () => {
    const long = ['STR padding', `BINUNICODE ${'x'.repeat(700_000)}`, 'SETITEM'];
    await expectTiny(await open({ form: 'legacy', pickle: stateLines(long) }));
  });
});

describe('only what is asked for is read', () => {
  it.each(['zip', 'legacy'] as const)('%s: opening reads no storage', async (form) => {
    const big = { 100: 3_000_000 };
    const lines = ['EMPTY_DICT', 'MARK', 'TENSOR x 100 FloatStorage 750000 0 750000 1', 'SETITEMS'];
    const pickle = stateLines(['STR other', ...lines, 'SETITEM']);
    const inner = source({ form, pickle, storages: big });
    let bytes = 0;
    const spy: ByteSource = {
      ...inner,
      read: (start, end) => ((bytes += end - start), inner.read(start, end)),
    };
    const checkpoint = await openSource(spy, noSibling);
    expect(bytes).toBeLessThan(400_000);
    bytes = 0;
    await readBytes(checkpoint.tensors.get('head.weight')!);
    expect(bytes).toBeLessThan(100);
  });
});

describe('where the weights are', () => {
  const one = (key: string, shape = '4'): string[] => [
    ...[
      'EMPTY_DICT',
      'MARK',
      `TENSOR ${key} 0 FloatStorage 4 0 ${shape} ${shape === '-' ? '-' : '1'}`,
      'SETITEMS',
    ],
  ];
  const file = (...entries: [string, string[]][]): TorchRecipe => ({
    tiny: false,
    storages: { 0: 16 },
    pickle: [
      ...['PROTO 2', 'EMPTY_DICT'],
      ...entries.flatMap(([key, lines]) => [`STR ${key}`, ...lines, 'SETITEM']),
      'STOP',
    ],
  });
  const training = file(
    ['state_dict', one('last')],
    ['model', one('chosen')],
    ['model_ema', one('average')],
    ['epoch', ['INT 3']],
  );
  it.each<[string, TorchRecipe, OpenOptions, string, string[], string[]]>([
    [
      'the first of model, module, state_dict',
      training,
      {},
      'model',
      ['chosen'],
      [
        'the weights are those at "model"; "state_dict" has tensors too (--key); averaged ones are at "model_ema" (--ema)',
      ],
    ],
    ['--key', training, { key: 'state_dict' }, 'state_dict', ['last'], []],
    [
      '--ema',
      training,
      { ema: true },
      'model_ema',
      ['average'],
      ['the weights are the averaged ones at "model_ema" (--ema)'],
    ],
    [
      '--ema of timm',
      file(['state_dict', one('last')], ['state_dict_ema', one('average')]),
      { ema: true },
      'state_dict_ema',
      ['average'],
      ['the weights are the averaged ones at "state_dict_ema" (--ema)'],
    ],
    [
      '--ema of an average that wraps its model',
      file(['model', one('a')], ['model_ema', ['EMPTY_DICT', 'STR module', ...one('average'), 'SETITEM']]),
      { ema: true },
      'model_ema.module',
      ['average'],
      ['the weights are the averaged ones at "model_ema.module" (--ema)'],
    ],
    [
      '--ema of mmengine',
      file(
        ['state_dict', one('a')],
        ['ema_state_dict', [...one('module.a'), 'MARK', 'TENSOR steps 0 FloatStorage 4 0 - -', 'SETITEMS']],
      ),
      { ema: true },
      'ema_state_dict',
      ['module.a'],
      [
        'the weights are the averaged ones at "ema_state_dict" (--ema)',
        'mmengine’s EMAHook swaps the two when it saves: its state_dict holds the averaged weights, ema_state_dict the last ones',
        '"steps" of the averaged weights counts updates: left out',
      ],
    ],
    [
      '--key with dots',
      file(['a.b', ['EMPTY_DICT', 'STR c.d', ...one('x'), 'SETITEM']]),
      { key: 'a.b.c.d' },
      'a.b.c.d',
      ['x'],
      [],
    ],
    [
      'a model that is only a name',
      file(['model', ['STR beit_base_patch16_224']], ['module', one('x')]),
      {},
      'module',
      ['x'],
      ['the weights are those at "module"'],
    ],
  ])('%s', async (_, recipe, options, at, names, notes) => {
    const checkpoint = await open(recipe, options);
    expect(checkpoint.contents?.weightsAt).toBe(at);
    expect([...checkpoint.tensors.keys()]).toEqual(names);
    expect(checkpoint.notes).toEqual(notes);
  });

  it('a place further down is named, for --key', async () => {
    const deep = file(['trainer', ['EMPTY_DICT', 'STR weights', ...one('x'), 'SETITEM']]);
    const error = await open(deep).catch((cause: unknown) => cause);
    expect(error).toMatchObject({ next: 'There are tensors at trainer.weights: name the place with --key.' });
  });

  it('a weight of a bare file that was not built is refused, not missing', async () => {
    const call = ['GLOBAL posix system', 'STR true', 'TUPLE1', 'REDUCE'];
    await expect(open(file(['head.bias', call]))).rejects.toThrow('"head.bias" is posix.system(');
  });

  it('numbers among the weights are listed, and said', async () => {
    const lines = ['EMPTY_DICT', 'MARK', 'TENSOR a 0 FloatStorage 4 0 4 1', 'STR epoch', 'INT 3', 'SETITEMS'];
    const { contents, notes } = await open(file(['model', lines]));
    expect(contents?.entries).toEqual([{ path: 'model.epoch', what: '3' }]);
    expect(notes).toEqual(['the weights are those at "model"', 'epoch in "model" is no tensor']);
  });
});

describe('class names of OpenMMLab', () => {
  const names = (count: number): string[] => [
    ...['STR meta', 'EMPTY_DICT', 'STR CLASSES', 'MARK'],
    ...Array.from({ length: count }, (_, i) => `STR class ${i}`),
    ...['TUPLE', 'SETITEM', 'SETITEM'],
  ];
  it.each([
    [3, ['class 0', 'class 1', 'class 2'], false],
    [2, undefined, true],
  ])('%i of them for 3 classes', async (count, labels, noted) => {
    const path = join(folder, `labels-${count}.pth`);
    writeFileSync(path, torchBytes({ pickle: stateLines(names(count)) }));
    const model = await loadModel(path);
    expect(model.labels).toEqual(labels);
    expect(model.notes.some((note) => note.includes('class names for a head of'))).toBe(noted);
    await model.close();
  });
});

describe('shards', () => {
  const names = [...TINY.keys()];
  const part = (from: number, to: number): Buffer => {
    const shard = new Map([...TINY].slice(from, to));
    // Storage i is tensor i of the whole model: each shard has all of them, and names some.
    const all = tinyLines();
    const per = all.length / TINY.size;
    expect(Number.isInteger(per) || shard.size > 0).toBe(true);
    const starts = all.flatMap((line, i) =>
      names.includes(line.slice(4)) && line.startsWith('STR ') ? [i] : [],
    );
    const lines = all.slice(starts[from], starts[to] ?? all.length);
    return torchBytes({ pickle: ['PROTO 2', 'EMPTY_DICT', 'MARK', ...lines, 'SETITEMS', 'STOP'] });
  };

  it('pytorch_model.bin.index.json with two shards is the whole model, also through its folder', async () => {
    const beit = join(folder, 'sharded');
    mkdirSync(beit);
    const files = ['pytorch_model-00001-of-00002.bin', 'pytorch_model-00002-of-00002.bin'];
    const map = Object.fromEntries(names.map((name, i) => [name, files[i < 20 ? 0 : 1]]));
    writeFileSync(
      join(beit, 'pytorch_model.bin.index.json'),
      JSON.stringify({ metadata: {}, weight_map: map }),
    );
    writeFileSync(join(beit, files[0]), part(0, 20));
    writeFileSync(join(beit, files[1]), part(20, names.length));
    writeFileSync(join(beit, 'training_args.bin'), 'none');
    const model = await loadModel(beit);
    expect(model.provenance.container).toBe('sharded PyTorch');
    expect(model.provenance.files.map(({ name }) => name)).toEqual([
      'pytorch_model.bin.index.json',
      ...files,
    ]);
    for (const tensor of model.tensors.values()) await readBytes(tensor);
    await model.close();
  });
});

describe('damage', () => {
  const big = 3_000_000;
  const recipe: TorchRecipe = {
    tiny: false,
    storages: { 0: big },
    pickle: [
      'PROTO 2',
      'EMPTY_DICT',
      'MARK',
      'TENSOR a 0 FloatStorage 750000 0 750000 1',
      'TENSOR b 0 FloatStorage 750000 10 20 1',
      'SETITEMS',
      'STOP',
    ],
  };
  const damaged = (deflate: boolean): ByteSource => {
    const bytes = torchBytes({ ...recipe, deflate });
    const at = bytes.indexOf('archive/data/0') + 14 + (deflate ? 400 : 2_000_000);
    bytes[at] ^= 0x10;
    return memorySource('model.pth', bytes);
  };
  const whole = async (tensor: Tensor): Promise<void> => {
    for await (const chunk of tensor.chunks()) expect(chunk.length).toBeGreaterThan(0);
  };

  it('one wrong bit of a stored record is found while it is read, in whatever pieces', async () => {
    for (const name of ['a', 'b']) {
      const { tensors } = await openSource(damaged(false), noSibling);
      await expect(whole(tensors.get(name)!)).rejects.toThrow(
        /^model\.pth: record archive\/data\/0 is damaged: its checksum is [0-9a-f]{8}, the directory says [0-9a-f]{8}$/,
      );
    }
    const { tensors } = await openSource(damaged(false), noSibling);
    await expect(readBytes(tensors.get('a')!)).rejects.toThrow('is damaged');
  });

  it('and one of a deflated record', async () => {
    const { tensors } = await openSource(damaged(true), noSibling);
    await expect(whole(tensors.get('a')!)).rejects.toThrow(/is damaged|no valid deflate stream|inflates to/);
  });
});

describe('payloads stay inert', () => {
  const canary = (): string => join(folder, 'canary');
  const payloads: [string, string[]][] = [
    ['os.system', ['GLOBAL os system', 'STR touch CANARY', 'TUPLE1', 'REDUCE']],
    ['posix.system', ['GLOBAL posix system', 'STR touch CANARY', 'TUPLE1', 'REDUCE']],
    ['subprocess.Popen', ['GLOBAL subprocess Popen', 'STR touch CANARY', 'TUPLE1', 'NEWOBJ']],
    [
      'builtins.eval',
      ['GLOBAL builtins eval', "STR require('fs').writeFileSync('CANARY','')", 'TUPLE1', 'REDUCE'],
    ],
    ['builtins.exec', ['GLOBAL builtins exec', "STR open('CANARY', 'w')", 'TUPLE1', 'REDUCE']],
    [
      'a callee that a call gives',
      [
        'GLOBAL builtins getattr',
        'GLOBAL os path',
        'STR system',
        'TUPLE2',
        'REDUCE',
        'STR touch CANARY',
        'TUPLE1',
        'REDUCE',
      ],
    ],
    [
      'a state',
      [
        'GLOBAL a B',
        'EMPTY_TUPLE',
        'NEWOBJ',
        'GLOBAL os system',
        'STR touch CANARY',
        'TUPLE1',
        'REDUCE',
        'BUILD',
      ],
    ],
    ['names of object members', ['GLOBAL __proto__ constructor', 'STR touch CANARY', 'TUPLE1', 'REDUCE']],
    ['names of this process', ['GLOBAL process exit', 'INT 1', 'TUPLE1', 'REDUCE']],
    ['node:child_process', ['GLOBAL node:child_process execSync', 'STR touch CANARY', 'TUPLE1', 'REDUCE']],
    [
      '_codecs.encode with another codec',
      ['GLOBAL _codecs encode', 'STR touch CANARY', 'STR unicode_escape', 'TUPLE2', 'REDUCE'],
    ],
  ];
  const places: [string, (lines: string[]) => string[]][] = [
    ['beside the weights', (lines) => stateLines(['STR args', ...lines, 'SETITEM'])],
    [
      'in a list behind them',
      (lines) => stateLines([], ['STR hooks', 'EMPTY_LIST', ...lines, 'APPEND', 'SETITEM']),
    ],
    ['thrown away', (lines) => stateLines([...lines, 'POP'])],
    ['as a key', (lines) => stateLines([...lines, 'NONE', 'SETITEM'])],
  ];
  const cases = payloads.flatMap(([name, lines]) =>
    places.flatMap(([place, put]) =>
      (['zip', 'legacy'] as const).map((form) => [`${name} ${place} (${form})`, form, put(lines)] as const),
    ),
  );

  it.each(cases)('%s', async (_, form, lines) => {
    const path = join(folder, 'payload.pth');
    const pickle = lines.map((line) => line.replace('CANARY', canary()));
    build(path, { torch: { form, pickle } });
    const before = Object.keys(globalThis).length;
    const model = await loadModel(path);
    for (const tensor of model.tensors.values()) await readBytes(tensor);
    await model.close();
    const { contents } = await inspectCheckpoint(path);
    expect(contents?.inertCount).toBe(lines.includes('POP') ? 0 : contents?.inert.length);
    expect(existsSync(canary())).toBe(false);
    expect(Object.keys(globalThis)).toHaveLength(before);
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
  });

  it.each(payloads)('%s in the place of a weight is refused', async (_, lines) => {
    const recipe = {
      tiny: false,
      pickle: [
        'PROTO 2',
        'EMPTY_DICT',
        'STR model',
        'EMPTY_DICT',
        'STR head.weight',
        ...lines,
        'SETITEM',
        'SETITEM',
        'STOP',
      ],
    };
    await expect(open(recipe)).rejects.toThrow(
      /^model\.pth: "model\.head\.weight" is .* \(byte \d+ of the pickle\)$/,
    );
    expect(existsSync(canary())).toBe(false);
  });
});
