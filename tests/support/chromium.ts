/** Headless Chromium over its debugging pipe: no package, no port. */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';

export const CHROMIUM = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(
  (path) => existsSync(path),
);

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

  constructor(path: string) {
    const flags = [
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      '--disable-dev-shm-usage',
      '--no-first-run',
      '--disable-background-networking',
      `--user-data-dir=${this.#profile}`,
      '--remote-debugging-pipe',
      'about:blank',
    ];
    this.#child = spawn(path, flags, { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] });
    (this.#child.stdio[4] as Readable).setEncoding('utf8').on('data', (text: string) => {
      this.#receive(text);
    });
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

  async close(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill('SIGKILL');
    await ended;
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }
}
