/**
 * What a file is that should have been an ONNX model: a person wants to hear that, not where its bytes break protobuf.
 */
import { basename } from 'node:path';
import { CONTAINERS } from './convert/open.js';
import { HEAD_BYTES } from './convert/checkpoint.js';
import { ALREADY_ONNX, recognise } from './convert/recognise.js';
import { InputError, printable } from './errors.js';
import { openFile } from './file-source.js';

/** @throws InputError that says what the file is, when its first bytes are known to be something else than ONNX */
export async function refuseNotOnnx(path: string): Promise<void> {
  const file = await openFile(path);
  try {
    const head = await file.read(0, Math.min(HEAD_BYTES, file.size));
    const name = printable(basename(path));
    if (CONTAINERS.some((container) => container.matches(head, basename(path)))) {
      throw new InputError(`${name} is a checkpoint, not an ONNX model`, {
        next: `Convert it first: convert-beit --src ${name} --out model.onnx.`,
      });
    }
    // Without the name, which says ONNX.
    const found = recognise(head, '', file.size);
    if (found && found.what !== ALREADY_ONNX) throw new InputError(`${name} is ${found.what}`, found);
  } finally {
    await file.close();
  }
}
