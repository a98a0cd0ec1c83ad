/** The grammar of `--src`. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseSource, resolveSource } from '../../src/convert/source.js';
import { InputError, UsageError } from '../../src/errors.js';

const GOOD: [text: string, source: object][] = [
  ['official', { kind: 'official' }],
  ['official:beit_base', { kind: 'official', name: 'beit_base' }],
  ['hf:timm/beit_base.x', { kind: 'hf', repo: 'timm/beit_base.x' }],
  ['hf:a/b@main', { kind: 'hf', repo: 'a/b', revision: 'main' }],
  ['hf:a/b@v1.0/model.safetensors', { kind: 'hf', repo: 'a/b', revision: 'v1.0', file: 'model.safetensors' }],
  ['hf:a/b/sub/x.safetensors', { kind: 'hf', repo: 'a/b', file: 'sub/x.safetensors' }],
  ['hf:a/b/odd@name.safetensors', { kind: 'hf', repo: 'a/b', file: 'odd@name.safetensors' }],
  [
    'hf:a/b@refs/pr/3/x.safetensors',
    { kind: 'hf', repo: 'a/b', revision: 'refs/pr/3', file: 'x.safetensors' },
  ],
  [
    'hf:a/b@feature%2Fone/x.safetensors',
    { kind: 'hf', repo: 'a/b', revision: 'feature/one', file: 'x.safetensors' },
  ],
  ['mmpretrain:beit-base', { kind: 'mmpretrain', name: 'beit-base' }],
  ['https://example.org/a/x.pth?v=1', { kind: 'url', url: 'https://example.org/a/x.pth?v=1' }],
  ['http://127.0.0.1:80/x', { kind: 'url', url: 'http://127.0.0.1:80/x' }],
  ['http://localhost/x', { kind: 'url', url: 'http://localhost/x' }],
  ['http://[::1]:8000/x', { kind: 'url', url: 'http://[::1]:8000/x' }],
  ['https://huggingface.co/timm/beit', { kind: 'hf', repo: 'timm/beit' }],
  ['hf://timm/beit', { kind: 'hf', repo: 'timm/beit' }],
  [
    'https://huggingface.co/timm/beit/resolve/v1/model.safetensors?download=true',
    { kind: 'hf', repo: 'timm/beit', revision: 'v1', file: 'model.safetensors' },
  ],
  [
    'https://huggingface.co/timm/beit/blob/main/sub/m%20x.safetensors',
    { kind: 'hf', repo: 'timm/beit', revision: 'main', file: 'sub/m x.safetensors' },
  ],
  [
    'https://huggingface.co/datasets/a/b/resolve/main/x.safetensors',
    { kind: 'url', url: 'https://huggingface.co/datasets/a/b/resolve/main/x.safetensors' },
  ],
  ['model.safetensors', { kind: 'file', path: 'model.safetensors' }],
  ['./official', { kind: 'file', path: './official' }],
  ['timm/beit', { kind: 'file', path: 'timm/beit' }],
  ['C:\\models\\x.safetensors', { kind: 'file', path: 'C:\\models\\x.safetensors' }],
];

const BAD: [text: string, message: RegExp, next?: RegExp][] = [
  ['', /source is empty/],
  ['  ', /source is empty/],
  ['official:', /lacks a name/, /convert-beit list/],
  ['hf:', /hf:<owner>\/<repo> is needed/, /A source is: official/],
  ['hf:owner', /hf:<owner>\/<repo> is needed/],
  ['hf:a/b@', /"" is not a branch/],
  ['hf:a/b/', /"" is not a path/],
  ['hf:a/b@main/../x', /"\.\.\/x" is not a path/],
  ['hf:a/b/../../etc/passwd', /is not a path in a repository/],
  ['hf:a/b//x', /is not a path/],
  ['hf:a/b/x\\..\\y', /is not a path/],
  ['hf:../b', /is not the name of a repository/],
  ['hf:a/..', /is not the name of a repository/],
  ['hf:a/b--c', /is not the name of a repository/],
  ['hf:a/b.git', /is not the name of a repository/],
  ['hf:a b/c', /is not the name of a repository/],
  ['hf:a/b@..', /is not a branch/],
  ['hf:a/b@x%2F..%2F..%2Fy', /is not a branch/],
  ['hf:a/b@%2Fetc', /is not a branch/],
  ['hf:a/b@x.lock', /is not a branch/],
  ['hf:datasets/b/c', /model repository is needed/],
  ['hf:a/b@\u001b[2J', /\\u\{1b\}/],
  ['s3://bucket/x', /s3 addresses cannot be read/, /A source is/],
  ['mmpretrain', /"mmpretrain:" lacks a name/, /convert-beit list/],
  ['mmpretrain:', /"mmpretrain:" lacks a name/],
  ['http://example.org/x.pth', /http is read from this machine only/, /Give the https address/],
  ['http://127.0.0.1.example.org/x', /http is read from this machine only/],
  ['https://', /is not a complete address/],
  ['https://user:secret@example.org/x', /^(?!.*secret).*holds a user name or a password/],
  ['hf://timm', /is not a repository on the hub/],
  ['https://huggingface.co/datasets/b', /model repository is needed/],
];

describe('parseSource', () => {
  it.each(GOOD)('reads %s', (text, source) => {
    expect(parseSource(text)).toStrictEqual(source);
  });

  it.each(BAD)('refuses %j', (text, message, next) => {
    expect(() => parseSource(text)).toThrow(UsageError);
    expect(() => parseSource(text)).toThrow(message);
    if (next)
      expect(() => parseSource(text)).toThrow(expect.objectContaining({ next: expect.stringMatching(next) }));
  });
});

describe('resolveSource, local', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'source-'));
    await writeFile(join(folder, 'x.safetensors'), 'x');
  });
  afterAll(() => rm(folder, { recursive: true }));

  const noNetwork = { fetch: () => Promise.reject(new Error('no request may be made')) };

  it('names a file by its name, never by its path', async () => {
    const path = join(folder, 'x.safetensors');
    expect(await resolveSource(parseSource(path), noNetwork)).toStrictEqual({ path, id: 'x.safetensors' });
  });

  it.each([
    ['no/such.safetensors', /does not exist/, /A source is: official/],
    ['timm/beit_base', /does not exist/, /is written hf:timm\/beit_base/],
    [
      'beit_base_patch16_224_pt22k_ft22kto1k.pth',
      /does not exist/,
      /official:beit_base_patch16_224_pt22k_ft22kto1k\?/,
    ],
  ])('%s', async (path, message, next) => {
    const failed = resolveSource(parseSource(path), noNetwork);
    await expect(failed).rejects.toThrow(message);
    await expect(failed).rejects.toMatchObject({
      constructor: InputError,
      next: expect.stringMatching(next),
    });
  });
});
