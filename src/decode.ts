/**
 * Picture files to RGB pixels, as upstream's loader (`Image.open(path).convert('RGB')`, Pillow) gives them.
 *
 * sharp does the decoding and nothing else: no colour management, no rotation, no resizing.
 */
import { open, type FileHandle } from 'node:fs/promises';
import type sharp from 'sharp';
import { formatBytes } from './bytes.js';
import { EnvironmentError, InputError, printable } from './errors.js';
import type { RgbImage } from './resample.js';

/** Pillow's own bound against decompression bombs: it refuses beyond twice `MAX_IMAGE_PIXELS`. */
const MAX_PIXELS = 2 * 89_478_485;
/** Only a bomb is longer; resizing it would need more filter taps than there are pixels in a photograph. */
const MAX_SIDE = 1_000_000;
/** `MAX_PIXELS` stored without compression fit, and so does what surrounds them. */
const MAX_FILE_BYTES = 1_000_000_000;

/** Pixels only. SVG and PDF are drawings: they have no pixels of their own and can refer to other files. */
const FORMATS: ReadonlySet<string> = new Set(['jpeg', 'png', 'webp', 'gif', 'tiff', 'heif', 'avif']);
/** libvips' names for RGB, grey and CMYK, 8 or 16 bits each. */
const COLOURS: ReadonlySet<string> = new Set(['srgb', 'rgb', 'b-w', 'cmyk', 'rgb16', 'grey16']);

const firstLine = (cause: unknown): string =>
  printable(String(cause instanceof Error ? cause.message : cause).split('\n')[0]);

async function loadSharp(): Promise<typeof sharp> {
  try {
    return (await import('sharp')).default;
  } catch (cause) {
    throw new EnvironmentError('reading pictures needs the package sharp, which could not be loaded', {
      next: 'Install it: npm install sharp',
      cause,
    });
  }
}

async function readPicture(path: string, name: string): Promise<Buffer> {
  let file: FileHandle | undefined;
  try {
    file = await open(path, 'r');
    const status = await file.stat();
    if (!status.isFile()) throw new InputError(`${name} is not a file; a picture is needed`);
    if (status.size === 0) throw new InputError(`${name} is empty; a picture is needed`);
    if (status.size > MAX_FILE_BYTES) {
      throw new InputError(
        `${name} has ${formatBytes(status.size)}; pictures of up to ${formatBytes(MAX_FILE_BYTES)} are read`,
      );
    }
    return await file.readFile();
  } catch (cause) {
    if (cause instanceof InputError) throw cause;
    const code = (cause as NodeJS.ErrnoException).code;
    throw new InputError(
      code === 'ENOENT' ? `${name}: no such picture` : `${name} cannot be read: ${firstLine(cause)}`,
      { cause },
    );
  } finally {
    await file?.close();
  }
}

/** Round to nearest of `a * b / 255`, in integers. */
function scaled(a: number, b: number): number {
  const product = a * b + 128;
  return (product + (product >> 8)) >> 8;
}

/** One, three or four (CMYK) bytes a pixel to three. CMYK without profiles, by the formula Pillow uses. */
function toRgb(from: Uint8Array, channels: number, pixels: number): Uint8Array {
  if (channels === 3) return from;
  const data = new Uint8Array(pixels * 3);
  for (let i = 0, o = 0; o < data.length; i += channels, o += 3) {
    if (channels === 1) {
      data.fill(from[i], o, o + 3);
    } else {
      const white = 255 - from[i + 3];
      for (let c = 0; c < 3; c++) data[o + c] = white - scaled(from[i + c], white);
    }
  }
  return data;
}

/**
 * Read a picture (JPEG, PNG, WebP, GIF, TIFF, AVIF) as upstream's data loader does.
 *
 * - The EXIF orientation is not applied and colour profiles are not: Pillow and torchvision leave both alone.
 * - Alpha is dropped, not blended: the colour stored under a transparent pixel shows. (GIF has none stored: libvips
 *   gives black there, Pillow the palette's colour.)
 * - CMYK becomes RGB by the plain formula. Of an animation, the first picture counts.
 * - 16-bit channels keep their upper 8 bits. Pillow does so for RGB, but cuts 16-bit grey off at 255 of 65535, which
 *   turns such pictures white; that is not followed.
 *
 * @param shown what messages call it
 * @throws InputError if there is no such file, it is no picture, is damaged, or has more than 178,956,970 pixels (as
 *         Pillow) or a side beyond 1,000,000
 * @throws EnvironmentError if sharp is not installed
 * @example
 * ```js
 * import { decodeImage } from 'convert-beit';
 *
 * const { width, height, data } = await decodeImage('fixtures/demo/heart.jpg');
 * console.log(width, height, data.length === 3 * width * height);
 * ```
 */
export async function decodeImage(path: string, shown = path): Promise<RgbImage> {
  const name = printable(shown);
  const sharp = await loadSharp();
  const bytes = await readPicture(path, name);
  // Sensitivity: damaged pixels fail; oddities that decoders step over (as Pillow does) pass.
  const options = { failOn: 'error', ignoreIcc: true, autoOrient: false } as const;

  let found;
  try {
    found = await sharp(bytes, { ...options, limitInputPixels: false }).metadata();
  } catch (cause) {
    throw new InputError(`${name} is not a picture that can be read: ${firstLine(cause)}`, {
      next: 'Give a JPEG, PNG, WebP, GIF, TIFF or AVIF file.',
      cause,
    });
  }
  const { width, height, space } = found;
  if (!FORMATS.has(found.format)) {
    throw new InputError(`${name} is ${printable(found.format)}, not a picture made of pixels`, {
      next: 'Give a JPEG, PNG, WebP, GIF, TIFF or AVIF file.',
    });
  }
  const size = `${name} has ${width.toLocaleString('en-US')}×${height.toLocaleString('en-US')} pixels`;
  if (width * height > MAX_PIXELS || width > MAX_SIDE || height > MAX_SIDE) {
    throw new InputError(
      `${size}; up to ${MAX_PIXELS.toLocaleString('en-US')}, and ${MAX_SIDE.toLocaleString('en-US')} a side, are read`,
      { next: 'Make it smaller first.' },
    );
  }
  if (!COLOURS.has(space)) {
    throw new InputError(`${name} has colours of the kind ${printable(space)}; RGB, grey or CMYK are needed`);
  }

  const target = space === 'cmyk' ? 'cmyk' : 'srgb';
  try {
    const decoded = await sharp(bytes, { ...options, limitInputPixels: MAX_PIXELS })
      .pipelineColourspace(target)
      .removeAlpha()
      .toColourspace(target)
      .raw({ depth: 'uchar' })
      .toBuffer({ resolveWithObject: true });
    const { channels } = decoded.info;
    if (decoded.info.width !== width || decoded.info.height !== height || ![1, 3, 4].includes(channels)) {
      throw new InputError(`decoded to ${decoded.info.width}×${decoded.info.height}×${channels}`);
    }
    return { width, height, data: toRgb(decoded.data, channels, width * height) };
  } catch (cause) {
    throw new InputError(`${size} that cannot be read: ${firstLine(cause)}`, {
      next: 'The file seems damaged; open it in a viewer and save it again.',
      cause,
    });
  }
}
