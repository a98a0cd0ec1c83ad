/** Headless Chromium over its debugging pipe: no package, no port. */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';

export const CHROMIUM = [
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
  '/usr/bin/google-chrome-stable',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
].find((path) => existsSync(path));

interface Event {
  readonly method: string;
  readonly params: Readonly<Record<string, unknown>>;
}

export class Chromium {
  readonly events: Event[] = [];
  readonly #child: ChildProcess;
  readonly #profile = mkdtempSync(join(tmpdir(), 'convert-beit-chromium-'));
  readonly #waiting = new Map<
    number,
    { resolve: (result: unknown) => void; reject: (error: Error) => void }
  >();
  #count = 0;
  #session: string | undefined;
  #text = '';

  /** @param more flags; without any that speak of WebGPU there is no GPU */
  constructor(path: string, more: readonly string[] = ['--disable-gpu']) {
    const flags = [
      '--headless',
      '--no-sandbox',
      ...more,
      '--disable-dev-shm-usage',
      '--no-first-run',
      '--disable-background-networking',
      `--user-data-dir=${this.#profile}`,
      '--remote-debugging-pipe',
      'about:blank',
    ];
    this.#child = spawn(path, flags, {
      stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
      // Its helpers end with it, as a group: they write into the profile to the last.
      detached: true,
    });
    (this.#child.stdio[4] as Readable).setEncoding('utf8').on('data', (text: string) => {
      this.#receive(text);
    });
    // What was being read when the browser is ended.
    this.#child.stdio[4]!.on('error', () => undefined);
    this.#child.on('exit', () => {
      for (const { reject } of this.#waiting.values()) reject(new Error('chromium ended'));
    });
  }

  #receive(text: string): void {
    const messages = (this.#text + text).split('\0');
    this.#text = messages.pop()!;
    for (const message of messages) {
      const { id, result, error, method, params } = JSON.parse(message) as Partial<Event> & {
        id?: number;
        result?: unknown;
        error?: { message: string };
      };
      if (id === undefined) this.events.push({ method: method!, params: params ?? {} });
      else {
        const waiting = this.#waiting.get(id);
        this.#waiting.delete(id);
        if (error) waiting?.reject(new Error(error.message));
        else waiting?.resolve(result);
      }
    }
  }

  send<T>(method: string, params: object = {}): Promise<T> {
    this.#count += 1;
    const id = this.#count;
    const pipe = this.#child.stdio[3] as Writable;
    pipe.write(
      `${JSON.stringify({ id, method, params, ...(this.#session === undefined ? {} : { sessionId: this.#session }) })}\0`,
    );
    return new Promise<T>((resolve, reject) => {
      this.#waiting.set(id, { resolve: resolve as (result: unknown) => void, reject });
    });
  }

  /** Open a page; everything it says and asks for from now on is in {@link events}. */
  async open(url: string): Promise<void> {
    const { targetId } = await this.send<{ targetId: string }>('Target.createTarget', { url: 'about:blank' });
    const { sessionId } = await this.send<{ sessionId: string }>('Target.attachToTarget', {
      targetId,
      flatten: true,
    });
    this.#session = sessionId;
    for (const domain of ['Page', 'Runtime', 'Log', 'Network']) await this.send(`${domain}.enable`);
    this.events.length = 0;
    await this.send('Page.navigate', { url });
    while (!this.events.some(({ method }) => method === 'Page.loadEventFired'))
      await new Promise((resolve) => setTimeout(resolve, 20));
  }

  async evaluate<T>(expression: string): Promise<T> {
    const { result, exceptionDetails } = await this.send<{
      result: { value: T };
      exceptionDetails?: { text: string };
    }>('Runtime.evaluate', { expression, returnByValue: true });
    if (exceptionDetails) throw new Error(exceptionDetails.text);
    return result.value;
  }

  /**
   * Until an expression is true; the test's own limit ends what waits too long.
   *
   * @throws when the page throws what it does not catch
   */
  async waitFor(expression: string): Promise<void> {
    while (!(await this.evaluate<boolean>(`Boolean(${expression})`))) {
      const thrown = this.events.find(({ method }) => method === 'Runtime.exceptionThrown');
      if (thrown) throw new Error(`uncaught in the page: ${JSON.stringify(thrown.params)}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** The person's screen and taste. */
  async view(width: number, theme: 'light' | 'dark'): Promise<void> {
    await this.send('Emulation.setDeviceMetricsOverride', {
      width,
      height: 800,
      deviceScaleFactor: 1,
      mobile: width < 500,
    });
    await this.send('Emulation.setEmulatedMedia', {
      features: [{ name: 'prefers-color-scheme', value: theme }],
    });
  }

  /** The whole page as a PNG. */
  async screenshot(): Promise<Buffer> {
    const { data } = await this.send<{ data: string }>('Page.captureScreenshot', {
      captureBeyondViewport: true,
    });
    return Buffer.from(data, 'base64');
  }

  /** What the page said on the console, and what went wrong in it. */
  complaints(): readonly Event[] {
    return this.events.filter(({ method }) => /consoleAPICalled|entryAdded|exceptionThrown/.test(method));
  }

  /** Addresses that were asked for; what the page carries or made itself is none. */
  requests(): readonly string[] {
    return this.events
      .filter(({ method }) => method === 'Network.requestWillBeSent')
      .map(({ params }) => (params['request'] as { url: string }).url)
      .filter((url) => !/^(data|blob):/.test(url));
  }

  async close(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    process.kill(-this.#child.pid!, 'SIGKILL');
    await ended;
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  }
}

/** An expression: least contrast of texts against what is behind them (WCAG asks for 4.5). */
export const leastContrast = (selector: string): string => `(() => {
  const channel = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const parts = (text) => text.match(/[\\d.]+/g).map(Number);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const found = parts(getComputedStyle(at).backgroundColor);
      if (found.length < 4 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const nodes = document.querySelectorAll('${selector}');
  return Math.min(...[...nodes].map((node) => {
    const [a, b] = [luminance(parts(getComputedStyle(node).color)), luminance(behind(node))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  }));
})()`;
