/**
 * File names in the field's publishing habit.
 *
 * @see mmpretrain `tools/model_converters/publish_model.py` and `configs/beit/metafile.yml`:
 *   `beit-base_3rdparty_in1k_20221114-c0a4df23.pth`, the first eight hex digits of the file's sha256
 */
import type { Env } from '../env.js';
import { UsageError, printable } from '../errors.js';

/** `<model>_3rdparty_in1k[_<dtype>]_<date>-<hash>.onnx` */
export function openmmlabName(
  name: string,
  dtype: string,
  classes: number,
  date: string,
  sha256: string,
): string {
  const data = classes === 1000 ? 'in1k' : classes === 21841 ? 'in21k' : `${classes}cls`;
  const precision = dtype === 'fp32' ? '' : `_${dtype}`;
  return `${name}_3rdparty_${data}${precision}_${date}-${sha256.slice(0, 8)}.onnx`;
}

/**
 * The moment that everything of this release is dated, in seconds since 1970.
 *
 * @see https://reproducible-builds.org/specs/source-date-epoch/
 * @returns `undefined` when the environment names none
 * @throws UsageError when it names what is no moment
 */
export function sourceDateEpoch(env: Env): number | undefined {
  const text = env['SOURCE_DATE_EPOCH'];
  if (text === undefined || text === '') return undefined;
  if (!/^\d{1,11}$/.test(text)) {
    throw new UsageError(`SOURCE_DATE_EPOCH is "${printable(text)}", not a number of seconds since 1970`, {
      next: 'Set it to a whole number (date +%s), or unset it.',
    });
  }
  return Number(text);
}

/** `20221114`, in UTC. */
export function dateStamp(epochSeconds: number): string {
  return new Date(epochSeconds * 1000).toISOString().slice(0, 10).replaceAll('-', '');
}
