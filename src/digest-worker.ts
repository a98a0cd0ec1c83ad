/** The thread behind `digest.ts`: hashes what it is handed, in order. */
import { createHash } from 'node:crypto';
import { parentPort } from 'node:worker_threads';

const hash = createHash('sha256');
parentPort!.on('message', (message: 'hex' | { buffer: ArrayBuffer; offset: number; length: number }) => {
  if (message === 'hex') {
    parentPort!.postMessage(hash.digest('hex'));
    return;
  }
  hash.update(new Uint8Array(message.buffer, message.offset, message.length));
  parentPort!.postMessage('');
});
