/**
 * One line on stderr that says how far a long step is. It is redrawn in place and gone before anything else is written.
 */
import { formatBytes } from '../bytes.js';
import { printable } from '../errors.js';
import type { OnProgress, ProgressEvent } from '../progress.js';
import type { TerminalStream } from './style.js';
import { columnWidth, cutEnd, formatSeconds } from './text.js';

export interface ProgressStream extends TerminalStream {
  write(text: string): unknown;
}

/** Shortest time between two drawings, in milliseconds: at most 10 a second. */
const INTERVAL = 100;
/** The rate is that of the last few seconds: a stalled download must not live on its past. */
const RATE_WINDOW = 5000;
/** A rate measured over less than this says more about the start than about what is to come. */
const RATE_AFTER = 1000;
/** Steps run side by side; the one on the line keeps it until it is done or silent for this long. */
const PATIENCE = 1000;
/** Widths of the bar, in columns, and whether the file is named: the first that fits. */
const FORMS = [
  { bar: 20, file: true },
  { bar: 8, file: true },
  { bar: 0, file: true },
  { bar: 20, file: false },
  { bar: 8, file: false },
  { bar: 0, file: false },
] as const;
type Form = (typeof FORMS)[number];
const ERASE = '\r\u001b[2K';

const VERBS: Record<ProgressEvent['phase'], string> = {
  download: 'downloading',
  upload: 'uploading',
  hash: 'hashing',
  write: 'writing',
  oracle: 'computing the reference of',
  runtime: 'running',
  compare: 'comparing',
  evaluate: 'evaluating',
};

/** What is known about one step: where it was at some moments of the last seconds, oldest first. */
interface Step {
  samples: { readonly at: number; readonly done: number }[];
  last: number;
}

export class ProgressLine {
  readonly #stream: ProgressStream;
  readonly #now: () => number;
  readonly #steps = new Map<string, Step>();
  #shown = '';
  #drawnAt = -Infinity;
  #visible = false;

  /** @param now milliseconds, steadily rising */
  constructor(stream: ProgressStream, now: () => number = () => performance.now()) {
    this.#stream = stream;
    this.#now = now;
  }

  readonly update: OnProgress = (event) => {
    const at = this.#now();
    const name = `${event.job ?? ''} ${event.phase} ${event.label}`;
    const step = this.#track(name, event, at);
    const finished = event.total !== undefined && event.done >= event.total;
    if (finished) this.#steps.delete(name);
    const shown = this.#steps.get(this.#shown);
    if (name !== this.#shown && shown !== undefined && at - shown.last < PATIENCE) return;
    if (at - this.#drawnAt < INTERVAL) return;
    this.#shown = name;
    this.#drawnAt = at;
    const first = step.samples[0];
    const elapsed = at - first.at;
    const rate = elapsed >= RATE_AFTER ? ((event.done - first.done) / elapsed) * 1000 : 0;
    // One column stays free: a terminal wraps when the last one is filled.
    this.#stream.write(ERASE + describeProgress(event, rate, (this.#stream.columns ?? 80) - 1));
    this.#visible = true;
  };

  /** Take the line away, so that something else can be written. */
  clear(): void {
    if (!this.#visible) return;
    this.#visible = false;
    this.#stream.write(ERASE);
  }

  #track(name: string, event: ProgressEvent, at: number): Step {
    let step = this.#steps.get(name);
    const before = step?.samples.at(-1);
    // The same step from its start again is a new one: a retry.
    if (!step || (before !== undefined && event.done < before.done)) {
      step = { samples: [], last: at };
      this.#steps.set(name, step);
    }
    step.last = at;
    const { samples } = step;
    if (at - (samples.at(-1)?.at ?? -Infinity) >= INTERVAL) samples.push({ at, done: event.done });
    while (samples.length > 2 && at - samples[1].at > RATE_WINDOW) samples.shift();
    return step;
  }
}

/**
 * `downloading model.safetensors ━━━━━━━━━━━━━╌╌╌╌╌╌╌ 64 %  221.6 MB of 346.2 MB  12.1 MB/s  11 s left`
 *
 * @param rate  units per second; 0 while it is not known
 * @param width columns there are
 */
export function describeProgress(event: ProgressEvent, rate: number, width: number): string {
  // Without a job nothing else says what this is about.
  const forms = FORMS.filter(({ file }) => file || event.job !== undefined);
  const candidates = forms.map((form) => progressText(event, rate, form));
  return candidates.find((text) => columnWidth(text) <= width) ?? cutEnd(candidates[forms.length - 1], width);
}

function progressText(event: ProgressEvent, rate: number, { bar, file }: Form): string {
  const { job, done, total, unit } = event;
  const amount = (value: number): string => (unit === 'bytes' ? formatBytes(value) : String(value));
  const verb = VERBS[event.phase];
  const parts = [
    (job === undefined ? '' : `${printable(job, 120)}: `) +
      (file ? `${verb} ${printable(event.label, 60)}` : verb.replace(/ of$/, '')),
  ];
  if (total !== undefined && total > 0) {
    const fraction = Math.min(1, Math.max(0, done / total));
    const filled = Math.round(fraction * bar);
    const drawn = bar === 0 ? '' : ` ${'━'.repeat(filled)}${'╌'.repeat(bar - filled)}`;
    parts[0] += `${drawn} ${String(Math.floor(fraction * 100)).padStart(3)} %`;
    parts.push(`${amount(done)} of ${amount(total)}${unit === 'bytes' ? '' : ` ${unit}`}`);
  } else {
    parts.push(`${amount(done)}${unit === 'bytes' ? '' : ` ${unit}`}`);
  }
  if (rate > 0) {
    if (unit === 'bytes') parts.push(`${formatBytes(Math.round(rate))}/s`);
    if (total !== undefined && total > done) parts.push(`${timeLeft((total - done) / rate)} left`);
  }
  return parts.join('  ');
}

/** Whole seconds: an estimate has no decimals. */
export function timeLeft(seconds: number): string {
  const whole = Math.max(1, Math.round(seconds));
  return whole < 60 ? `${whole} s` : formatSeconds(whole);
}
