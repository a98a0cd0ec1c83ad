import { EventEmitter } from 'node:events';
import { describe, expect, it } from 'vitest';
import { createProgram, withDefaultCommand } from '../../src/cli/program.js';
import { InputError, InterruptedError, NetworkError, ParityError } from '../../src/errors.js';
import type { ConvertOptions, VerifyOptions } from '../../src/pipeline.js';
import { VERSION } from '../../src/version.js';
import { CONVERTED, INSPECTED, PARITY, runFake, VERIFIED } from './harness.js';

const CONVERT = ['--src', 'official', '--out', 'model.onnx'];

/** The options the pipeline was given, without what every run has. */
async function optionsOf(args: readonly string[]): Promise<Partial<ConvertOptions>> {
  let seen: ConvertOptions | undefined;
  const outcome = await runFake(args, {
    pipeline: {
      convert: (options) => {
        seen = options;
        return Promise.resolve(CONVERTED);
      },
    },
  });
  expect(outcome.stderr).toBe('');
  expect(outcome.code).toBe(0);
  const { signal, onProgress, onNote, env, ...rest } = seen!;
  expect([signal, onProgress, onNote, env]).not.toContain(undefined);
  return JSON.parse(JSON.stringify(rest)) as Partial<ConvertOptions>;
}

