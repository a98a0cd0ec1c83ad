/**
 * Deterministic verification inputs: pictures enough that attention, position tables and every channel matter.
 */
import type { BeitConfig } from '../beit.js';

/**
 * xoshiro128**, as published by D. Blackman and S. Vigna (https://prng.di.unimi.it/xoshiro128starstar.c, public domain).
 *
 * @param state four words, not all zero
 * @returns     a function that gives the next 32-bit word
 */
export function xoshiro128(state: readonly [number, number, number, number]): () => number {
  let [a, b, c, d] = state;
  return () => {
    const result = Math.imul(rotateLeft(Math.imul(b, 5), 7), 9) >>> 0;
    const shifted = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= shifted;
    d = rotateLeft(d, 11);
    return result;
  };
}

function rotateLeft(word: number, by: number): number {
  return (word << by) | (word >>> (32 - by));
}

/** Spreads every bit of a word over the whole word: MurmurHash3's `fmix32` (A. Appleby, public domain). */
function mix(word: number): number {
  let h = word | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

/** Independent streams for every pair; `seed` may use all bits of a safe integer. */
function stream(seed: number, index: number): () => number {
  const low = seed % 2 ** 32;
  const high = Math.floor(seed / 2 ** 32);
  const word = (salt: number): number => mix(mix(mix(low + salt) ^ high) + index);
  // The odd constant keeps the state from being all zero.
  const next = xoshiro128([word(0x9e3779b9), word(0x7f4a7c15), word(0xf39cc060), word(0x5cedc834) | 1]);
  return () => next() / 2 ** 32;
}

const WAVES = 4;

/**
 * One input in normalised pixel units, about -2 to 2.5, as photographs have.
 *
 * Slow waves in random, mostly diagonal directions (different along x and y, so that a transposed window shows), a
 * brightness slope, an offset per channel, and texture in every pixel. No symmetry, no two channels alike.
 *
 * @param seed  non-negative safe integer
 * @param index which input of that seed, from 0
 * @returns     `[C, H, W]`
 */
export function sampleInput(
  config: Pick<BeitConfig, 'channels' | 'imageSize'>,
  seed: number,
  index: number,
): Float32Array {
  const { channels } = config;
  const [height, width] = config.imageSize;
  const random = stream(seed, index);
  const between = (low: number, high: number): number => low + (high - low) * random();

  const out = new Float32Array(channels * height * width);
  const waves = Array.from({ length: WAVES }, (_, i) => ({
    amplitude: between(0.35, 0.7) / (1 + i / 2),
    // periods per picture; the ranges do not overlap, so rows and columns never look the same
    alongX: between(0.4, 1.3) * (i + 1),
    alongY: -between(1.4, 2.3) * (i + 0.5),
    phase: between(0, 2 * Math.PI),
  }));
  const slope = { x: between(0.3, 0.8), y: -between(0.9, 1.4) };
  let at = 0;
  for (let channel = 0; channel < channels; channel++) {
    const offset = between(-0.6, 0.9);
    const shift = between(-1.2, 1.2);
    const texture = between(0.15, 0.45);
    for (let y = 0; y < height; y++) {
      const v = y / height;
      for (let x = 0; x < width; x++) {
        const u = x / width;
        let value = offset + slope.x * (u - 0.5) + slope.y * (v - 0.5) + texture * between(-1, 1);
        for (const { amplitude, alongX, alongY, phase } of waves) {
          value += amplitude * Math.cos(2 * Math.PI * (alongX * u + alongY * v) + phase + shift * alongX);
        }
        out[at] = Math.min(2.5, Math.max(-2, value));
        at += 1;
      }
    }
  }
  return out;
}
