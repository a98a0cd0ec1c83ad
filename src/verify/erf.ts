/**
 * The error function in double precision, and the exact (erf) GELU.
 *
 * Rational approximations and coefficients: W. J. Cody, "Rational Chebyshev approximations for the error function",
 * Math. Comp. 23 (1969), as published in netlib `specfun/erf` (CALERF); maximal relative error about 1 ulp.
 */

const SQRT1_2 = Math.SQRT1_2;
const ONE_OVER_SQRT_PI = 0.564189583547756287;
const ONE_OVER_SQRT_2PI = 0.398942280401432678;

/** `erf(x)`; odd, ±1 from |x| = 6 on. */
export function erf(x: number): number {
  const y = Math.abs(x);
  if (y <= 0.46875) {
    const z = y * y;
    const top =
      (((1.85777706184603153e-1 * z + 3.1611237438705656) * z + 113.864154151050156) * z +
        377.485237685302021) *
        z +
      3209.37758913846947;
    const bottom =
      (((z + 23.6012909523441209) * z + 244.024637934444173) * z + 1282.61652607737228) * z +
      2844.23683343917062;
    return (x * top) / bottom;
  }
  if (y >= 6) return x < 0 ? -1 : 1;
  // NaN fails every comparison and falls through to the last branch.
  const result = 1 - (y <= 4 ? middleErfc(y) : tailErfc(y));
  return x < 0 ? -result : result;
}

/** `erfc` on (0.46875, 4]. */
function middleErfc(y: number): number {
  const top =
    (((((((2.15311535474403846e-8 * y + 5.64188496988670089e-1) * y + 8.88314979438837594) * y +
      66.1191906371416295) *
      y +
      298.635138197400131) *
      y +
      881.95222124176909) *
      y +
      1712.04761263407058) *
      y +
      2051.07837782607147) *
      y +
    1230.33935479799725;
  const bottom =
    (((((((y + 15.7449261107098347) * y + 117.693950891312499) * y + 537.181101862009858) * y +
      1621.38957456669019) *
      y +
      3290.79923573345963) *
      y +
      4362.61909014324716) *
      y +
      3439.36767414372164) *
      y +
    1230.33935480374942;
  return (Math.exp(-y * y) * top) / bottom;
}

/** `erfc` above 4, where it is below 2e-8 and matters to `erf` by its first half of digits only. */
function tailErfc(y: number): number {
  const z = 1 / (y * y);
  const top =
    ((((1.63153871373020978e-2 * z + 3.05326634961232344e-1) * z + 3.60344899949804439e-1) * z +
      1.25781726111229246e-1) *
      z +
      1.60837851487422766e-2) *
      z +
    6.58749161529837803e-4;
  const bottom =
    ((((z + 2.56852019228982242) * z + 1.87295284992346725) * z + 5.27905102951428412e-1) * z +
      6.05183413124413191e-2) *
      z +
    2.33520497626869185e-3;
  return (Math.exp(-y * y) / y) * (ONE_OVER_SQRT_PI - (z * top) / bottom);
}

/** GELU as PyTorch's default and upstream use it: `x/2 * (1 + erf(x/√2))`. */
export function gelu(x: number): number {
  return 0.5 * x * (1 + erf(x * SQRT1_2));
}

/** Its derivative `Φ(x) + x φ(x)`, given `gelu(x)`: for error propagation, not for values near zero of x. */
export function geluSlope(x: number, value: number): number {
  const cdf = x === 0 ? 0.5 : value / x;
  return cdf + x * ONE_OVER_SQRT_2PI * Math.exp(-0.5 * x * x);
}
