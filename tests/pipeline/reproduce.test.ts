/** The command line in a report, run in a shell where the first run was: the same file, the same numbers. */
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { spawn } from 'node:child_process';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createProgram } from '../../src/cli/program.js';
import type { ConvertOptions, VerifyOptions } from '../../src/pipeline.js';
import { commandOf } from '../../src/reproduce.js';
import type { ReportDocument } from '../../src/verify/report/data.js';
import { CONVERTED, MAIN, VERIFIED, cleanEnv, runCompiled, runFake } from '../cli/harness.js';
import { goldenPath } from '../convert/goldens.js';
import { editOnnx } from '../support/onnx-edit.js';

const folder = mkdtempSync(join(tmpdir(), 'convert-beit-again-'));
const bin = join(folder, 'bin');
const demo = (name: string): string => fileURLToPath(new URL(`../../fixtures/demo/${name}`, import.meta.url));
const WEIGHTS = 'beit_demo_patch8_64.safetensors';
const NAMES = ['ring', 'star', 'heart', 'cross', 'disc', 'moon', 'box', 'wedge'];

/** A command in a POSIX shell that finds `convert-beit` where a person's shell would. */
function shell(command: string): Promise<number | null> {
  return new Promise((resolve, reject) => {
    const PATH = `${bin}${delimiter}${process.env['PATH'] ?? ''}`;
    const child = spawn('sh', ['-c', command], { cwd: folder, env: cleanEnv({ PATH }), stdio: 'ignore' });
    child.on('error', reject);
    child.on('close', resolve);
  });
}

const read = (name: string): ReportDocument =>
  JSON.parse(readFileSync(join(folder, name), 'utf8')) as ReportDocument;

