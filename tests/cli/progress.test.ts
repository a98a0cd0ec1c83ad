import { describe, expect, it } from 'vitest';
import { describeProgress, ProgressLine } from '../../src/cli/progress.js';
import { columnWidth } from '../../src/cli/text.js';
import type { ProgressEvent } from '../../src/progress.js';
import { FakeStream } from './harness.js';

const ERASE = '\r\u001b[2K';
const download = (done: number, total: number | undefined = 1_000_000): ProgressEvent => ({
  phase: 'download',
  label: 'model.safetensors',
  done,
  total,
  unit: 'bytes',
});

/** A line on a terminal of `columns`, with a clock that only moves when told. */
function lineAt(columns: number) {
  const stream = new FakeStream(columns);
  let now = 0;
  const line = new ProgressLine(stream, () => now);
  return {
    stream,
    line,
    at(milliseconds: number, event: ProgressEvent) {
      now = milliseconds;
      line.update(event);
    },
  };
}

describe('progress line', () => {
  it.each([
    [
      'bytes with rate and time left',
      download(221_600_000, 346_200_000),
      12_100_000,
      120,
      'downloading model.safetensors ━━━━━━━━━━━━━╌╌╌╌╌╌╌  64 %  221.6 MB of 346.2 MB  12.1 MB/s  10 s left',
    ],
    [
      'a shorter bar where there is less room',
      download(221_600_000, 346_200_000),
      12_100_000,
      95,
      'downloading model.safetensors ━━━━━╌╌╌  64 %  221.6 MB of 346.2 MB  12.1 MB/s  10 s left',
    ],
    [
      'no bar on 80 columns',
      download(221_600_000, 346_200_000),
      12_100_000,
      79,
      'downloading model.safetensors  64 %  221.6 MB of 346.2 MB  12.1 MB/s  10 s left',
    ],
    [
      'one of several jobs',
      { ...download(500_000), job: '2/30 beit-base' },
      0,
      120,
      '2/30 beit-base: downloading model.safetensors ━━━━━━━━━━╌╌╌╌╌╌╌╌╌╌  50 %  500.0 kB of 1.00 MB',
    ],
    [
      'of a job, the name before the file',
      {
        phase: 'oracle',
        label: 'hf:owner/model',
        job: '2/30 beit-base',
        done: 3,
        total: 24,
        unit: 'steps',
      } as const,
      0,
      70,
      '2/30 beit-base: computing the reference ━╌╌╌╌╌╌╌  12 %  3 of 24 steps',
    ],
    ['cut', download(221_600_000, 346_200_000), 12_100_000, 20, 'downloading model.s…'],
    [
      'minutes left',
      download(0, 3_000_000_000),
      10_000_000,
      120,
      'downloading model.safetensors ╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌   0 %  0 bytes of 3.00 GB  10.0 MB/s  5 min 00 s left',
    ],
    [
      'no total',
      { ...download(5000), total: undefined },
      1000,
      120,
      'downloading model.safetensors  5.00 kB  1.00 kB/s',
    ],
    [
      'blocks',
      { phase: 'oracle', label: 'cat.jpg', done: 6, total: 12, unit: 'blocks' },
      2,
      120,
      'computing the reference of cat.jpg ━━━━━━━━━━╌╌╌╌╌╌╌╌╌╌  50 %  6 of 12 blocks  3 s left',
    ],
    [
      'more than was announced',
      download(1_500_000),
      0,
      120,
      'downloading model.safetensors ━━━━━━━━━━━━━━━━━━━━ 100 %  1.50 MB of 1.00 MB',
    ],
    [
      'a hostile label',
      { phase: 'hash', label: 'a\u001b[2Jb\n', done: 0, total: 0, unit: 'bytes' },
      0,
      120,
      'hashing a\\u{1b}[2Jb\\u{a}  0 bytes',
    ],
  ] as const)('%s', (_, event, rate, width, expected) => {
    expect(describeProgress(event, rate, width)).toBe(expected);
    expect(columnWidth(expected)).toBeLessThanOrEqual(width);
  });

  it('draws at most ten times a second', () => {
    const { stream, at } = lineAt(120);
    for (let ms = 0; ms < 1000; ms++) at(ms, download(ms * 1000));
    expect(stream.writes).toHaveLength(10);
  });

  it('stays on one line, a column short of the width', () => {
    const { stream, at } = lineAt(40);
    at(0, download(1000));
    at(1000, download(500_000));
    expect(stream.writes).toHaveLength(2);
    for (const text of stream.writes) {
      expect(text.startsWith(ERASE)).toBe(true);
      expect(text).not.toContain('\n');
      expect(columnWidth(text.slice(ERASE.length))).toBeLessThanOrEqual(39);
    }
  });

  it('is erased once, and not when there is nothing to erase', () => {
    const { stream, line, at } = lineAt(80);
    line.clear();
    expect(stream.text).toBe('');
    at(0, download(1));
    line.clear();
    line.clear();
    expect(stream.writes.slice(1)).toEqual([ERASE]);
  });

  it('the rate is that of the last seconds, and none during the first', () => {
    const { stream, at } = lineAt(200);
    // A megabyte in the first second, then a thousandth of that.
    for (let ms = 0; ms < 1000; ms += 100) at(ms, download(ms * 1000, 10_000_000));
    expect(stream.writes.at(-1)).not.toContain('/s');
    at(1000, download(1_000_000, 10_000_000));
    expect(stream.writes.at(-1)).toContain('1.00 MB/s');
    for (let ms = 1100; ms <= 9000; ms += 100) at(ms, download(1_000_000 + (ms - 1000), 10_000_000));
    expect(stream.writes.at(-1)).toContain('1.00 kB/s');
  });

  it('a retry from the start begins with no rate', () => {
    const { stream, at } = lineAt(200);
    at(0, download(0));
    at(1500, download(500_000));
    expect(stream.writes.at(-1)).toContain('/s');
    at(2000, download(100));
    expect(stream.writes.at(-1)).not.toContain('/s');
  });

  describe('two steps side by side', () => {
    const oracle = (done: number): ProgressEvent => ({
      phase: 'oracle',
      label: 'a.onnx',
      done,
      total: 12,
      unit: 'blocks',
    });
    const compare = (done: number): ProgressEvent => ({
      phase: 'compare',
      label: 'a.onnx',
      done,
      total: 100,
      unit: 'bytes',
    });

    it('the first keeps the line until it is done', () => {
      const { stream, at } = lineAt(100);
      for (let i = 0; i < 12; i++) {
        at(i * 300, oracle(i));
        at(i * 300 + 150, compare(i));
      }
      expect(stream.writes).toHaveLength(12);
      expect(stream.text).not.toContain('comparing');
      at(4000, oracle(12));
      at(4200, compare(50));
      expect(stream.writes.at(-1)).toContain('comparing a.onnx');
    });

    it('or until nothing is heard of it', () => {
      const { stream, at } = lineAt(100);
      at(0, oracle(1));
      at(900, compare(1));
      expect(stream.writes.at(-1)).toContain('reference');
      at(1100, compare(2));
      expect(stream.writes.at(-1)).toContain('comparing');
    });
  });
});
