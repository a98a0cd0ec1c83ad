import { mkdir, mkdtemp, readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { UsageError } from '../src/errors.js';
import { openFolderTarget, openTarget } from '../src/target.js';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'convert-beit-target-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const content = (name: string): Promise<string> => readFile(join(folder, name), 'utf8');

describe('openTarget', () => {
  it('publishes several files and leaves no litter', async () => {
    await writeFile(join(folder, 'm.onnx'), 'old');
    const target = await openTarget(join(folder, 'm.onnx'));
    await writeFile(target.staged, 'new');
    await writeFile(`${target.staged}_data`, 'weights');
    expect(await content('m.onnx')).toBe('old');
    await target.publish(['m.onnx_data', 'm.onnx']);
    expect(await readdir(folder)).toEqual(['m.onnx', 'm.onnx_data']);
    expect([await content('m.onnx'), await content('m.onnx_data')]).toEqual(['new', 'weights']);
  });

  it('puts the old files back when the second one cannot get its place', async () => {
    await writeFile(join(folder, 'm.onnx_data'), 'old weights');
    const target = await openTarget(join(folder, 'm.onnx'));
    await writeFile(`${target.staged}_data`, 'new weights');
    await expect(target.publish(['m.onnx_data', 'm.onnx'])).rejects.toThrow();
    await target.discard();
    expect(await content('m.onnx_data')).toBe('old weights');
    expect(await readdir(folder)).toEqual(['m.onnx_data']);
  });

  it('takes a first file back when there was none before', async () => {
    const target = await openTarget(join(folder, 'm.onnx'));
    await writeFile(`${target.staged}_data`, 'new weights');
    await expect(target.publish(['m.onnx_data', 'm.onnx'])).rejects.toThrow();
    await target.discard();
    expect(await readdir(folder)).toEqual([]);
  });

  it('discards without a trace', async () => {
    const target = await openTarget(join(folder, 'm.onnx'));
    await writeFile(target.staged, 'half');
    await target.discard();
    await target.discard();
    expect(await readdir(folder)).toEqual([]);
  });

  it('writes through a link', async () => {
    await mkdir(join(folder, 'real'));
    await writeFile(join(folder, 'real', 'm.onnx'), 'old');
    await symlink('real/m.onnx', join(folder, 'link.onnx'));
    const target = await openTarget(join(folder, 'link.onnx'));
    await writeFile(target.staged, 'new');
    await target.publish(['m.onnx']);
    expect(await content('link.onnx')).toBe('new');
    expect(await content('real/m.onnx')).toBe('new');
  });

  it.each([
    [
      'a folder',
      async (at: string) => (await mkdir(join(at, 'd')), join(at, 'd')),
      UsageError,
      /is a folder/,
    ],
    ['a trailing slash', (at: string) => join(at, 'd/'), UsageError, /names a folder/],
    ['an empty name', () => '', UsageError, /names a folder/],
    ['a device', () => '/dev/null', UsageError, /not a regular file/],
    [
      'a missing folder',
      (at: string) => join(at, 'no', 'm.onnx'),
      UsageError,
      /^the folder of --out .*m\.onnx does not exist: .*no$/,
    ],
    [
      'a file as folder',
      async (at: string) => (await writeFile(join(at, 'f'), ''), join(at, 'f', 'm.onnx')),
      UsageError,
      /^the folder of --out .*m\.onnx is a file: .*f$/,
    ],
  ])('refuses %s', async (_, make, kind, message) => {
    const attempt = openTarget(await make(folder));
    await expect(attempt).rejects.toThrow(kind);
    await expect(attempt).rejects.toThrow(message);
    expect((await readdir(folder)).filter((name) => name.startsWith('.convert-beit'))).toEqual([]);
  });

  it('refuses an input as output, also through a link', async () => {
    await writeFile(join(folder, 'weights'), 'w');
    await symlink('weights', join(folder, 'alias'));
    const attempt = openTarget(join(folder, 'alias'), { inputs: [join(folder, 'weights')] });
    await expect(attempt).rejects.toThrow(/is the file that is read/);
    expect(await content('weights')).toBe('w');
  });

  it('keeps an existing file with noClobber', async () => {
    await writeFile(join(folder, 'm.onnx'), 'old');
    await expect(openTarget(join(folder, 'm.onnx'), { noClobber: true })).rejects.toThrow(/--no-clobber/);
    await expect(openTarget(join(folder, 'new.onnx'), { noClobber: true })).resolves.toBeDefined();
  });
});

describe('openFolderTarget', () => {
  const files = ['config.json', 'model.safetensors'];
  const fill = async (staged: string): Promise<void> => {
    for (const name of files) await writeFile(join(staged, name), `new ${name}`);
  };

  it('a new folder appears whole', async () => {
    const target = await openFolderTarget(join(folder, 'hf/'), { files });
    await fill(target.staged);
    expect((await readdir(folder)).filter((name) => !name.startsWith('.'))).toEqual([]);
    await target.publish(files);
    expect(await readdir(folder)).toEqual(['hf']);
    expect(await readdir(join(folder, 'hf'))).toEqual(files);
  });

  it('in an existing one the files are replaced, the others stay', async () => {
    await mkdir(join(folder, 'hf'));
    await writeFile(join(folder, 'hf', 'config.json'), 'old');
    await writeFile(join(folder, 'hf', 'README.md'), 'mine');
    const target = await openFolderTarget(join(folder, 'hf'), { files });
    await fill(target.staged);
    expect(await content('hf/config.json')).toBe('old');
    await target.publish(files);
    expect((await readdir(join(folder, 'hf'))).sort()).toEqual(['README.md', ...files]);
    expect(await content('hf/config.json')).toBe('new config.json');
  });

  it('puts all back when one cannot get its place', async () => {
    await mkdir(join(folder, 'hf'));
    await writeFile(join(folder, 'hf', 'config.json'), 'old');
    const target = await openFolderTarget(join(folder, 'hf'), { files });
    await writeFile(join(target.staged, 'config.json'), 'new');
    await expect(target.publish(files)).rejects.toThrow();
    await target.discard();
    expect(await readdir(join(folder, 'hf'))).toEqual(['config.json']);
    expect(await content('hf/config.json')).toBe('old');
  });

  it.each([['hf/'], ['hf']])('discards %s without a trace', async (name) => {
    if (!name.endsWith('/')) await mkdir(join(folder, name));
    const before = await readdir(folder);
    const target = await openFolderTarget(join(folder, name), { files });
    await fill(target.staged);
    await target.discard();
    await target.discard();
    expect(await readdir(folder)).toEqual(before);
  });

  it.each([
    ['a file', 'w', {}, UsageError, /is not a folder/],
    ['a folder in no folder', 'no/hf/', {}, UsageError, /does not exist: .*no$/],
    ['a folder with one of the files', 'have', { noClobber: true }, UsageError, /config\.json exists/],
    [
      'a folder with the input',
      'have',
      { inputs: ['have/config.json'] },
      UsageError,
      /is the file that is read/,
    ],
    ['a folder where a folder has the name', 'odd', {}, UsageError, /is not a regular file/],
  ])('refuses %s', async (_, name, options, kind, message) => {
    await writeFile(join(folder, 'w'), 'w');
    await mkdir(join(folder, 'odd', 'model.safetensors'), { recursive: true });
    await mkdir(join(folder, 'have'));
    await writeFile(join(folder, 'have', 'config.json'), 'old');
    const inputs = (options as { inputs?: string[] }).inputs?.map((input) => join(folder, input));
    const attempt = openFolderTarget(join(folder, name), { files, ...options, ...(inputs && { inputs }) });
    await expect(attempt).rejects.toThrow(kind);
    await expect(attempt).rejects.toThrow(message);
    expect(await content('have/config.json')).toBe('old');
  });
});
