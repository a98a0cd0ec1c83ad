/**
 * Text measured in terminal columns, and numbers as people read them.
 */

// East Asian wide and fullwidth blocks and emoji (Unicode UAX #11, the blocks without narrow members).
const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1f64f}\u{1f680}-\u{1f6ff}\u{1f900}-\u{1f9ff}\u{20000}-\u{3fffd}]/u;
const ZERO = /\p{Mark}/u;

const COLOUR = /\u001b\[[0-9;]*m/g;

const PLAIN = /^[\u0020-\u007e]*$/;

function columnsOf(character: string): number {
  return ZERO.test(character) ? 0 : WIDE.test(character) ? 2 : 1;
}

/** Columns a text takes up; colour sequences take none. */
export function columnWidth(text: string): number {
  const bare = text.replace(COLOUR, '');
  if (PLAIN.test(bare)) return bare.length;
  let width = 0;
  for (const character of bare) width += columnsOf(character);
  return width;
}

/** The first part of an uncoloured text, at most `width` columns. */
function head(text: string, width: number): string {
  let used = 0;
  let out = '';
  for (const character of text) {
    used += columnsOf(character);
    if (used > width) break;
    out += character;
  }
  return out;
}

/** Cut an uncoloured text at the end to `width` columns. */
export function cutEnd(text: string, width: number): string {
  if (columnWidth(text) <= width) return text;
  return width <= 0 ? '' : `${head(text, width - 1)}…`;
}

/** Cut an uncoloured text in the middle: both ends of a tensor name tell something. */
export function cutMiddle(text: string, width: number): string {
  if (columnWidth(text) <= width) return text;
  if (width < 5) return cutEnd(text, width);
  const left = Math.ceil((width - 1) / 2);
  const end = head([...text].reverse().join(''), width - 1 - left);
  return `${head(text, left)}…${[...end].reverse().join('')}`;
}

export function padEnd(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - columnWidth(text)));
}

export function padStart(text: string, width: number): string {
  return ' '.repeat(Math.max(0, width - columnWidth(text))) + text;
}

/** Break a text at blanks so that no line is wider than `width` (a longer word keeps its own line). */
export function wrap(text: string, width: number): string[] {
  if (columnWidth(text) <= width) return [text];
  const out: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && columnWidth(line) + 1 + columnWidth(word) > width) {
      out.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  if (line !== '') out.push(line);
  return out;
}

/** `86.5 M`, `17.6 G`: three figures and a decimal prefix. */
export function formatCount(value: number): string {
  const prefixes = ['', 'k', 'M', 'G', 'T'];
  let at = 0;
  let scaled = value;
  while (scaled >= 999.5 && at < prefixes.length - 1) {
    scaled /= 1000;
    at += 1;
  }
  if (at === 0) return String(value);
  return `${scaled >= 99.95 ? scaled.toFixed(0) : scaled.toFixed(1)} ${prefixes[at]}`;
}

/** `86,530,984`. */
export function formatInteger(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ',');
}

/** `0.42 s`, `8.1 s`, `2 min 05 s`, `1 h 03 min`. */
export function formatSeconds(seconds: number): string {
  if (seconds < 1) return `${seconds.toFixed(2)} s`;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, '0')} s`;
  return `${Math.floor(whole / 3600)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, '0')} min`;
}
