/** The thread behind `digest.ts`: hashes a file that it reads by itself, or what it is handed, in order. */
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { parentPort, workerData } from 'node:worker_threads';

const BUFFER_BYTES = 1024 * 1024;
const hash = createHash('sha256');
const job = workerData as { readonly path: string } | undefined;

if (job) parentPort!.postMessage(await hashFile(job.path));
else {
  parentPort!.on('message', (message: 'hex' | { buffer: ArrayBuffer; offset: number; length: number }) => {
    if (message === 'hex') {
      parentPort!.postMessage(hash.digest('hex'));
      return;
    }
    hash.update(new Uint8Array(message.buffer, message.offset, message.length));
    parentPort!.postMessage('');
  });
}

/** One buffer is hashed while the next is read. */
async function hashFile(path: string): Promise<{ hex: string; identity: string }> {
  const file = await open(path);
  try {
    const buffers = [new Uint8Array(BUFFER_BYTES), new Uint8Array(BUFFER_BYTES)];
    let turn = 0;
    const next = (): ReturnType<typeof file.read<Uint8Array>> =>
      file.read(buffers[turn++ % 2], 0, BUFFER_BYTES, null);
    let reading = next();
    for (;;) {
      const { buffer, bytesRead } = await reading;
      if (bytesRead === 0) break;
      reading = next();
      hash.update(buffer.subarray(0, bytesRead));
    }
    const { dev, ino, size, mtimeMs } = await file.stat();
    return { hex: hash.digest('hex'), identity: `${dev}:${ino}:${size}:${mtimeMs}` };
  } finally {
    await file.close();
  }
}
