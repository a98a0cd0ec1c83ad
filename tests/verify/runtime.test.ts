import { execFile, spawn } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { EnvironmentError, FormatError } from '../../src/errors.js';
import type { ProgressEvent } from '../../src/progress.js';
import { runOnnx } from '../../src/verify/runtime.js';
import { readSafetensors } from '../../src/convert/containers/safetensors.js';
import { openFile } from '../../src/file-source.js';
import { readFloat32 } from '../../src/tensor.js';
import { goldenPath } from '../convert/goldens.js';
import { editOnnx } from '../support/onnx-edit.js';
import { Exports } from './exported.js';

const dist = (file: string): string => fileURLToPath(new URL(`../../dist/verify/${file}`, import.meta.url));
const exports = new Exports();
const folder = mkdtempSync(join(tmpdir(), 'convert-beit-runtime-'));
const shape = [3, 32, 32];
const image = new Float32Array(3 * 32 * 32).fill(0.25);
let model: string;

beforeAll(async () => {
  ({ path: model } = await exports.export('v1_cls'));
});
afterAll(async () => {
  await exports.close();
  rmSync(folder, { recursive: true });
});

/** A program that stands in for the process in which ONNX Runtime runs. */
function child(name: string, program: string): string {
  const path = join(folder, `${name}.mjs`);
  writeFileSync(path, program);
  return path;
}

const failure = (run: Promise<unknown>): Promise<unknown> =>
  run.then(
    () => undefined,
    (error: unknown) => error,
  );

describe('runOnnx', () => {
  it('gives upstream’s logits, whatever the batch', async () => {
    const source = await openFile(goldenPath('v1_cls', 'io.safetensors'));
    const { tensors } = await readSafetensors(source);
    const inputs = await readFloat32(tensors.get('input')!);
    const golden = await readFloat32(tensors.get('logits')!);
    await source.close();
    for (const batch of [1, 2]) {
      const events: ProgressEvent[] = [];
      const { outputs, version, peakMemoryBytes } = await runOnnx(model, {
        inputs,
        shape,
        batch,
        threads: 1,
        onProgress: (event) => events.push(event),
      });
      expect(version).toMatch(/^\d+\.\d+\.\d+$/);
      expect(peakMemoryBytes).toBeGreaterThan(10e6);
      expect([...outputs.keys()]).toEqual(['logits']);
      const { dims, data } = outputs.get('logits')!;
      expect(dims).toEqual([2, 10]);
      expect(Math.max(...data.map((value, i) => Math.abs(value - golden[i])))).toBeLessThan(1e-5);
      expect(events.map(({ done }) => done)).toEqual(batch === 1 ? [0, 1, 2] : [0, 2]);
      expect(events.at(-1)).toEqual({ phase: 'runtime', label: '1.onnx', done: 2, total: 2, unit: 'steps' });
    }
  });

  it('finds external data', async () => {
    const { path } = await exports.export('v1_cls', { externalData: true });
    expect(existsSync(`${path}_data`)).toBe(true);
    const both = await Promise.all([path, model].map((each) => runOnnx(each, { inputs: image, shape })));
    expect(both[0].outputs.get('logits')!.data).toEqual(both[1].outputs.get('logits')!.data);
  });

  it('keeps the runtime’s warnings away from stdout', async () => {
    const noisy = join(folder, 'noisy.onnx');
    // An initializer that nobody uses makes ONNX Runtime warn; so does the output's wrong shape.
    editOnnx(model, noisy, (file) => {
      file.addFloats('unused', [1000], new Float32Array(1000));
      file.model.graph!.output![0].type!.tensorType!.shape!.dim![1] = { dimValue: 11 };
    });
    const url = new URL('../../dist/verify/runtime.js', import.meta.url);
    const program = `import { runOnnx } from ${JSON.stringify(url.href)};
      await runOnnx(${JSON.stringify(noisy)}, { inputs: new Float32Array(3072), shape: [3, 32, 32] });`;
    const { stdout, stderr } = await promisify(execFile)(process.execPath, [child('noisy', program)]);
    expect(stdout).toBe('');
    expect(stderr).toBe('');
  });
});

