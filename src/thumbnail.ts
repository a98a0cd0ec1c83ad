/**
 * A small copy of a picture that fits into a page.
 */
import type { RgbImage } from './resample.js';
import { resizeImage } from './image.js';

const LONGEST_SIDE = 320;
const QUALITY = 80;

/** @returns `data:image/jpeg;base64,…`; never larger than the picture itself */
export async function thumbnail(image: RgbImage): Promise<string> {
  const scale = Math.min(1, LONGEST_SIDE / Math.max(image.width, image.height));
  const size: [number, number] = [
    Math.max(1, Math.round(image.height * scale)),
    Math.max(1, Math.round(image.width * scale)),
  ];
  const small = scale === 1 ? image : resizeImage(image, size, 'bicubic');
  const sharp = (await import('sharp')).default;
  const raw = { width: small.width, height: small.height, channels: 3 as const };
  const jpeg = await sharp(small.data, { raw }).jpeg({ quality: QUALITY }).toBuffer();
  return `data:image/jpeg;base64,${jpeg.toString('base64')}`;
}
