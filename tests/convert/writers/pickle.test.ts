import { describe, expect, it } from 'vitest';
import { FormatError } from '../../../src/errors.js';
import { pickle, type PickleValue } from '../../../src/convert/writers/pickle.js';

const hex = (value: PickleValue): string => Buffer.from(pickle(value)).toString('hex');
const text = (words: string): string => Buffer.from(words).toString('hex');

describe('pickle', () => {
  // Opcodes as CPython's pickletools.dis names them; every one of these was read back by Python's own pickle.
  it.each<[string, PickleValue, string]>([
    ['a string', 'é', '8002 58 02000000 c3a9 7100 2e'],
    ['0', 0, '8002 4b00 2e'],
    ['255', 255, '8002 4bff 2e'],
    ['256', 256, '8002 4d0001 2e'],
    ['65535', 65535, '8002 4dffff 2e'],
    ['65536', 65536, '8002 4a00000100 2e'],
    ['-1', -1, '8002 4affffffff 2e'],
    ['2^31 - 1', 2 ** 31 - 1, '8002 4affffff7f 2e'],
    ['2^31', 2 ** 31, '8002 8a08 0000008000000000 2e'],
    ['-2^31 - 1', -(2 ** 31) - 1, '8002 8a08 ffffff7fffffffff 2e'],
    ['a float', 0.5, '8002 47 3fe0000000000000 2e'],
    ['an empty list', { list: [] }, '8002 5d 28 65 2e'],
    ['a list', { list: [1, 2] }, '8002 5d 28 4b01 4b02 65 2e'],
    ['a dict', { dict: [['a', 1]] }, `8002 7d 28 58 01000000 ${text('a')} 7100 4b01 75 2e`],
    [
      'an OrderedDict',
      new Map([['a', 1]]),
      `8002 63 ${text('collections\nOrderedDict\n')} 7100 29 52 28 58 01000000 ${text('a')} 7101 4b01 75 2e`,
    ],
    ['the same string twice', { list: ['a', 'a'] }, `8002 5d 28 58 01000000 ${text('a')} 7100 6800 65 2e`],
  ])('%s', (_, value, expected) => {
    expect(hex(value)).toBe(expected.replaceAll(' ', ''));
  });

  it('a tensor is what torch.save writes', () => {
    // torch 2.13: torch.save(torch.arange(6.).reshape(2, 3)), its data.pkl with the same strings memoized
    const expected = [
      '8002',
      `63${text('torch._utils\n_rebuild_tensor_v2\n')}7100`,
      '2828',
      `5807000000${text('storage')}7101`,
      `63${text('torch\nFloatStorage\n')}7102`,
      `5801000000${text('0')}7103`,
      `5803000000${text('cpu')}7104`,
      '4b06',
      '74',
      '51',
      '4b00',
      '4b024b0386',
      '4b034b0186',
      '89',
      `63${text('collections\nOrderedDict\n')}7105`,
      '2952',
      '74',
      '52',
      '2e',
    ];
    expect(hex({ tensor: { key: '0', dtype: 'F32', shape: [2, 3] } })).toBe(expected.join(''));
  });

  it.each<[string, readonly number[], string]>([
    ['scalar', [], '2929'],
    ['vector', [5], '4b05854b0185'],
    ['empty', [0, 3], '4b004b03864b034b0186'],
    ['three sides', [2, 3, 4], '4b024b034b04874b0c4b044b0187'],
    ['four sides', [2, 3, 4, 5], '284b024b034b044b0574284b3c4b144b054b0174'],
  ])('shape and strides: %s', (_, shape, expected) => {
    const bytes = hex({ tensor: { key: '0', dtype: 'BF16', shape } });
    expect(bytes).toContain(`514b00${expected}89`);
  });

  it('points to more than 256 strings', () => {
    const names = Array.from({ length: 300 }, (_, i) => `name ${i}`);
    const bytes = hex({ list: [...names, ...names] });
    expect(bytes).toContain('722b010000');
    expect(bytes).toContain('6a2b010000652e');
  });

  it('refuses a dtype that PyTorch has no typed storage for', () => {
    expect(() => pickle({ tensor: { key: '0', dtype: 'U16', shape: [1] } })).toThrow(FormatError);
  });
});
