/** `parity.svg`: how far every file is from the reference, as a picture that a model card shows. */
import { escapeHtml } from '../verify/report/charts.js';
import type { ReleasedModel } from './record.js';

const WIDTH = 640;
const ROW = 30;
const LEFT = 96;
const RIGHT = 70;
const TOP = 34;

/**
 * One bar a file on a logarithmic axis; the card's table has the same numbers.
 *
 * @returns `undefined` when nothing was measured
 */
export function parityPlot(models: readonly ReleasedModel[]): string | undefined {
  const rows = models.flatMap(({ dtype, parity }) =>
    parity.maxAbs === undefined || !(parity.maxAbs > 0) ? [] : [{ dtype, value: parity.maxAbs }],
  );
  if (rows.length === 0) return undefined;
  const low = Math.floor(Math.log10(Math.min(...rows.map(({ value }) => value)))) - 1;
  const high = Math.max(low + 2, Math.ceil(Math.log10(Math.max(...rows.map(({ value }) => value)))));
  const x = (power: number): number => LEFT + ((power - low) / (high - low)) * (WIDTH - LEFT - RIGHT);
  const bottom = TOP + rows.length * ROW;
  const grid = Array.from({ length: high - low + 1 }, (_, i) => low + i)
    .map(
      (power) =>
        `<line x1="${n(x(power))}" x2="${n(x(power))}" y1="${TOP}" y2="${bottom}" stroke="#8888" stroke-width="1"/>` +
        `<text x="${n(x(power))}" y="${bottom + 18}" text-anchor="middle">1e${power}</text>`,
    )
    .join('');
  const bars = rows
    .map(({ dtype, value }, i) => {
      const y = TOP + i * ROW;
      const width = x(Math.log10(value)) - LEFT;
      return (
        `<rect x="${LEFT}" y="${y + 6}" width="${n(width)}" height="${ROW - 12}" rx="3" fill="#3b82c4"/>` +
        `<text x="${LEFT - 8}" y="${y + 20}" text-anchor="end">${escapeHtml(dtype)}</text>` +
        `<text x="${n(LEFT + width + 6)}" y="${y + 20}">${value.toExponential(1)}</text>`
      );
    })
    .join('');
  const title = 'Largest difference from the float64 reference';
  const says = rows.map(({ dtype, value }) => `${dtype} ${value.toExponential(1)}`).join(', ');
  // Mid-grey reads on light pages and on dark ones.
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 ${WIDTH} ${bottom + 30}" font-family="system-ui, sans-serif" font-size="13" fill="#808890">` +
    `<title>${title}</title><desc>${escapeHtml(says)}</desc><text x="${LEFT}" y="20" font-weight="600">${title}</text>${grid}${bars}</svg>\n`
  );
}

const n = (value: number): string => value.toFixed(1);
