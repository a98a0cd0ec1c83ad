/** What the tests of the hub share: a server, a cache, and a caller that takes notes. */
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach } from 'vitest';
import { parseSource, resolveSource, type ResolveOptions } from '../../src/convert/source.js';
import { COMMIT, HubServer, sha256 } from './hub-server.js';

export const WEIGHTS = randomBytes(300_000);
export const CONFIG = Buffer.from('{"layer_norm_eps": 1e-12}');
export const REPO = 'models--owner--model';

export let hub: HubServer;
export let cache: string;
export let notes: string[];
export let env: NodeJS.ProcessEnv;
export let waits: number[];

/** A fresh hub and an empty cache for each test of the file. */
export function useHub(): void {
  beforeEach(async () => {
    hub = await HubServer.start();
    hub.files.set('model.safetensors', { content: WEIGHTS, lfs: true });
    hub.files.set('config.json', { content: CONFIG });
    cache = await mkdtemp(join(tmpdir(), 'hub-'));
    env = { HF_ENDPOINT: hub.endpoint, HF_HUB_CACHE: cache, HF_HOME: cache };
    notes = [];
    waits = [];
  });

  afterEach(async () => {
    await hub.stop();
    await rm(cache, { recursive: true, force: true });
  });
}

export function setEnv(replacement: NodeJS.ProcessEnv): void {
  env = replacement;
}

export function get(text = 'hf:owner/model', options: ResolveOptions = {}): ReturnType<typeof resolveSource> {
  return resolveSource(parseSource(text), {
    env,
    onNote: (note) => notes.push(note),
    sleep: (milliseconds) => {
      waits.push(milliseconds);
      return new Promise((done) => setTimeout(done, 2));
    },
    ...options,
    progress: (event) => {
      options.progress?.(event);
      hub.received(event.bytes);
    },
  });
}

export const snapshot = (...file: string[]): string => join(cache, REPO, 'snapshots', COMMIT, ...file);
export const blob = (bytes: Buffer): string => join(cache, REPO, 'blobs', sha256(bytes));

export async function leavePart(bytes: Buffer): Promise<void> {
  await mkdir(dirname(blob(WEIGHTS)), { recursive: true });
  await writeFile(`${blob(WEIGHTS)}.incomplete`, bytes);
}