describe('convert hands its options to the pipeline', () => {
  const defaults = { src: 'official', out: 'model.onnx', verify: true, noClobber: false };
  it.each([
    ['without the command’s name', CONVERT, {}],
    ['with it', ['convert', ...CONVERT], {}],
    ['--opset', [...CONVERT, '--opset', '18'], { opset: 18 }],
    ['--external-data', [...CONVERT, '--external-data'], { externalData: true }],
    ['--dtype', [...CONVERT, '--dtype', 'fp32, q8'], { precisions: ['fp32', 'q8'] }],
    ['--keep', [...CONVERT, '--keep', 'patch,layers.3'], { keep: ['patch', 'layers.3'] }],
    ['--reduce-range', [...CONVERT, '--reduce-range'], { reduceRange: true }],
    ['--no-reduce-range', [...CONVERT, '--no-reduce-range'], { reduceRange: false }],
    ['--link', [...CONVERT, '--link'], { link: true }],
    [
      '--dynamic-size',
      [...CONVERT, '--dynamic-size', '--resize', 'timm-simple'],
      { dynamicSize: true, resize: 'timm-simple' },
    ],
    ['--accept-quality', [...CONVERT, '--accept-quality'], { acceptQuality: true }],
    ['--no-verify', [...CONVERT, '--no-verify'], { verify: false, digest: false }],
    ['--no-verify --json', [...CONVERT, '--no-verify', '--json'], { verify: false }],
    ['--no-clobber', [...CONVERT, '--no-clobber'], { noClobber: true }],
    [
      '--samples and --seed',
      [...CONVERT, '--samples', '3', '--seed', '4294967295'],
      { samples: 3, seed: 4294967295 },
    ],
    ['--seed 0', [...CONVERT, '--seed', '0'], { seed: 0 }],
    [
      '--image, several',
      ['--image', 'a.jpg', 'b.jpg', ...CONVERT, '--image', 'c.jpg'],
      { images: ['a.jpg', 'b.jpg', 'c.jpg'] },
    ],
    ['--config', [...CONVERT, '--config', 'c.json'], { configPath: 'c.json' }],
    ['--layout timm', [...CONVERT, '--layout', 'timm'], { layout: 'timm' }],
    ['--shared-bias keep', [...CONVERT, '--shared-bias', 'keep'], { sharedTable: 'keep' }],
    ['--shared-bias layers', [...CONVERT, '--shared-bias', 'layers'], { sharedTable: 'spread' }],
    ['--beit-version', [...CONVERT, '--beit-version', '2'], { version: 2 }],
    ['--ema', [...CONVERT, '--ema'], { ema: true }],
    ['--key', [...CONVERT, '--key', 'trainer.state_dict'], { key: 'trainer.state_dict' }],
    ['--img-size N', [...CONVERT, '--img-size', '384'], { imageSize: [384, 384] }],
    ['--img-size HxW', [...CONVERT, '--img-size', '384x640'], { imageSize: [384, 640] }],
    [
      '--patch-size and --resize',
      [...CONVERT, '--patch-size', '14', '--resize', 'timm-simple'],
      { patchSize: 14, resize: 'timm-simple' },
    ],
    ['--threads', [...CONVERT, '--threads', '1'], { threads: 1 }],
    ['--task features', [...CONVERT, '--task', 'features'], { task: 'features' }],
    [
      '--out-type and --out-indices',
      [...CONVERT, '--out-type', 'raw,cls_token', '--out-indices', '0,-1'],
      { outTypes: ['raw', 'cls_token'], outIndices: [0, -1] },
    ],
    ['--no-final-norm', [...CONVERT, '--no-final-norm'], { finalNorm: false }],
    ['--drop-head', [...CONVERT, '--drop-head'], { dropHead: true }],
    [
      '--feature-taps, --upsample and --batch',
      [...CONVERT, '--feature-taps', 'transformers', '--upsample', '--batch', '2'],
      { featureTaps: 'transformers', upsample: true, batch: 2 },
    ],
    ['--option=value', ['--src=official', '--out=model.onnx', '--samples=2'], { samples: 2 }],
  ])('%s', async (_, args, expected) => {
    expect(await optionsOf(args)).toEqual({ ...defaults, ...expected });
  });

  it('every option of convert and verify that the issue asks for is in the help', () => {
    const program = createProgram({} as never);
    const flags = (name: string) =>
      program.commands.find((command) => command.name() === name)!.options.map((option) => option.long);
    const shared = [
      '--src',
      '--stream',
      '--config',
      '--labels',
      '--beit-version',
      '--layout',
      '--shared-bias',
      '--ema',
      '--key',
      '--img-size',
      '--patch-size',
      '--resize',
      '--samples',
      '--seed',
      '--image',
      '--accept-quality',
      '--threads',
      '--layers',
      '--report',
    ];
    expect(flags('convert').sort()).toEqual(
      [
        ...shared,
        '--out',
        '--to',
        '--format',
        '--with-weights',
        '--push',
        '--dry-run',
        '--private',
        '--pr',
        '--drop',
        '--task',
        '--out-type',
        '--out-indices',
        '--final-norm',
        '--no-final-norm',
        '--drop-head',
        '--feature-taps',
        '--upsample',
        '--batch',
        '--dynamic-size',
        '--opset',
        '--external-data',
        '--link',
        '--dtype',
        '--keep',
        '--reduce-range',
        '--no-reduce-range',
        '--no-clobber',
        '--no-verify',
        '--json',
        '--quiet',
        '--verbose',
      ].sort(),
    );
    expect(flags('verify').sort()).toEqual(
      [...shared, '--against', '--golden', '--json', '--quiet', '--verbose'].sort(),
    );
  });
});

describe('the default command', () => {
  it.each([
    ['nothing', [], []],
    ['help stays help', ['--help'], ['--help']],
    ['version stays version', ['-V'], ['-V']],
    ['an option starts convert', ['--src', 'a'], ['convert', '--src', 'a']],
    ['a word is a command', ['list'], ['list']],
    ['also when it is none', ['model.onnx'], ['model.onnx']],
  ])('%s', (_, args, expected) => {
    expect(withDefaultCommand(args)).toEqual(expected);
  });
});

