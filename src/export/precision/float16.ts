/**
 * float32 to float16, round to nearest, ties to even (IEEE 754), on bits: `Float16Array` is newer than the Node that is
 * supported.
 */

/** The largest float16. From 65520 on rounding gives infinity. */
export const FLOAT16_MAX = 65504;

/**
 * @param bits  float32 as uint32
 * @param out   receives float16 as uint16, at `start` and after
 * @returns     how many finite values became infinite, plus how many were NaN or infinite already
 */
export function narrow(bits: Uint32Array, out: Uint16Array, start = 0): number {
  let lost = 0;
  for (let i = 0; i < bits.length; i++) {
    const word = bits[i];
    const sign = (word >>> 16) & 0x8000;
    const magnitude = word & 0x7fffffff;
    let half: number;
    if (magnitude >= 0x38800000) {
      // Normal in float16 (2^-14 and up). The carry of rounding may run into the exponent: that is right.
      if (magnitude >= 0x477ff000) {
        lost += 1;
        half = magnitude > 0x7f800000 ? 0x7e00 : 0x7c00;
      } else half = (magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13;
    } else if (magnitude > 0x33000000) {
      // Subnormal in float16: the significand with its hidden bit, shifted down to units of 2^-24.
      const shift = 126 - (magnitude >>> 23);
      const significand = (magnitude & 0x7fffff) | 0x800000;
      const kept = significand >>> shift;
      const rest = significand & ((1 << shift) - 1);
      const tie = 1 << (shift - 1);
      half = kept + (rest > tie || (rest === tie && (kept & 1) === 1) ? 1 : 0);
    } else half = 0;
    out[start + i] = sign | half;
  }
  return lost;
}

const FLOAT = new Float32Array(1);
const FLOAT_BITS = new Uint32Array(FLOAT.buffer);
const HALF_BITS = new Uint16Array(1);

/** One number, rounded to float32 first. */
export function float16Bits(value: number): number {
  FLOAT[0] = value;
  narrow(FLOAT_BITS, HALF_BITS);
  return HALF_BITS[0];
}
