import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FormatError, InputError } from '../../src/errors.js';
import { openOnnxFile } from '../../src/verify/onnx-file.js';
import { withTensor } from './encode.js';

const folder = mkdtempSync(join(tmpdir(), 'convert-beit-onnx-file-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('data files', () => {
  const model = (...entries: [string, string][]): string => {
    const path = join(folder, 'model.onnx');
    const externalData = entries.map(([key, value]) => ({ key, value }));
    writeFileSync(path, withTensor({ name: 't', dims: [2], dataType: 1, dataLocation: 1, externalData }));
    return path;
  };
  beforeAll(() => {
    writeFileSync(join(folder, 'data'), Buffer.alloc(100));
    writeFileSync(join(folder, 'outside'), Buffer.alloc(100));
    mkdirSync(join(folder, 'dir'));
    symlinkSync('outside', join(folder, 'link'));
  });

  it('are opened beside the model', async () => {
    const file = await openOnnxFile(model(['location', 'data'], ['offset', '12'], ['length', '8']));
    const { stored, file: name } = file.initializers.get('t')!;
    expect([stored.start, stored.end, name]).toEqual([12, 20, 'data']);
    expect(file.dataFiles).toHaveLength(1);
    await file.close();
  });

  it.each<[string, [string, string][], string]>([
    ['no location', [['offset', '0']], 'is external but names no file'],
    [
      'parent folder',
      [['location', '../data']],
      'lies in "../data"; only a plain file name beside the model is allowed',
    ],
    ['dots', [['location', '..']], 'lies in ".."; only a plain file name'],
    ['absolute', [['location', '/etc/hostname']], 'lies in "/etc/hostname"; only a plain file name'],
    ['subfolder', [['location', 'dir/data']], 'lies in "dir/data"; only a plain file name'],
    ['backslash', [['location', '..\\data']], 'only a plain file name'],
    ['drive', [['location', 'C:data']], 'only a plain file name'],
    ['NUL', [['location', 'data\0']], 'only a plain file name'],
    ['empty', [['location', '']], 'only a plain file name'],
    ['absent', [['location', 'absent']], 'model.onnx has weights in absent beside it: there is no file'],
    ['folder', [['location', 'dir']], 'model.onnx has weights in dir beside it: dir is a folder'],
    [
      'symbolic link',
      [['location', 'link']],
      'model.onnx has weights in link beside it: link is a symbolic link',
    ],
    [
      'negative offset',
      [
        ['location', 'data'],
        ['offset', '-8'],
      ],
      'external_data offset is "-8", not a byte count',
    ],
    [
      'fractional length',
      [
        ['location', 'data'],
        ['length', '8.0'],
      ],
      'external_data length is "8.0", not a byte count',
    ],
    [
      'hexadecimal',
      [
        ['location', 'data'],
        ['length', '0x8'],
      ],
      'external_data length is "0x8", not a byte count',
    ],
    [
      'beyond 2^53',
      [
        ['location', 'data'],
        ['offset', '9007199254740993'],
      ],
      'is "9007199254740993", not a byte count',
    ],
    [
      'outside',
      [
        ['location', 'data'],
        ['offset', '96'],
        ['length', '8'],
      ],
      'is bytes [96, 104) of data, which has 100',
    ],
    [
      'wrong length',
      [
        ['location', 'data'],
        ['length', '12'],
      ],
      'initializer "t" has 12 bytes; f32[2] needs 8',
    ],
    [
      'two lengths',
      [
        ['location', 'data'],
        ['length', '8'],
        ['length', '9'],
      ],
      'external_data has two entries "length"',
    ],
  ])('%s', async (_, entries, message) => {
    const error = await openOnnxFile(model(...entries)).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(FormatError);
    expect((error as Error).message).toContain(message);
  });

  it('bytes here and there', async () => {
    const path = join(folder, 'both.onnx');
    const externalData = [{ key: 'location', value: 'data' }];
    writeFileSync(
      path,
      withTensor({
        name: 't',
        dims: [1],
        dataType: 1,
        dataLocation: 1,
        externalData,
        rawData: Buffer.alloc(4),
      }),
    );
    await expect(openOnnxFile(path)).rejects.toThrow('has bytes here and in another file');
  });
});

describe('the file itself', () => {
  it.each([
    ['absent', 'absent.onnx', 'there is no file'],
    ['a folder', 'dir', 'dir is a folder'],
  ])('%s', async (_, name, message) => {
    const error = await openOnnxFile(join(folder, name)).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(InputError);
    expect((error as Error).message).toContain(message);
  });
});
