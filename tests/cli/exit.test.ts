import { describe, expect, it } from 'vitest';
import { describeFailure } from '../../src/cli/exit.js';
import * as errors from '../../src/errors.js';

describe('a failure', () => {
  it.each([
    [new errors.ConvertBeitError('m'), 'failed', 1],
    [new errors.EnvironmentError('m'), 'environment', 1],
    [new errors.UsageError('m'), 'usage', 2],
    [new errors.InputError('m'), 'input', 3],
    [new errors.FormatError('m'), 'format', 3],
    [new errors.LayoutError('m'), 'layout', 3],
    [new errors.ShapeError('m'), 'shape', 3],
    [new errors.ParityError('m', {}), 'parity', 4],
    [new errors.NetworkError('m'), 'network', 5],
    [new errors.InterruptedError('m'), 'interrupted', 130],
    [new TypeError('m'), 'unexpected', 1],
    ['a string', 'unexpected', 1],
    [undefined, 'unexpected', 1],
  ])('%s is %s, exit code %d', (error, kind, exitCode) => {
    expect(describeFailure(error)).toMatchObject({ kind, exitCode });
  });

  it('every error class of this package has a row above', () => {
    const classes = Object.values(errors).filter(
      (value) => typeof value === 'function' && /Error$/.test(value.name),
    );
    expect(classes).toHaveLength(10);
  });

  it.each([
    ['SIGHUP', 129],
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('after %s everything is an interruption: %d', (signal, exitCode) => {
    for (const error of [
      new errors.NetworkError('cut'),
      new TypeError('cut'),
      new errors.InterruptedError('cut'),
    ]) {
      expect(describeFailure(error, signal)).toMatchObject({ kind: 'interrupted', exitCode });
    }
  });

  it('keeps own line breaks and escapes everything else', () => {
    const failure = describeFailure(new errors.InputError('one\n\u001b[2Jtwo', { next: 'a\u0007' }));
    expect(failure.message).toBe('one\n\\u{1b}[2Jtwo');
    expect(failure.next).toBe('a\\u{7}');
  });

  it('a bug is named as one, on one line', () => {
    const { message, next } = describeFailure(new RangeError('bad\nlength'));
    expect(message).toBe('unexpected error, please report it (RangeError: bad\\u{a}length)');
    expect(next).toContain('--verbose');
  });

  it('the trace has every cause once, also when they go round', () => {
    const inner = new Error('inner');
    const outer = new errors.NetworkError('outer', { cause: inner });
    inner.cause = outer;
    const { trace } = describeFailure(outer);
    expect(trace.filter((line) => line === 'caused by')).toHaveLength(1);
    expect(trace.join('\n')).toMatch(/NetworkError: outer[\s\S]*caused by[\s\S]*Error: inner/);
  });
});
