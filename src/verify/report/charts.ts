/**
 * Charts as inline SVG: no script, no network, colours from the page's own variables, and a text for those who do not
 * see them.
 */

/** Text for HTML and SVG; names come from files that anybody may have made. */
export function escapeHtml(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll("'", '&#39;');
}

const WIDTH = 640;
const HEIGHT = 280;
const LEFT = 84;
const RIGHT = 26;
const TOP = 14;
const BOTTOM = 58;

export interface Chart {
  /** unique in its page */
  readonly id: string;
  readonly title: string;
  /** what one sees, in one sentence */
  readonly description: string;
}

function frame({ id, title, description }: Chart, body: string, height = HEIGHT): string {
  return (
    `<svg role="img" class="chart" viewBox="0 0 ${WIDTH} ${height}" aria-labelledby="${id}-t ${id}-d">` +
    `<title id="${id}-t">${escapeHtml(title)}</title><desc id="${id}-d">${escapeHtml(description)}</desc>${body}</svg>`
  );
}

type Scale = (value: number) => number;

/** Numbers of the page: two decimals are a hundredth of a pixel. */
const n = (value: number): string => String(Math.round(value * 100) / 100);

function linearScale(from: number, to: number, low: number, high: number): Scale {
  const span = to - from || 1;
  return (value) => low + ((value - from) / span) * (high - low);
}

const across = (from: number, to: number): Scale => linearScale(from, to, LEFT, WIDTH - RIGHT);
const up = (from: number, to: number, height = HEIGHT): Scale => linearScale(from, to, height - BOTTOM, TOP);

function text(x: number, y: number, content: string, attributes = ''): string {
  return `<text x="${n(x)}" y="${n(y)}" ${attributes}>${escapeHtml(content)}</text>`;
}

/** `1e-6` as a superscript that every font has. */
function power(exponent: number): string {
  const digits = '⁰¹²³⁴⁵⁶⁷⁸⁹';
  return `10${exponent < 0 ? '⁻' : ''}${[...String(Math.abs(exponent))].map((digit) => digits[Number(digit)]).join('')}`;
}

/** Round steps, about `most` of them. */
function steps(from: number, to: number, most = 6): number[] {
  const rough = (to - from) / most || 1;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * size).find((each) => each >= rough)!;
  const out: number[] = [];
  for (let i = Math.ceil(from / step); i * step <= to + step * 1e-9; i++)
    out.push(Number((i * step).toPrecision(12)));
  return out;
}

function yGrid(y: Scale, ticks: readonly { at: number; label: string }[]): string {
  return ticks
    .map(
      ({ at, label }) =>
        `<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${n(y(at))}" y2="${n(y(at))}"/>` +
        text(LEFT - 8, y(at) + 4, label, 'text-anchor="end"'),
    )
    .join('');
}

/** Of a character on a phone, where the text is largest against the chart. */
const CHARACTER = 11.5;

/** The labels that do not touch each other; the last one is always there. */
function apart<T extends { readonly label: string; readonly at: number }>(all: readonly T[]): T[] {
  const half = ({ label }: T): number => (label.length * CHARACTER) / 2 + 4;
  const last = all[all.length - 1];
  let edge = -Infinity;
  return all.filter((each) => {
    const free = each.at - half(each) >= edge;
    const fits = each === last || each.at + half(each) <= last.at - half(last);
    if (!free || !fits) return false;
    edge = each.at + half(each);
    return true;
  });
}

export interface ErrorPoint {
  readonly label: string;
  readonly error: number;
  /** the band's middle: expected rms noise */
  readonly noise: number;
  /** taken off the network at some place, not on the way: no line leads there */
  readonly aside?: boolean;
}

