/** What sections of the page are made of. */
import { escapeHtml as e, histogramChart, scatterChart } from './charts.js';
import type { Histogram } from './data.js';
import type { Column } from './facts.js';

export function section(title: string, body: string): string {
  return `<section><h2>${e(title)}</h2>${body}</section>`;
}

/** Cells are text; a wide table scrolls by itself. */
export function table(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const kind = (at: number): string =>
    columns[at].number ? ' class="n"' : columns[at].long ? '' : ' class="w"';
  const head = columns.map(({ title }, at) => `<th${kind(at)}>${e(title)}</th>`).join('');
  const body = rows
    .map((cells) => `<tr>${cells.map((cell, at) => `<td${kind(at)}>${e(cell)}</td>`).join('')}</tr>`)
    .join('');
  return `<div class="scroll" tabindex="0"><table><thead><tr>${head}</tr></thead><tbody>${body}</tbody></table></div>`;
}

const MOST_UNITS = 100;

/** How often the file is how far from the source, and value over value. */
export function valueCharts(of: {
  /** before the charts' ids, which are unique in a page */
  readonly prefix: string;
  /** `logit`, `value` */
  readonly what: string;
  /** `for cat.jpg`, `of features` */
  readonly where: string;
  readonly all: number;
  readonly noise: number;
  readonly histogram: Histogram;
  readonly points: readonly { readonly x: number; readonly y: number; readonly says: string }[];
}): string {
  const { prefix, what, where, all, noise, histogram } = of;
  // What is no number has no place in a chart; the text counts it.
  const points = of.points.filter(({ x, y }) => Number.isFinite(x) && Number.isFinite(y));
  const total = all.toLocaleString('en-US');
  const counted = histogram.counts.reduce((sum, count) => sum + count, 0);
  const lost = counted < all ? ` ${(all - counted).toLocaleString('en-US')} are no finite numbers.` : '';
  if (points.length === 0)
    return `<p class="bad">None of ${total} ${what}s ${e(where)} is a finite number in file and source.</p>`;
  const share =
    points.length === all
      ? `all ${total} ${what}s`
      : `${points.length.toLocaleString('en-US')} of ${total} ${what}s, taken evenly`;
  // Beyond the noise its unit says nothing: millions of it.
  const noisy = histogram.range <= MOST_UNITS;
  const range = noisy ? histogram.range : histogram.range * noise;
  const unit = noisy
    ? `one noise unit = ${noise.toExponential(1)}, the error that float32 must be expected to make`
    : `float32 alone must be expected to be off by ${noise.toExponential(1)}`;
  const bars = histogramChart(
    {
      id: `${prefix}histogram`,
      title: `Differences between the ${what}s of file and source`,
      description: `How many of ${total} ${what}s ${where} differ by how much. All lie within ${short(range)}${noisy ? ' noise units' : ''}; ${unit}.${lost}`,
    },
    range,
    histogram.counts,
    noisy ? 'file minus source, in noise units' : 'file minus source',
  );
  const dots = scatterChart(
    {
      id: `${prefix}scatter`,
      title: `${what[0].toUpperCase()}${what.slice(1)}s of the file over those of the source`,
      description: `${share} ${where}. On the dashed diagonal both are equal.`,
    },
    points,
    what,
  );
  return (
    `<p class="soft">${e(share)} ${e(where)}.${lost}</p><div class="pair">` +
    `<figure>${bars}<figcaption>all ${total}; ${unit}</figcaption></figure>` +
    `<figure>${dots}<figcaption>equal on the diagonal</figcaption></figure></div>`
  );
}

function short(value: number): string {
  return Number(value.toPrecision(2)).toLocaleString('en-US');
}
