/**
 * Which container a file name asks for. Apart from the writers, so that the command line need not load them to know.
 */

import { UsageError, printable } from '../../errors.js';

/** The containers that are written. */
export type WeightsContainer = 'safetensors' | 'PyTorch (zip)';

/** Endings of other frameworks' models: nobody who writes one of them means ONNX. */
const OTHERS =
  /\.(tflite|pb|pbtxt|h5|keras|ckpt|mlmodel|mlpackage|engine|trt|plan|gguf|npz|msgpack|zip|tar|gz)$/i;

/** @throws UsageError for a name that promises what is not written */
export function refuseOtherEnding(path: string): void {
  const ending = OTHERS.exec(path)?.[0];
  if (ending === undefined) return;
  throw new UsageError(`--out ${printable(path, 300)}: ${ending} files are not written`, {
    next: 'Name an .onnx file, weights (.safetensors, .pth), or a folder.',
  });
}

/** What a file's ending says it is; `undefined` for anything that is no weights file. */
export function containerOf(path: string): WeightsContainer | undefined {
  const name = path.toLowerCase();
  if (name.endsWith('.safetensors')) return 'safetensors';
  return /\.(pth|pt|bin)$/.test(name) ? 'PyTorch (zip)' : undefined;
}