/** Error along the network on a logarithmic axis, over the band of what must be expected. */
export function errorChart(chart: Chart, points: readonly ErrorPoint[], widest: number): string {
  const values = points
    .flatMap(({ error, noise }) => [error, noise * widest, noise / widest])
    .filter((v) => v > 0 && Number.isFinite(v));
  const low = Math.floor(Math.log10(Math.min(...values)) - 0.2);
  const high = Math.ceil(Math.log10(Math.max(...values)) + 0.2);
  const y = up(low, high);
  const x = across(-0.4, points.length - 0.6);
  const level = (value: number): number =>
    y(value > 0 ? Math.min(high, Math.max(low, Math.log10(value))) : low);
  const every = Math.max(1, Math.ceil((high - low) / 7));
  const ticks = Array.from({ length: high - low + 1 }, (_, i) => low + i)
    .filter((exponent) => (exponent - low) % every === 0)
    .map((at) => ({ at, label: power(at) }));
  const way = points.filter(({ aside }) => !aside);
  const edge = (factor: number): string[] =>
    way.map(({ noise }, i) => `${n(x(i))},${n(level(noise * factor))}`);
  const line = way
    .map(({ error }, i) => `${n(x(i))},${n(level(Number.isFinite(error) ? error : 10 ** high))}`)
    .join(' ');
  // The band of what stands aside, each with its own.
  const beside = points
    .map(({ noise, aside }, i) => {
      if (!aside) return '';
      const [top, middle, bottom] = [noise * widest, noise, noise / widest].map(level);
      const [left, right] = [n(x(i) - 7), n(x(i) + 7)];
      return (
        `<rect class="band" x="${left}" y="${n(top)}" width="14" height="${n(bottom - top)}"/>` +
        `<line class="expected" x1="${left}" x2="${right}" y1="${n(middle)}" y2="${n(middle)}"/>`
      );
    })
    .join('');
  const labels = apart(points.map(({ label }, i) => ({ label, at: x(i) })))
    .map(({ label, at }) => text(at, HEIGHT - BOTTOM + 21, label, 'text-anchor="middle"'))
    .join('');
  const dots = points
    .map(({ label, error, noise }, i) => {
      const off = !(error <= noise * widest);
      const says = `${label}: rms error ${error.toExponential(1)}, expected ${noise.toExponential(1)}`;
      return `<circle class="${off ? 'off' : 'dot'}" cx="${n(x(i))}" cy="${n(level(Number.isFinite(error) ? error : 10 ** high))}" r="${off ? 5.5 : 4}"><title>${escapeHtml(says)}</title></circle>`;
    })
    .join('');
  return frame(
    chart,
    yGrid(y, ticks) +
      `<polygon class="band" points="${edge(widest).join(' ')} ${edge(1 / widest)
        .reverse()
        .join(' ')}"/>${beside}` +
      `<polyline class="expected" points="${edge(1).join(' ')}"/><polyline class="line" points="${line}"/>${dots}${labels}` +
      text(
        (LEFT + WIDTH - RIGHT) / 2,
        HEIGHT - 6,
        'after which part of the network',
        'class="axis" text-anchor="middle"',
      ),
  );
}

export function histogramChart(chart: Chart, range: number, counts: readonly number[], unit: string): string {
  const most = Math.max(1, ...counts);
  const all = counts.reduce((sum, count) => sum + count, 0);
  // Where one bar would hide all others, a logarithm shows them: what lies far out is what one looks for.
  const bent = counts.filter((count) => count > 0).length > 1 && most > 0.9 * all;
  const size = (count: number): number => (bent ? Math.log10(1 + count) : count);
  const y = up(0, size(most) * 1.05);
  const x = across(-range, range);
  const width = (2 * range) / counts.length;
  const bars = counts
    .map((count, i) => {
      if (count === 0) return '';
      const left = x(-range + i * width);
      const right = x(-range + (i + 1) * width);
      return `<rect class="bar" x="${n(left + 0.5)}" y="${n(y(size(count)))}" width="${n(Math.max(1, right - left - 1))}" height="${n(y(0) - y(size(count)))}"/>`;
    })
    .join('');
  const marks = bent
    ? [0, ...Array.from({ length: Math.floor(Math.log10(most)) + 1 }, (_, i) => 10 ** i)]
    : steps(0, most, 4).filter(Number.isInteger);
  const ticks = marks.map((at) => ({ at: size(at), label: at.toLocaleString('en-US') }));
  const labels = steps(-range, range, 5)
    .map((at) => text(x(at), HEIGHT - BOTTOM + 21, short(at), 'text-anchor="middle"'))
    .join('');
  return frame(
    chart,
    yGrid(y, ticks) +
      `<line class="zero" x1="${n(x(0))}" x2="${n(x(0))}" y1="${TOP}" y2="${HEIGHT - BOTTOM}"/>${bars}${labels}` +
      text(
        (LEFT + WIDTH - RIGHT) / 2,
        HEIGHT - 6,
        bent ? `${unit}; counts logarithmic` : unit,
        'class="axis" text-anchor="middle"',
      ),
  );
}