describe('--json', () => {
  it('prints the conversion as one object', async () => {
    const { stdout, stderr, code } = await runFake([...CONVERT, '--json'], {
      pipeline: { convert: () => Promise.resolve(CONVERTED) },
    });
    expect(JSON.parse(stdout)).toEqual({
      ok: true,
      tool: { name: 'convert-beit', version: VERSION },
      ...(JSON.parse(JSON.stringify(CONVERTED)) as object),
    });
    expect(stdout.endsWith('}\n')).toBe(true);
    expect({ stderr, code }).toEqual({ stderr: '', code: 0 });
  });

  it('verify and inspect too', async () => {
    const verified = await runFake(['verify', 'm.onnx', '--src', 'official', '--json'], {
      pipeline: { verify: () => Promise.resolve(VERIFIED) },
    });
    expect(JSON.parse(verified.stdout)).toMatchObject({ ok: true, file: { bytes: 346_400_000 } });
    const inspected = await runFake(['inspect', 'w.safetensors', '--json'], {
      pipeline: { inspect: () => Promise.resolve(INSPECTED) },
    });
    expect(JSON.parse(inspected.stdout)).toMatchObject({ ok: true, tensors: INSPECTED.tensors });
  });

  it('a parity error carries its report', async () => {
    const report = { ...PARITY, verdict: 'failed' as const };
    const outcome = await runFake([...CONVERT, '--json'], {
      pipeline: { convert: () => Promise.reject(new ParityError('off', report, { next: 'look' })) },
    });
    expect(outcome.code).toBe(4);
    expect(JSON.parse(outcome.stdout)).toEqual({
      ok: false,
      error: { kind: 'parity', message: 'off', next: 'look', exitCode: 4 },
      parity: JSON.parse(JSON.stringify(report)) as unknown,
    });
    expect(outcome.stderr).toMatch(/FAILED[\s\S]*error: off\n {2}next: look\n$/);
  });

  it.each([
    ['a usage error', ['--opset', 'x', '--json'], 'usage', 2],
    ['an unknown command', ['lst', '--json'], 'usage', 2],
  ])('%s before anything was parsed', async (_, args, kind, exitCode) => {
    const { stdout, code } = await runFake(args);
    expect(JSON.parse(stdout)).toMatchObject({ ok: false, error: { kind, exitCode } });
    expect(code).toBe(exitCode);
  });

  it('progress and notes stay off stdout', async () => {
    const { stdout, stderr } = await runFake([...CONVERT, '--json'], {
      stderrColumns: 80,
      pipeline: {
        convert: ({ onProgress, onNote }) => {
          onProgress?.({ phase: 'write', label: 'model.onnx', done: 1, total: 2, unit: 'bytes' });
          onNote?.('something was assumed');
          return Promise.resolve(CONVERTED);
        },
      },
    });
    expect(JSON.parse(stdout)).toMatchObject({ ok: true });
    expect(stderr).toContain('writing model.onnx');
    expect(stderr).toContain('something was assumed');
  });
});

