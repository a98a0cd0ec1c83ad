/**
 * Which container a file name asks for. Apart from the writers, so that the command line need not load them to know.
 */

/** The containers that are written. */
export type WeightsContainer = 'safetensors' | 'PyTorch (zip)';

/** What a file's ending says it is; `undefined` for anything that is no weights file. */
export function containerOf(path: string): WeightsContainer | undefined {
  const name = path.toLowerCase();
  if (name.endsWith('.safetensors')) return 'safetensors';
  return /\.(pth|pt|bin)$/.test(name) ? 'PyTorch (zip)' : undefined;
}