function short(value: number): string {
  if (value !== 0 && (Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3)) return value.toExponential(0);
  return value.toLocaleString('en-US', { maximumFractionDigits: 3 });
}

export function scatterChart(
  chart: Chart,
  points: readonly { readonly x: number; readonly y: number; readonly says: string }[],
  /** `logit` */
  what: string,
): string {
  const all = points.flatMap((point) => [point.x, point.y]);
  const margin = (Math.max(...all) - Math.min(...all)) * 0.04 || 1;
  const low = Math.min(...all) - margin;
  const high = Math.max(...all) + margin;
  const height = 420;
  const y = up(low, high, height);
  const x = across(low, high);
  const marks = steps(low, high, 6);
  const dots = points
    .map(
      (point) =>
        `<circle class="point" cx="${n(x(point.x))}" cy="${n(y(point.y))}" r="3.5"><title>${escapeHtml(point.says)}</title></circle>`,
    )
    .join('');
  return frame(
    chart,
    yGrid(
      y,
      marks.map((at) => ({ at, label: short(at) })),
    ) +
      marks.map((at) => text(x(at), height - BOTTOM + 21, short(at), 'text-anchor="middle"')).join('') +
      `<line class="expected" x1="${n(x(low))}" y1="${n(y(low))}" x2="${n(x(high))}" y2="${n(y(high))}"/>${dots}` +
      text(
        (LEFT + WIDTH - RIGHT) / 2,
        height - 6,
        `${what} by the source (float64)`,
        'class="axis" text-anchor="middle"',
      ) +
      `<text class="axis" text-anchor="middle" transform="translate(20 ${n((TOP + height - BOTTOM) / 2)}) rotate(-90)">${escapeHtml(what)} by the file</text>`,
    height,
  );
}

export interface RangeRow {
  readonly label: string;
  readonly min: number;
  readonly max: number;
  readonly mean: number;
  readonly std: number;
}

/** One row per place: a thin line from the least to the largest value, a bar of one standard deviation, a mark at the mean. */
export function rangeChart(chart: Chart, rows: readonly RangeRow[]): string {
  const reach = Math.max(...rows.flatMap(({ min, max }) => [-min, max]), Number.MIN_VALUE);
  // Signed root: one outlier must not press everything else into a line.
  const bend = (value: number): number => Math.sign(value) * Math.sqrt(Math.abs(value) / reach);
  const row = 20;
  const height = TOP + rows.length * row + BOTTOM;
  const left = 128;
  const x = linearScale(-1, 1, left, WIDTH - RIGHT);
  const at = (value: number): number => x(bend(value));
  const marks = [-1, -0.25, 0, 0.25, 1].map((share) => Number((share * reach).toPrecision(2)));
  const grid = marks
    .map(
      (value) =>
        `<line class="${value === 0 ? 'zero' : 'grid'}" x1="${n(at(value))}" x2="${n(at(value))}" y1="${TOP}" y2="${height - BOTTOM}"/>` +
        text(at(value), height - BOTTOM + 21, short(value), 'text-anchor="middle"'),
    )
    .join('');
  const body = rows
    .map(({ label, min, max, mean, std }, i) => {
      const y = TOP + i * row + row / 2;
      const says = `${label}: ${min.toPrecision(3)} to ${max.toPrecision(3)}, mean ${mean.toPrecision(2)}, standard deviation ${std.toPrecision(3)}`;
      return (
        `<g><title>${escapeHtml(says)}</title>` +
        `<line class="whisker" x1="${n(at(min))}" x2="${n(at(max))}" y1="${n(y)}" y2="${n(y)}"/>` +
        `<rect class="bar" x="${n(at(mean - std))}" y="${n(y - 5)}" width="${n(Math.max(1, at(mean + std) - at(mean - std)))}" height="10" rx="2"/>` +
        `<line class="mean" x1="${n(at(mean))}" x2="${n(at(mean))}" y1="${n(y - 6)}" y2="${n(y + 6)}"/></g>` +
        text(left - 8, y + 4, label, 'text-anchor="end"')
      );
    })
    .join('');
  return frame(
    chart,
    grid +
      body +
      text(
        (left + WIDTH - RIGHT) / 2,
        height - 6,
        'value (square-root axis)',
        'class="axis" text-anchor="middle"',
      ),
    height,
  );
}
