/** A file that is no ONNX model is called what it is, wherever one is asked for. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { InputError } from '../src/errors.js';
import { classify, verify } from '../src/index.js';
import { goldenPath } from './convert/goldens.js';

const source = goldenPath('v1_gray', 'official.safetensors');
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'not-onnx-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

const CASES: [string, string | undefined, RegExp][] = [
  ['a checkpoint', undefined, /^official\.safetensors is a checkpoint, not an ONNX model$/],
  [
    'a Git LFS pointer',
    'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n',
    /^model\.onnx is a Git LFS pointer/,
  ],
  ['a web page', '<!DOCTYPE html><html></html>', /^model\.onnx is an HTML page/],
  ['an empty file', '', /^model\.onnx is empty/],
];

describe.each(CASES)('%s', (_, text, message) => {
  const path = (): string => {
    if (text === undefined) return source;
    const file = join(folder, 'model.onnx');
    writeFileSync(file, text);
    return file;
  };
  const refused = expect.objectContaining({ message: expect.stringMatching(message) as string });

  it('verify', async () => {
    const answer = verify({ model: path(), src: source });
    await expect(answer).rejects.toThrow(InputError);
    await expect(answer).rejects.toEqual(refused);
  });

  it('classify', async () => {
    await expect(classify({ model: path(), images: ['none.png'] })).rejects.toEqual(refused);
  });
});
