#!/usr/bin/env node
/**
 * The program: the process around `run`.
 */
import { prepareDigest } from '../digest.js';
import { VERSION } from '../version.js';
import type { CliDeps } from './deps.js';

const args = process.argv.slice(2);

const deps: CliDeps = {
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
  signals: process,
  exit: (code) => process.exit(code),
  loadPipeline: () => import('../pipeline.js'),
};

// A reader that went away (| head) or a terminal that was closed is not an error of ours.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE' || error.code === 'EIO') return;
    process.exitCode = 1;
    if (stream === process.stdout) process.stderr.write(`error: cannot write to stdout: ${error.message}\n`);
  });
}

process.on('uncaughtException', unexpected);
process.on('unhandledRejection', unexpected);

const code = await start();
// What was written must be out before the process ends: a pipe takes it in its own time.
await Promise.all([process.stdout, process.stderr].map(drained));
process.exit(Number(process.exitCode ?? 0) || code);

async function start(): Promise<number> {
  // Scripts ask for the version often: it needs none of the rest.
  if (args.length === 1 && (args[0] === '--version' || args[0] === '-V')) {
    process.stdout.write(`${VERSION}\n`);
    return 0;
  }
  hashEarly();
  const { run } = await import('./run.js');
  return await run(args, deps);
}

/** Hashing a local source is the longest part of a conversion: it starts while everything else is being loaded. */
function hashEarly(): void {
  // A linked model copies nothing, and unverified nobody reads its weights at all.
  if (args.includes('--link') && args.includes('--no-verify')) return;
  const at = args.indexOf('--src');
  if (at >= 0 && (args[0].startsWith('-') || args[0] === 'convert')) prepareDigest(args[at + 1] ?? '');
}

function unexpected(error: unknown): void {
  void (async () => {
    const [{ describeFailure }, { tell }] = await Promise.all([import('./exit.js'), import('./run.js')]);
    const failure = describeFailure(error);
    await tell(failure, args, deps);
    process.exit(failure.exitCode);
  })();
}

/** Everything written is out, and a failed write has been told to the stream's listener. */
async function drained(stream: NodeJS.WriteStream): Promise<void> {
  if (!stream.destroyed) await new Promise((done) => stream.write('', done));
  await new Promise(setImmediate);
}
