import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { ConvertBeitError } from '../../src/errors.js';
import { EnvironmentError, InputError } from '../../src/errors.js';
import { decodeImage } from '../../src/image.js';
import { fixture, manifest, sha256 } from './goldens.js';

describe('decodeImage gives the bytes of Pillow', () => {
  it.each(manifest.decode)('$file: $name', async ({ file, width, height, sha256: expected, first }) => {
    const picture = await decodeImage(fixture(`pillow/${file}`));
    expect([picture.width, picture.height]).toEqual([width, height]);
    expect([...picture.data.subarray(0, 6)]).toEqual(first);
    expect(sha256(picture.data)).toBe(expected);
  });
});

/** A PNG that claims its size and has no pixels worth mentioning. */
function pngHeader(width: number, height: number): Buffer {
  const chunk = (name: string, body: Buffer): Buffer => {
    const out = Buffer.alloc(12 + body.length);
    out.writeUInt32BE(body.length, 0);
    out.write(name, 4, 'latin1');
    body.copy(out, 8);
    out.writeUInt32BE(crc32(out.subarray(4, 8 + body.length)), 8 + body.length);
    return out;
  };
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 2, 0, 0, 0], 8);
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  return Buffer.concat([
    signature,
    chunk('IHDR', header),
    chunk('IDAT', Buffer.alloc(8)),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

describe('what is no picture', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'convert-beit-image-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  const truncated = async (file: string): Promise<Buffer> => {
    const whole = await readFile(fixture(`pillow/${file}`));
    return whole.subarray(0, Math.floor(whole.length * 0.9));
  };
  const rows: { name: string; file: string; bytes?: () => Buffer | Promise<Buffer>; message: RegExp }[] = [
    { name: 'absent', file: 'absent.png', message: /absent\.png: no such picture$/ },
    { name: 'a folder', file: '.', message: / is not a file; a picture is needed$/ },
    {
      name: 'empty',
      file: 'empty.png',
      bytes: () => Buffer.alloc(0),
      message: /empty\.png is empty; a picture/,
    },
    {
      name: 'text',
      file: 'text.png',
      bytes: () => Buffer.from('version https://git-lfs.github.com/spec/v1\n'),
      message: /text\.png is not a picture that can be read: /,
    },
    {
      name: 'a drawing',
      file: 'drawing.svg',
      bytes: () => Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'),
      message: /drawing\.svg is svg, not a picture made of pixels$/,
    },
    {
      name: 'half a PNG',
      file: 'half.png',
      bytes: () => truncated('rgb.png'),
      message: /half\.png has 23×17 pixels that cannot be read: /,
    },
    {
      name: 'half a JPEG',
      file: 'half.jpg',
      bytes: () => truncated('444.jpg'),
      message: /half\.jpg .*cannot be read: /,
    },
    {
      name: 'a bomb',
      file: 'bomb.png',
      bytes: () => pngHeader(20_000, 20_000),
      message: /bomb\.png has 20,000×20,000 pixels; up to 178,956,970, and 1,000,000 a side, are read$/,
    },
    {
      name: 'a very long bomb',
      file: 'long.png',
      bytes: () => pngHeader(1, 1_000_001),
      message: /long\.png has 1×1,000,001 pixels; up to 178,956,970/,
    },
    {
      name: 'a name with an escape',
      file: 'a\u001b[2Jb.png',
      message: /a\\u\{1b\}\[2Jb\.png: no such picture$/,
    },
  ];
  it.each(rows)('$name', async ({ file, bytes, message }) => {
    const path = join(folder, file);
    if (bytes) await writeFile(path, await bytes());
    const error: unknown = await decodeImage(path).catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(InputError);
    expect((error as InputError).message).toMatch(message);
  });
});

describe('without sharp', () => {
  afterEach(() => {
    vi.doUnmock('sharp');
    vi.resetModules();
  });

  it('says what to install', async () => {
    vi.resetModules();
    vi.doMock('sharp', () => {
      throw new Error("Cannot find package 'sharp'");
    });
    const { decodeImage: decode } = await import('../../src/decode.js');
    const error: unknown = await decode(fixture('pillow/rgb.png')).catch((cause: unknown) => cause);
    // Another copy of the module was loaded, with classes of its own: compare names.
    expect((error as ConvertBeitError).name).toBe(EnvironmentError.name);
    expect((error as ConvertBeitError).message).toBe(
      'reading pictures needs the package sharp, which could not be loaded',
    );
    expect((error as ConvertBeitError).next).toBe('Install it: npm install sharp');
  });
});
