/**
 * What a file that is no readable checkpoint really is, by its first bytes.
 */
import { formatBytes } from '../bytes.js';
import type { ByteSource } from '../bytes.js';
import { InputError, printable } from '../errors.js';
import { baseName, shortName } from './checkpoint.js';

export interface Recognised {
  /** completes “model.safetensors is …” */
  readonly what: string;
  /** what the person can do */
  readonly next?: string;
}

interface Sniffed {
  readonly head: Uint8Array;
  /** the same bytes, one character each */
  readonly text: string;
  /** lower case, without its folder */
  readonly name: string;
  readonly size: number;
}

type Row = readonly [test: (file: Sniffed) => boolean, answer: (file: Sniffed) => Recognised];

const DOWNLOAD_AGAIN = 'Download the file itself again (for example with convert-beit --src hf:owner/repo).';
const NEED_SAFETENSORS =
  'Look for a .safetensors or .pth version of the same weights: convert-beit list shows where they are.';

const starts =
  (...signatures: readonly string[]) =>
  ({ text }: Sniffed): boolean =>
    signatures.some((signature) => text.startsWith(signature));
const is = (what: string, next?: string) => (): Recognised => ({ what, ...(next !== undefined && { next }) });
const beginning = (text: string): string => printable(text.trim().replace(/\s+/g, ' '), 60);

export const ALREADY_ONNX = 'an ONNX model already';

/** First match wins. */
const ROWS: readonly Row[] = [
  [({ size }) => size === 0, is('empty (0 bytes)', DOWNLOAD_AGAIN)],
  [
    starts('version https://git-lfs.github.com/spec/'),
    ({ size }) => ({
      what: `a Git LFS pointer (${formatBytes(size)}), not weights`,
      next: 'Run: git lfs pull',
    }),
  ],
  [
    ({ text }) => /^\s*<(!doctype\s+html|html|head|body)/i.test(stripMark(text)),
    is(
      'an HTML page, not weights: a log-in page or an error message was saved instead of the file',
      DOWNLOAD_AGAIN,
    ),
  ],
  [
    ({ text }) => /^\s*<(\?xml|error|[a-z]+[\s>])/i.test(stripMark(text)),
    ({ text }) => ({ what: `an XML document, not weights (${beginning(text)})`, next: DOWNLOAD_AGAIN }),
  ],
  [starts('\u001f\u008b'), is('compressed with gzip', 'Unpack it first: gunzip, or tar xzf.')],
  [starts('BZh'), is('compressed with bzip2', 'Unpack it first: bunzip2.')],
  [starts('\u00fd7zXZ\u0000'), is('compressed with xz', 'Unpack it first: unxz.')],
  [starts('\u0028\u00b5\u002f\u00fd'), is('compressed with zstd', 'Unpack it first: unzstd.')],
  [
    starts('7z\u00bc\u00af', 'Rar!'),
    is('a 7-Zip or RAR archive', 'Unpack it and give the checkpoint inside.'),
  ],
  [({ text }) => text.startsWith('ustar', 257), is('a tar archive', 'Unpack it first: tar xf.')],
  [starts('\u0089HDF\r\n\u001a\n'), is('an HDF5 file (Keras or TensorFlow weights)', NEED_SAFETENSORS)],
  [({ text }) => text.startsWith('TFL3', 4), is('a TensorFlow Lite model', NEED_SAFETENSORS)],
  [
    ({ name }) => /\.ckpt[^/]*\.(index|meta|data-\d+-of-\d+)$|saved_model\.pb$/.test(name),
    is('a TensorFlow checkpoint', NEED_SAFETENSORS),
  ],
  [
    ({ name, head }) =>
      name.endsWith('.msgpack') || (head[0] > 0x80 && head[0] <= 0x8f && isMessagePackString(head[1])),
    is('a MessagePack file (Flax weights)', NEED_SAFETENSORS),
  ],
  [
    // ModelProto: ir_version is field 1, a varint; then producer_name (2) or the graph (7).
    ({ head, name }) =>
      (head[0] === 0x08 && head[1] < 32 && (head[2] === 0x12 || head[2] === 0x3a)) || name.endsWith('.onnx'),
    is(ALREADY_ONNX, 'Give the checkpoint it came from; convert-beit verify compares the two.'),
  ],
  [starts('GGUF'), is('a GGUF file', NEED_SAFETENSORS)],
  [starts('\u0093NUMPY'), is('a single NumPy array (.npy)', NEED_SAFETENSORS)],
  [
    starts('\u0089PNG', '\u00ff\u00d8\u00ff', 'GIF8'),
    is('a picture, not weights', 'Give the picture with --image.'),
  ],
  [starts('%PDF'), is('a PDF document, not weights')],
  [
    ({ text }) => /^\s*[{[]/.test(stripMark(text)) && text.includes('"data_offsets"'),
    is(
      'a safetensors header without the 8 bytes of its length: the start of the file is missing',
      DOWNLOAD_AGAIN,
    ),
  ],
  [
    ({ text, name }) => /^\s*[{[]/.test(stripMark(text)) && isText(text) && /config\.json$/.test(name),
    is('a config, not weights', 'Give the checkpoint beside it, or name the config with --config.'),
  ],
  [
    ({ text }) => /^\s*[{[]/.test(stripMark(text)) && isText(text),
    ({ text }) => ({ what: `JSON, not weights (${beginning(text)})`, next: DOWNLOAD_AGAIN }),
  ],
  [
    ({ head }) => head.length >= 64 && head.every((byte) => byte === 0),
    is('filled with zeros: a download that was prepared but not finished', DOWNLOAD_AGAIN),
  ],
  [
    ({ text }) => isText(text),
    ({ text }) => ({ what: `text, not weights (${beginning(text)})`, next: DOWNLOAD_AGAIN }),
  ],
];

/**
 * Name a foreign format.
 *
 * @param head first bytes of the file (a few hundred suffice)
 * @param name file name without its folder
 * @param size of the whole file, in bytes
 * @returns `undefined` when nothing known fits
 */
export function recognise(head: Uint8Array, name: string, size: number): Recognised | undefined {
  const file: Sniffed = { head, text: Buffer.from(head).toString('latin1'), name: name.toLowerCase(), size };
  for (const [test, answer] of ROWS) {
    if (test(file)) return answer(file);
  }
  return undefined;
}

/** @throws InputError that says what the file is, when its first bytes are known to be something else */
export function refuseForeign(source: ByteSource, head: Uint8Array): void {
  const foreign = recognise(head, baseName(source.name), source.size);
  if (foreign) throw new InputError(`${shortName(source)} is ${foreign.what}`, foreign);
}

/** Without a UTF-8 byte order mark. */
function stripMark(text: string): string {
  return text.startsWith('\u00ef\u00bb\u00bf') ? text.slice(3) : text;
}

/** At least eight bytes, none of them a control character but those of lines and terminals. */
function isText(text: string): boolean {
  return (
    text.length >= 8 &&
    !/[\u0000-\u0008\u000e-\u001a\u001c-\u001f]/.test(text) &&
    /^[\t-\r\u001b -~\u0080-\u00ff]*$/.test(text)
  );
}

/** fixstr, str8, str16 or str32: keys of a Flax tree are strings. */
function isMessagePackString(byte: number): boolean {
  return (byte >= 0xa0 && byte <= 0xbf) || (byte >= 0xd9 && byte <= 0xdb);
}
