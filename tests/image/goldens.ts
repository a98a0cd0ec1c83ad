/** The manifest of fixtures/pillow, and the generated pictures it speaks of. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Interpolation, Preprocessing, RgbImage } from '../../src/image.js';

export interface Source {
  readonly kind: 'noise' | 'extremes' | 'ramp';
  readonly seed: number;
  readonly width: number;
  readonly height: number;
  readonly sha256: string;
}

export interface Manifest {
  readonly resize: readonly {
    readonly name: string;
    readonly filter: Interpolation;
    readonly source: Source;
    readonly size: [number, number];
    readonly sha256: string;
    readonly base64?: string;
  }[];
  readonly preprocess: readonly {
    readonly name: string;
    readonly source: Source;
    readonly preprocessing: Omit<Preprocessing, 'origin'>;
    readonly sha256: string;
    readonly first: readonly number[];
  }[];
  readonly decode: readonly {
    readonly file: string;
    readonly name: string;
    readonly width: number;
    readonly height: number;
    readonly sha256: string;
    readonly first: readonly number[];
  }[];
  readonly file_resize: readonly {
    readonly file: string;
    readonly filter: Interpolation;
    readonly size: [number, number];
    readonly sha256: string;
  }[];
  readonly transformers: readonly { readonly source: Source; readonly base64: string }[];
}

export const fixture = (path: string): string =>
  fileURLToPath(new URL(`../../fixtures/${path}`, import.meta.url));

export const manifest = JSON.parse(readFileSync(fixture('pillow/manifest.json'), 'utf8')) as Manifest;

export function sha256(bytes: Uint8Array | Float32Array): string {
  return createHash('sha256')
    .update(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength))
    .digest('hex');
}

/** The picture `source` describes; the same rules as in scripts/make-pillow-goldens.py. */
export function generate({ kind, seed, width, height }: Source): RgbImage {
  const data = new Uint8Array(width * height * 3);
  let state = seed;
  for (let i = 0; i < data.length; i++) {
    if (kind === 'ramp') {
      data[i] = (i * seed) % 256;
      continue;
    }
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const top = state >>> 24;
    data[i] = kind === 'noise' ? top : 255 * (top >> 7);
  }
  return { width, height, data };
}
