import { describe, expect, it } from 'vitest';
import type { ClassifyOptions, EvaluateOptions, EvaluateResult, Evaluation } from '../../src/pipeline.js';
import { runFake } from './harness.js';

const MODEL = {
  name: 'm\u001b[31m.onnx',
  bytes: 1,
  sha256: 'aa',
  preprocessing: {
    resize: 256,
    crop: [224, 224],
    interpolation: 'bicubic',
    mean: [0.5, 0.5, 0.5],
    std: [0.5, 0.5, 0.5],
    origin: 'a test',
  },
  correct1: 1_700,
  correct5: 1_950,
  top1: 0.85,
  top5: 0.975,
  notFinite: 0,
} as const;
const EVALUATION: Evaluation = {
  model: MODEL,
  dataset: { name: 'val', images: 2003, sha256: 'dd' },
  classMapping: 'class numbers',
  batch: 8,
  runtime: '1',
  images: { total: 2003, evaluated: 2000, unreadable: 3, labelled: 2000 },
  perClass: [{ class: 4, name: 'ring', images: 2000, correct1: 1700, correct5: 1950 }],
  unreadable: ['a', 'b', 'c'].map((image) => ({ image, error: `${image} is empty` })),
};
const RESULT: EvaluateResult = {
  evaluation: EVALUATION,
  run: {
    seconds: 100,
    images: 1503,
    imagesPerSecond: 15.03,
    resumed: 500,
    threads: 4,
    runtimePeakMemoryBytes: 5e8,
  },
  peakMemoryBytes: 1e8,
};

async function optionsOf(args: readonly string[]): Promise<object> {
  let seen: EvaluateOptions | ClassifyOptions | undefined;
  const keep = <T>(options: EvaluateOptions | ClassifyOptions, result: T): Promise<T> => {
    seen = options;
    return Promise.resolve(result);
  };
  const outcome = await runFake([...args, '--quiet'], {
    pipeline: {
      evaluate: (options) => keep(options, RESULT),
      classify: (options) =>
        keep(options, {
          model: { path: 'm', classes: 1 },
          preprocessing: MODEL.preprocessing,
          images: [],
          seconds: 0,
        }),
    },
  });
  expect(outcome).toMatchObject({ code: 0, stderr: '' });
  const { signal, onProgress, onNote, env, ...rest } = seen!;
  expect([signal, onProgress, onNote, env]).not.toContain(undefined);
  return JSON.parse(JSON.stringify(rest)) as object;
}

describe('options reach the pipeline', () => {
  const basis = { model: 'm.onnx', data: 'val' };
  it.each<[string, string[], object]>([
    ['none', [], {}],
    ['--shard', ['--shard', '2/4'], { shard: [2, 4] }],
    ['--results --resume', ['--results', 'r.jsonl', '--resume'], { results: 'r.jsonl', resume: true }],
    ['--against --batch', ['--against', 'b.onnx', '--batch', '16'], { against: 'b.onnx', batch: 16 }],
    [
      '--classes --labels',
      ['--classes', 'c.csv', '--labels', 'l.txt'],
      { classes: 'c.csv', labels: 'l.txt' },
    ],
    ['--preprocess', ['--preprocess', 'timm', '--beit-version', '2'], { preprocess: 'timm', version: 2 }],
    ['--threads', ['--threads', '3'], { threads: 3 }],
  ])('evaluate: %s', async (_, args, expected) => {
    expect(await optionsOf(['evaluate', 'm.onnx', 'val', ...args])).toEqual({ ...basis, ...expected });
  });

  it('classify: all', async () => {
    expect(
      await optionsOf(['classify', 'm.onnx', 'a.jpg', 'b.jpg', '--top', '3', '--preprocess', 'official']),
    ).toEqual({
      model: 'm.onnx',
      images: ['a.jpg', 'b.jpg'],
      top: 3,
      preprocess: 'official',
    });
  });
});

describe('usage errors of evaluate', () => {
  it.each<[string, string[], string]>([
    ['no model', [], 'a model and its data are needed'],
    ['no data', ['m.onnx'], 'a model and its data are needed'],
    ['--resume alone', ['m.onnx', 'val', '--resume'], '--resume needs the file of --results'],
    ['--merge with a model', ['m.onnx', '--merge', 'a.jsonl'], '--merge takes results files only'],
    [
      '--merge with --shard',
      ['--merge', 'a.jsonl', '--shard', '1/2'],
      "option '--merge <file...>' cannot be used with option '--shard <i/n>'",
    ],
    ['a shard of nothing', ['m.onnx', 'val', '--shard', '0/4'], 'It must be i/n with i from 1 to n'],
    ['a shard beyond', ['m.onnx', 'val', '--shard', '5/4'], 'It must be i/n with i from 1 to n'],
  ])('%s', async (_, args, message) => {
    const { code, stdout, stderr } = await runFake(['evaluate', ...args, '--json']);
    expect(code).toBe(2);
    expect(stderr).toContain(message);
    expect(JSON.parse(stdout)).toMatchObject({ ok: false, error: { kind: 'usage' } });
  });
});

describe('what a person sees', () => {
  it('accuracy, what was unreadable, speed; nothing a terminal acts on', async () => {
    const { stdout } = await runFake(['evaluate', 'm.onnx', 'val'], {
      pipeline: { evaluate: () => Promise.resolve(RESULT) },
    });
    expect(stdout).toContain('top-1 85.00 % (1,700 of 2,000), top-5 97.50 % (1,950 of 2,000)');
    expect(stdout).toContain('could not be read: 3');
    expect(stdout).toContain('b is empty');
    expect(stdout).toContain('15.0 pictures/s, 500 results were there already, peak memory 600.0 MB');
    expect(stdout).not.toContain('\u001b[31m');
    expect(stdout).not.toContain('ring');
  });

  it('--verbose: every class', async () => {
    const { stdout } = await runFake(['evaluate', 'm.onnx', 'val', '--verbose'], {
      pipeline: { evaluate: () => Promise.resolve(RESULT) },
    });
    expect(stdout).toMatch(/4 {2}ring +2,000 +85\.0 % +97\.5 %/);
  });

  it('--merge: the same without a run', async () => {
    const { stdout, code } = await runFake(['evaluate', '--merge', 'a', 'b'], {
      pipeline: {
        mergeEvaluations: (files) =>
          Promise.resolve({ evaluation: { ...EVALUATION, classMapping: files.join('+') } }),
      },
    });
    expect(code).toBe(0);
    expect(stdout).toContain('classes by a+b');
    expect(stdout).not.toContain('pictures/s');
  });

  it('two models: who is right', async () => {
    const agreement = {
      top1: 0.995,
      top5: 0.9,
      maxDifference: 0.123,
      bothRight: 1690,
      onlyModel: 10,
      onlyAgainst: 5,
      neither: 295,
    };
    const both = { ...RESULT, evaluation: { ...EVALUATION, against: MODEL, agreement } };
    const { stdout } = await runFake(['evaluate', 'm.onnx', 'val', '--against', 'b.onnx'], {
      pipeline: { evaluate: () => Promise.resolve(both) },
    });
    expect(stdout).toContain('same best class 99.50 %, same five best 90.00 %, scores differ by up to 0.123');
    expect(stdout).toContain('right: both 1,690, only the model 10, only the other 5, neither 295');
  });
});