beforeAll(async () => {
  for (const name of ['bin', "it's a model", 'two words']) mkdirSync(join(folder, name));
  writeFileSync(join(bin, 'convert-beit'), `#!/bin/sh\nexec '${process.execPath}' '${MAIN}' "$@"\n`);
  chmodSync(join(bin, 'convert-beit'), 0o755);
  for (const name of [WEIGHTS, 'config.json']) copyFileSync(demo(name), join(folder, "it's a model", name));
  copyFileSync(demo('heart.jpg'), join(folder, 'two words', 'my "heart" $1.jpg'));
  copyFileSync(demo('ring.png'), join(folder, 'ring.png'));
  writeFileSync(join(folder, 'two words', 'names & more.txt'), NAMES.join('\n'));
  writeFileSync(join(folder, 'early.json'), '{"early_layers":2}');
  const made = await runCompiled(['--src', "it's a model", '--out', 'sound one.onnx'], { cwd: folder });
  expect(made.code).toBe(0);
  editOnnx(join(folder, 'sound one.onnx'), join(folder, 'broken.onnx'), (file) => {
    const name = 'backbone.layers.1.ln2.weight';
    file.setFloats(
      name,
      file.floats(name).map((value, i) => (i < 5 ? 2 * value : value)),
    );
  });
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

const SOURCE = ['--src', "it's a model"];
const FEATURES = ['--src', goldenPath('mm_out_types', 'mmpretrain.safetensors')];
const MASKED = ['--src', goldenPath('mim_v2_cls_pt', 'official.safetensors'), '--config', 'early.json'];
const SEGMENT = ['--src', goldenPath('segmentation', 'hf.safetensors')];
const PICTURES = ['--image', 'two words/my "heart" $1.jpg', 'ring.png'];

interface Run {
  readonly name: string;
  readonly args: readonly string[];
  readonly code?: number;
  /** the report of a second precision */
  readonly further?: string;
}

// prettier-ignore
const RUNS: readonly Run[] = [
  { name: 'pictures, precisions, layers', args: [...SOURCE, '--out', "a b's.onnx", '--dtype', 'fp32,q8', '--keep', 'patch', ...PICTURES, '--layers'], further: 'r_q8.json' },
  { name: 'class names, another size', args: [...SOURCE, '--out', 'x.onnx', '--labels', 'two words/names & more.txt', '--img-size', '64x96', '--resize', 'timm', ...PICTURES] },
  { name: 'without its head', args: [...SOURCE, '--out', 'x.onnx', '--drop-head', '--opset', '18', '--batch', '3', '--external-data', '--seed', '5'] },
  { name: 'any size', args: [...SOURCE, '--out', 'x.onnx', '--dynamic-size', '--resize', 'timm-simple', '--samples', '2'] },
  { name: 'unchecked', args: [...SOURCE, '--out', 'x.onnx', '--no-verify', '--labels', 'none'] },
  { name: 'features', args: [...FEATURES, '--out', 'x.onnx', '--task', 'features', '--out-type', 'raw,avg_featmap', '--out-indices', '0,-1', '--no-final-norm', '--samples', '2', '--seed', '7'] },
  { name: 'masked image, accepted', args: [...MASKED, '--out', 'x.onnx', '--dtype', 'q4', '--accept-quality', '--samples', '3'] },
  { name: 'segmentation', args: [...SEGMENT, '--out', 'x.onnx', '--out-indices', '2,3,4,5', '--upsample', '--image', 'ring.png'] },
  { name: 'verify: pictures, names, against another', args: ['verify', 'sound one.onnx', ...SOURCE, '--labels', 'two words/names & more.txt', ...PICTURES, '--layers', '--against', 'sound one.onnx', 'broken.onnx'], code: 4 },
  { name: 'verify: a file that is wrong', args: ['verify', 'broken.onnx', ...SOURCE, '--layers', '--threads', '1', '--seed', '3'], code: 4 },
];

describe('the command line of a report, in a shell', () => {
  it.each(RUNS)('$name', async ({ args, code = 0, further }) => {
    const words = [...args, '--report', 'r.json'];
    const first = await runCompiled(words, { cwd: folder });
    expect({ code: first.code, said: first.stderr }).toMatchObject({ code });
    const names = ['r.json', ...(further === undefined ? [] : [further])];
    const before = names.map(read);
    for (const name of names) rmSync(join(folder, name));
    expect(await shell(before[0].command)).toBe(code);
    const timeless = (of: ReportDocument): unknown => ({ ...of, parity: { ...of.parity, seconds: 0 } });
    expect(names.map(read).map(timeless)).toEqual(before.map(timeless));
  });
});

/** What the pipeline is given for a line, and the report's line for that. */
async function given(words: readonly string[]): Promise<ConvertOptions | VerifyOptions> {
  let seen: ConvertOptions | VerifyOptions | undefined;
  const { code, stderr } = await runFake(words, {
    pipeline: {
      convert: (options) => {
        seen = options;
        return Promise.resolve(CONVERTED);
      },
      verify: (options) => {
        seen = options;
        return Promise.resolve(VERIFIED);
      },
    },
  });
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  // What every run has is no option of the line.
  const common = { signal: undefined, onProgress: undefined, onNote: undefined, env: undefined };
  return { ...seen!, ...common };
}

// prettier-ignore
const LINES: readonly (readonly [command: 'convert' | 'verify', line: string])[] = [
  ['convert', '--src a --out m.onnx --dtype fp32,q8 --stream --config c.json --labels ade20k --layout timm --beit-version 2 --shared-bias layers --ema --img-size 384x640 --patch-size 8 --resize beit2 --dynamic-size --task segment --out-type raw,cls_token --out-indices 3,-1 --final-norm --drop-head --feature-taps unilm --upsample --batch 2 --opset 18 --external-data --link --keep patch,head --reduce-range --accept-quality --image a.png b.png --seed 3 --threads 2 --layers --report r.html --report r.md'],
  ['convert', '--src a --out m.onnx --key model.ema --shared-bias keep --no-final-norm --no-reduce-range --keep none --samples 3 --seed 4'],
  ['convert', '--src a --out m.onnx --no-verify --report r.md'],
  ['verify', 'verify m.onnx --src a --stream --config c.json --labels n.txt --layout timm --beit-version 1 --shared-bias keep --ema --img-size 384x384 --patch-size 8 --resize timm --accept-quality --samples 2 --seed 0 --threads 2 --layers --against a.onnx b.json --golden name --report r.json'],
  ['verify', 'verify m.onnx --src a --key model.ema --golden --image a.png --report r.json'],
];

describe('the command line', () => {
  it.each(LINES)('%s %s says the same options again', async (_, line) => {
    const options = await given(line.split(' '));
    const again = commandOf(options, 'pinned', ('samples' in options && options.samples) || 0);
    expect(await given(again.split(' ').slice(1))).toEqual(options);
  });

  it.each(['convert', 'verify'] as const)('of %s leaves out no option that matters', (name) => {
    // What is said on the screen, what is not ONNX, and that a file must not be there yet.
    const aside =
      /^--(json|quiet|verbose|help|no-clobber|to|drop|format|with-weights|push|dry-run|private|pr)$/;
    const command = createProgram({} as never).commands.find((each) => each.name() === name)!;
    const said = new Set(LINES.filter(([of]) => of === name).flatMap(([, line]) => line.split(' ')));
    const flags = command.options.map(({ long }) => long!).filter((flag) => !aside.test(flag));
    expect(flags.filter((flag) => !said.has(flag))).toEqual([]);
  });

  it('pins a source of the hub to the commit that was read', () => {
    const options = { src: 'hf:a/b', model: 'm.onnx', reports: ['r.md'] };
    expect(commandOf(options, 'hf:a/b@123/model.safetensors', 2)).toBe(
      'convert-beit verify m.onnx --src hf:a/b@123/model.safetensors --samples 2 --seed 0 --report r.md',
    );
  });
});