describe('what goes wrong', () => {
  const broken = (name: string, content: Uint8Array): string => {
    const path = join(folder, name);
    writeFileSync(path, content);
    return path;
  };

  it.each<[string, () => string, string]>([
    ['no such file', () => join(folder, 'absent.onnx'), 'ONNX Runtime does not load absent.onnx: '],
    ['no ONNX', () => broken('text.onnx', Buffer.from('hello')), 'ONNX Runtime does not load text.onnx: '],
    [
      'cut off',
      () => broken('cut.onnx', readFileSync(model).subarray(0, 9000)),
      'ONNX Runtime does not load cut.onnx: ',
    ],
  ])('%s', async (_, path, message) => {
    const error = await failure(runOnnx(path(), { inputs: image, shape }));
    expect(error).toBeInstanceOf(FormatError);
    expect((error as Error).message).toContain(message);
    expect((error as Error).message).not.toContain('\n');
    expect((error as Error).message).not.toContain(folder);
  });

  it('wrong input shape', async () => {
    const error = await failure(
      runOnnx(model, { inputs: new Float32Array(3 * 16 * 16), shape: [3, 16, 16] }),
    );
    expect(error).toBeInstanceOf(FormatError);
    expect((error as Error).message).toContain('ONNX Runtime fails to run 1.onnx: ');
  });

  it('wrong input name', async () => {
    const error = await failure(runOnnx(model, { inputs: image, shape, inputName: 'pixels' }));
    expect((error as Error).message).toContain('ONNX Runtime fails to run 1.onnx: ');
  });

  it('values that are no whole images', async () => {
    const error = await failure(runOnnx(model, { inputs: image.subarray(1), shape }));
    expect((error as Error).message).toBe('3071 values are no batch of [3, 32, 32] images');
  });

  it('onnxruntime-node is absent', async () => {
    // The same program, in a folder from which no package can be found.
    const lonely = join(folder, 'runtime-child.mjs');
    copyFileSync(dist('runtime-child.js'), lonely);
    const error = await failure(runOnnx(model, { inputs: image, shape, child: lonely }));
    expect(error).toBeInstanceOf(EnvironmentError);
    expect((error as EnvironmentError).message).toContain(
      'verification needs onnxruntime-node, which is not installed',
    );
    expect((error as EnvironmentError).next).toContain('npm install onnxruntime-node');
    expect((error as EnvironmentError).exitCode).toBe(1);
  });

  it.each([
    [
      'crash',
      `process.once('message', () => process.kill(process.pid, 'SIGSEGV'));`,
      'ended by signal SIGSEGV',
    ],
    [
      'abort with a word',
      `process.once('message', () => { process.stderr.write('x\\nbad_alloc\\u001b[2J\\n', () => process.kill(process.pid, 'SIGABRT')); });`,
      'bad_alloc\\u{1b}[2J',
    ],
    ['exit', `process.exit(7)`, 'ended by exit code 7'],
    ['no program', `syntax error`, 'ended by exit code 1'],
  ])('%s', async (name, program, message) => {
    const error = await failure(runOnnx(model, { inputs: image, shape, child: child(name, program) }));
    expect(error).toBeInstanceOf(EnvironmentError);
    expect((error as Error).message).toContain(message);
  });
});

describe('endings', () => {
  const SLEEP = `process.once('message', () => process.send({ kind: 'progress', done: 1 })); setInterval(() => {}, 1000);`;

  it('is killed when aborted', async () => {
    const controller = new AbortController();
    const reason = new Error('enough');
    const run = runOnnx(model, {
      inputs: image,
      shape,
      child: child('sleep', SLEEP),
      signal: controller.signal,
      onProgress: ({ done }) => done === 1 && controller.abort(reason),
    });
    expect(await failure(run)).toBe(reason);
  });

  it('does not start when aborted before', async () => {
    const started = join(folder, 'started');
    const program = child(
      'mark',
      `import { writeFileSync } from 'node:fs'; writeFileSync(${JSON.stringify(started)}, '');`,
    );
    const reason = new Error('too late');
    const signal = AbortSignal.abort(reason);
    expect(await failure(runOnnx(model, { inputs: image, shape, child: program, signal }))).toBe(reason);
    expect(existsSync(started)).toBe(false);
  });

  // A parent that is killed can't clean up: the child has to notice. It loops without ever returning to its event
  // loop, as native code does.
  it.skipIf(process.platform === 'win32')(
    'dies with its parent, even in the middle of native code',
    async () => {
      const busy = join(folder, 'node_modules', 'onnxruntime-node');
      mkdirSync(busy, { recursive: true });
      writeFileSync(join(busy, 'package.json'), '{"main":"index.js"}');
      writeFileSync(
        join(busy, 'index.js'),
        `exports.env = { versions: {} };
       exports.InferenceSession = { create() { require('fs').writeFileSync(${JSON.stringify(join(folder, 'pid'))}, String(process.pid)); for (;;); } };`,
      );
      const lonely = join(folder, 'busy-child.mjs');
      copyFileSync(dist('runtime-child.js'), lonely);
      const url = new URL('../../dist/verify/runtime.js', import.meta.url);
      const program = `import { runOnnx } from ${JSON.stringify(url.href)};
      await runOnnx('x', { inputs: new Float32Array(1), shape: [1], child: ${JSON.stringify(lonely)} });`;
      const parent = spawn(process.execPath, [child('parent', program)], { stdio: 'ignore' });
      const pid = await until(() =>
        existsSync(join(folder, 'pid')) ? Number(readFileSync(join(folder, 'pid'), 'utf8')) : 0,
      );
      expect(alive(pid)).toBe(true);
      parent.kill('SIGKILL');
      await until(() => !alive(pid));
    },
  );
});

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    // Nobody may be there to collect it: a zombie is dead.
    const stat = `/proc/${pid}/stat`;
    return !existsSync(stat) || !/\) Z /.test(readFileSync(stat, 'utf8'));
  } catch {
    return false;
  }
}

async function until<T>(look: () => T): Promise<T> {
  for (;;) {
    const found = look();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
