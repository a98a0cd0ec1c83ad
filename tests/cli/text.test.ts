import { describe, expect, it } from 'vitest';
import { toJson } from '../../src/cli/json.js';
import { createStyle, wantsColour, widthOf } from '../../src/cli/style.js';
import { renderTable, type Table } from '../../src/cli/table.js';
import {
  columnWidth,
  cutEnd,
  cutMiddle,
  formatCount,
  formatInteger,
  formatSeconds,
  wrap,
} from '../../src/cli/text.js';

describe('text', () => {
  it.each([
    ['plain', 'abc', 3],
    ['coloured', '\u001b[1mabc\u001b[22m', 3],
    ['wide characters', '猫 cat', 6],
    ['a combining mark', 'e\u0301', 1],
    ['an emoji', '🐈', 2],
    ['a multiplication sign', '224×224', 7],
  ])('columns of %s', (_, text, width) => {
    expect(columnWidth(text)).toBe(width);
  });

  it.each([
    ['fits', cutMiddle, 'abcdef', 6, 'abcdef'],
    ['middle, odd', cutMiddle, 'abcdefghij', 7, 'abc…hij'],
    ['middle, even', cutMiddle, 'abcdefghij', 6, 'abc…ij'],
    ['middle, too narrow for both ends', cutMiddle, 'abcdefghij', 4, 'abc…'],
    ['middle, wide characters', cutMiddle, '猫猫猫猫猫猫', 7, '猫…猫'],
    ['end', cutEnd, 'abcdefghij', 4, 'abc…'],
    ['end, nothing left', cutEnd, 'abc', 0, ''],
    ['end, a wide character that would stick out', cutEnd, '猫猫猫', 4, '猫…'],
  ])('cut: %s', (_, cut, text, width, expected) => {
    expect(cut(text, width)).toBe(expected);
    expect(columnWidth(expected)).toBeLessThanOrEqual(width);
  });

  it.each([
    ['at blanks', 'one two three', 8, ['one two', 'three']],
    ['a long word keeps its line', 'a abcdefghij b', 4, ['a', 'abcdefghij', 'b']],
    ['exact', 'one two', 7, ['one two']],
  ])('wrap: %s', (_, text, width, expected) => {
    expect(wrap(text, width)).toEqual(expected);
  });

  it.each([
    [0, '0'],
    [999, '999'],
    [1000, '1.0 k'],
    [86_530_984, '86.5 M'],
    [17_581_219_584, '17.6 G'],
    [304_430_056, '304 M'],
    [999_960, '1.0 M'],
  ])('count %d', (value, expected) => {
    expect(formatCount(value)).toBe(expected);
  });

  it.each([
    [0.05, '0.05 s'],
    [8.12, '8.1 s'],
    [59.97, '1 min 00 s'],
    [125, '2 min 05 s'],
    [3780, '1 h 03 min'],
  ])('%d seconds', (value, expected) => {
    expect(formatSeconds(value)).toBe(expected);
  });

  it.each([
    [1, '1'],
    [1000, '1,000'],
    [17_581_219_584, '17,581,219,584'],
  ])('integer %d', (value, expected) => {
    expect(formatInteger(value)).toBe(expected);
  });
});

describe('colour', () => {
  const terminal = { isTTY: true };
  const pipe = { isTTY: false };
  it.each([
    ['terminal', terminal, {}, true],
    ['pipe', pipe, {}, false],
    ['NO_COLOR', terminal, { NO_COLOR: '1' }, false],
    ['empty NO_COLOR means nothing', terminal, { NO_COLOR: '' }, true],
    ['FORCE_COLOR on a pipe', pipe, { FORCE_COLOR: '1' }, true],
    ['FORCE_COLOR=0 on a terminal', terminal, { FORCE_COLOR: '0' }, false],
    ['NO_COLOR wins', pipe, { NO_COLOR: '1', FORCE_COLOR: '1' }, false],
    ['a dumb terminal', terminal, { TERM: 'dumb' }, false],
  ])('%s', (_, stream, env, expected) => {
    expect(wantsColour(stream, env)).toBe(expected);
  });

  it('a pipe has no width, a terminal has its own', () => {
    expect(widthOf({ columns: 80 })).toBe(Infinity);
    expect(widthOf({ isTTY: true, columns: 80 })).toBe(80);
    expect(widthOf({ isTTY: true, columns: 0 })).toBe(Infinity);
  });
});

describe('table', () => {
  const style = createStyle(false);
  const table: Table = {
    columns: [
      { title: 'name', shrinkTo: 8 },
      { title: 'n', align: 'right' },
      { title: 'extra', optional: 1 },
      { title: 'most extra', optional: 2, shrinkTo: 6, cut: 'end' },
    ],
    rows: [
      ['blocks.0.attn.weight', '1', 'abc', 'from somewhere'],
      ['猫', '1000', 'x', 'y'],
    ],
  };

  it.each([
    [
      'no limit',
      Infinity,
      [
        'name                     n  extra  most extra',
        'blocks.0.attn.weight     1  abc    from somewhere',
        '猫                    1000  x      y',
      ],
      [],
    ],
    [
      'the widest column is cut first',
      40,
      [
        'name             n  extra  most extra',
        'blocks…eight     1  abc    from somewhe…',
        '猫            1000  x      y',
      ],
      [],
    ],
    [
      'the most optional column goes before the name is cut beyond its least',
      24,
      ['name            n  extra', 'block…eight     1  abc', '猫           1000  x'],
      ['most extra'],
    ],
    [
      'both optional columns go',
      16,
      ['name           n', 'block…ight     1', '猫          1000'],
      ['most extra', 'extra'],
    ],
    [
      'narrower than it can be',
      5,
      ['name         n', 'bloc…ght     1', '猫        1000'],
      ['most extra', 'extra'],
    ],
  ])('%s', (_, width, lines, hidden) => {
    const rendered = renderTable(table, width, style);
    expect(rendered.lines).toEqual(lines);
    expect(rendered.hidden).toEqual(hidden);
  });

  it('colour does not move columns', () => {
    const plain = renderTable(table, 40, style).lines;
    const coloured = renderTable(table, 40, createStyle(true)).lines;
    expect(coloured[0]).toContain('\u001b[1m');
    expect(coloured.map(columnWidth).slice(1)).toEqual(plain.map(columnWidth).slice(1));
  });
});

describe('json', () => {
  it.each([
    ['map with a hostile key', { a: new Map([['__proto__', 1]]) }, '{"a":{"__proto__":1}}\n'],
    ['what JSON has no number for', { a: NaN, b: -Infinity }, '{"a":"NaN","b":"-Infinity"}\n'],
    [
      'bigint, set, typed array',
      { a: 2n ** 60n, b: new Set([1]), c: Float32Array.of(1) },
      '{"a":"1152921504606846976","b":[1],"c":[1]}\n',
    ],
    ['controls and bidirectional overrides', { a: '\u001b\u009b\u202e' }, '{"a":"\\u001b\\u009b\\u202e"}\n'],
    ['undefined is left out', { a: undefined, b: 1 }, '{"b":1}\n'],
  ])('%s', (_, value, expected) => {
    expect(toJson(value)).toBe(expected);
  });

  it('is indented for a terminal', () => {
    expect(toJson({ a: [1] }, true)).toBe('{\n  "a": [\n    1\n  ]\n}\n');
  });
});