describe('what a person sees', () => {
  const convert = { convert: () => Promise.resolve(CONVERTED) };
  it.each([
    ['who it is', 'official:beit_base_patch16_224_pt22k_ft22kto1k'],
    ['commit', 'commit 0123456789abcdef0123456789abcdef01234567'],
    ['the file read', 'model.safetensors, 346.2 MB'],
    ['its hash', 'sha256 abab'],
    ['layout', 'safetensors, official layout, prefix module. stripped'],
    ['version', 'BEiT v1: catalog row beit_base_patch16_224_pt22k_ft22kto1k'],
    ['config', 'base, 224×224, patch 16, 12 blocks × 768, 12 heads, 1,000 classes'],
    ['cost', '86.5 M parameters, 17.6 G FLOPs'],
    ['the file written', 'model.onnx, 346.4 MB'],
    ['opset', 'opset 17, IR version 8'],
    ['ports', 'pixel_values f32[batch, 3, 224, 224] → logits f32[batch, 1000]'],
    ['verdict', 'passed'],
    ['max abs', '2.1e-6'],
    ['best class', 'tabby, tabby cat'],
    ['its bar', '62.0 % ███████████████\n'],
    ['where the reference differs', '30.0 % ███████  reference 28.0 %'],
    ['labels without escape sequences', 'Egyptian \\u{1b}[31mcat'],
    ['a class without a name', 'class 282'],
    ['notes', 'a square window of 14×14 patches assumed'],
    ['time and memory', '4.1 s (read 0.05 s, write 0.60 s, verify 3.4 s), peak memory 143.0 MB'],
  ])('convert: %s', async (_, expected) => {
    const { stdout, stderr } = await runFake(CONVERT, { pipeline: convert });
    expect(stdout).toContain(expected);
    expect(stdout).not.toContain('\u001b');
    expect(stderr).toBe('');
  });

  it.each([80, 120])('fits %d columns', async (columns) => {
    const { stdout } = await runFake(CONVERT, {
      pipeline: convert,
      stdoutColumns: columns,
      env: { NO_COLOR: '1' },
    });
    for (const line of stdout.split('\n')) expect(line.length).toBeLessThanOrEqual(columns);
  });

  it('a note is said once, on stderr when it is known early', async () => {
    const [note] = CONVERTED.source.notes;
    const { stdout, stderr } = await runFake(CONVERT, {
      pipeline: {
        convert: ({ onNote }) => {
          onNote?.(note);
          onNote?.(note);
          return Promise.resolve(CONVERTED);
        },
      },
    });
    expect(stderr).toBe(`note: ${note}\n`);
    expect(stdout).not.toContain(note);
  });

  it('--no-verify is said', async () => {
    const { stdout } = await runFake([...CONVERT, '--no-verify'], {
      pipeline: {
        convert: () =>
          Promise.resolve({
            ...CONVERTED,
            parity: { verdict: 'skipped', checks: [], inputs: [], seconds: 0 },
          }),
      },
    });
    expect(stdout).toMatch(/^parity +not checked$/m);
    expect(stdout).not.toContain('verify 3.4');
  });

  it('--quiet says nothing', async () => {
    const outcome = await runFake([...CONVERT, '--quiet'], {
      stderrColumns: 80,
      pipeline: {
        convert: ({ onNote, onProgress }) => {
          onNote?.('n');
          onProgress?.({ phase: 'write', label: 'model.onnx', done: 1, total: 2, unit: 'bytes' });
          return Promise.resolve(CONVERTED);
        },
      },
    });
    expect(outcome).toEqual({ code: 0, stdout: '', stderr: '' });
  });

  it('progress only on a terminal, gone before anything else', async () => {
    const pipeline = {
      convert: ({ onProgress }: ConvertOptions) => {
        onProgress?.({ phase: 'write', label: 'model.onnx', done: 1, total: 2, unit: 'bytes' });
        return Promise.reject(new NetworkError('gone'));
      },
    };
    expect((await runFake(CONVERT, { pipeline })).stderr).toBe('error: gone\n');
    const { stderr } = await runFake(CONVERT, { pipeline, stderrColumns: 80, env: { NO_COLOR: '1' } });
    expect(stderr).toMatch(/^\r\u001b\[2Kwriting model\.onnx .*\r\u001b\[2Kerror: gone\n$/);
    expect((await runFake(CONVERT, { pipeline, stderrColumns: 80, env: { TERM: 'dumb' } })).stderr).toBe(
      'error: gone\n',
    );
  });

  it('verify: both files', async () => {
    let seen: VerifyOptions | undefined;
    const { stdout } = await runFake(['verify', 'm.onnx', '--src', 'official', '--shared-bias', 'layers'], {
      pipeline: {
        verify: (options) => {
          seen = options;
          return Promise.resolve(VERIFIED);
        },
      },
    });
    expect(seen).toMatchObject({ model: 'm.onnx', src: 'official', sharedTable: 'spread' });
    expect(stdout).toMatch(/^source[\s\S]*^model[\s\S]*^parity[\s\S]*^took/m);
  });

  it('inspect: names from the file cannot act on the terminal', async () => {
    const { stdout } = await runFake(['inspect', 'w.safetensors'], {
      pipeline: { inspect: () => Promise.resolve(INSPECTED) },
    });
    expect(stdout).toContain('evil\\u{1b}]0;x\\u{7}\\u{a}name');
    expect(stdout).not.toMatch(/[\u0000-\u0009\u000b-\u001f]/);
    expect(stdout).toContain('86,530,984 parameters, 17,581,219,584 FLOPs');
    expect(stdout).toMatch(/blocks\.0\.norm1\.bias +backbone\.layers\.0\.ln1\.bias +F32 +768 +3\.07 kB/);
    expect(stdout).toMatch(/relative_position_index +\(rebuilt\) +I64 +197×197/);
    expect(stdout).toMatch(/name +\(unknown\) +F16 +scalar/);
  });

  it('inspect: where class names are from', async () => {
    const named = { ...INSPECTED, labels: ['a', 'b'], labelsOrigin: 'the \u001bcheckpoint' };
    const { stdout } = await runFake(['inspect', 'w.safetensors'], {
      pipeline: { inspect: () => Promise.resolve(named) },
    });
    expect(stdout).toContain('2 class names: the \\u{1b}checkpoint');
  });

  it('inspect: why it cannot be converted', async () => {
    const broken = {
      ...INSPECTED,
      config: undefined,
      parameters: undefined,
      flops: undefined,
      layout: undefined,
    };
    const { stdout, code } = await runFake(['inspect', 'w.safetensors'], {
      pipeline: {
        inspect: () =>
          Promise.resolve({
            ...broken,
            problem: { kind: 'LayoutError', message: 'this looks like a DeiT', next: 'take a BEiT' },
          }),
      },
    });
    expect(code).toBe(0);
    expect(stdout).toContain('cannot be converted: this looks like a DeiT');
    expect(stdout).toContain('next: take a BEiT');
    expect(stdout).toContain('no layout known here');
  });
});

describe('a failure', () => {
  it('is a message, a next step and no stack trace', async () => {
    const error = new InputError('model.pth is a Git LFS pointer (134 bytes), not weights', {
      next: 'Run: git lfs pull',
    });
    const pipeline = { convert: () => Promise.reject(error) };
    expect(await runFake(CONVERT, { pipeline })).toEqual({
      code: 3,
      stdout: '',
      stderr: 'error: model.pth is a Git LFS pointer (134 bytes), not weights\n  next: Run: git lfs pull\n',
    });
    const { stderr } = await runFake([...CONVERT, '--verbose'], { pipeline });
    expect(stderr).toMatch(/^ {4}at /m);
  });

  it('a bug says so', async () => {
    const outcome = await runFake(CONVERT, {
      pipeline: { convert: () => Promise.reject(new TypeError('x is not a function')) },
    });
    expect(outcome).toEqual({
      code: 1,
      stdout: '',
      stderr:
        'error: unexpected error, please report it (TypeError: x is not a function)\n  next: Run the same command with --verbose to see where it came from.\n',
    });
  });
});

describe('a signal', () => {
  /** A conversion that ends only when it is told to. */
  const patient = (signals: EventEmitter, names: readonly string[]) => ({
    convert: ({ signal }: ConvertOptions) =>
      new Promise<never>((_, reject) => {
        signal?.addEventListener('abort', () => {
          for (const name of names.slice(1)) signals.emit(name, name);
          reject(new InterruptedError('interrupted; nothing was written', { cause: signal.reason }));
        });
        signals.emit(names[0], names[0]);
      }),
  });

  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ])('%s stops the work and ends with %d', async (name, code) => {
    const signals = new EventEmitter();
    const outcome = await runFake([...CONVERT, '--json'], { signals, pipeline: patient(signals, [name]) });
    expect(outcome.code).toBe(code);
    expect(JSON.parse(outcome.stdout)).toMatchObject({
      ok: false,
      error: { kind: 'interrupted', exitCode: code },
    });
    expect(outcome.stderr).toContain('error: interrupted; nothing was written\n');
    expect(signals.eventNames()).toEqual([]);
  });

  it('a second one does not wait', async () => {
    const signals = new EventEmitter();
    const exits: number[] = [];
    await runFake(CONVERT, {
      signals,
      exit: (code) => exits.push(code),
      pipeline: patient(signals, ['SIGINT', 'SIGINT']),
    });
    expect(exits).toEqual([130]);
  });

  it('work that got to its end all the same is told as done', async () => {
    const signals = new EventEmitter();
    const { code, stdout } = await runFake(CONVERT, {
      signals,
      pipeline: {
        convert: () => {
          signals.emit('SIGINT', 'SIGINT');
          return Promise.resolve(CONVERTED);
        },
      },
    });
    expect(code).toBe(0);
    expect(stdout).toContain('model.onnx');
  });
});
