/**
 * A temporary copy of a model whose inner values are outputs. The shipped file is not touched.
 *
 * The copy is the file's own bytes and a few more: a second `graph` field that holds nothing but outputs, and additions
 * that a fused node keeps to itself. Protobuf merges an embedded message that occurs twice, so the graph gets these
 * outputs and nodes, and nothing has to be rewritten, whatever the file's size.
 *
 * @see https://protobuf.dev/programming-guides/encoding/#last-one-wins
 */
import { constants } from 'node:fs';
import { appendFile, chmod, copyFile, link, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { EnvironmentError, printable } from '../../errors.js';
import { sumsFor, type Sums } from './unfused.js';

/** ModelProto.graph, GraphProto.node and output, ValueInfoProto.name, NodeProto: field number * 8 + wire type 2. */
const GRAPH = 7 * 8 + 2;
const NODE = 1 * 8 + 2;
const OUTPUT = 12 * 8 + 2;
const NAME = 1 * 8 + 2;
const NODE_INPUT = 1 * 8 + 2;
const NODE_OUTPUT = 2 * 8 + 2;
const NODE_TYPE = 4 * 8 + 2;

export interface Exposed {
  readonly path: string;
  /** takes the copy away */
  close(): Promise<void>;
}

/** @param values names of values that become outputs, besides those the model has */
export function outputsMessage(values: readonly string[], sums: Sums = new Map()): Uint8Array {
  const text = (key: number, value: string): Buffer => embedded(key, Buffer.from(value, 'utf8'));
  const nodes = [...sumsFor(values, sums)].map(([sum, operands]) =>
    embedded(
      NODE,
      Buffer.concat([
        ...operands.map((name) => text(NODE_INPUT, name)),
        text(NODE_OUTPUT, sum),
        text(NODE_TYPE, 'Add'),
      ]),
    ),
  );
  const outputs = values.map((value) => embedded(OUTPUT, text(NAME, value)));
  return embedded(GRAPH, Buffer.concat([...nodes, ...outputs]));
}

function embedded(key: number, content: Uint8Array): Buffer {
  const head = [key];
  let rest = content.length;
  for (; rest >= 128; rest = Math.floor(rest / 128)) head.push((rest % 128) + 128);
  head.push(rest);
  return Buffer.concat([Buffer.from(head), content]);
}

/**
 * @param dataFiles names of the data files beside the model; runtimes look for them in the model's own folder only
 * @throws EnvironmentError if there is no room for a copy, or no permission
 */
export async function exposeValues(
  path: string,
  values: readonly string[],
  dataFiles: readonly string[],
  sums: Sums = new Map(),
): Promise<Exposed> {
  // Beside the model: the data files are linked, not copied, which needs the same file system.
  const place =
    dataFiles.length > 0
      ? join(dirname(path), '.convert-beit-layers-')
      : join(tmpdir(), 'convert-beit-layers-');
  let folder: string | undefined;
  const close = async (): Promise<void> => {
    if (folder !== undefined) await rm(folder, { recursive: true, force: true });
  };
  try {
    folder = await mkdtemp(place);
    const copy = join(folder, 'model.onnx');
    // A clone where the file system has them: no bytes are copied.
    await copyFile(path, copy, constants.COPYFILE_FICLONE);
    await chmod(copy, 0o600);
    await appendFile(copy, outputsMessage(values, sums));
    for (const name of dataFiles) await link(join(dirname(path), name), join(folder, name));
    return { path: copy, close };
  } catch (cause) {
    await close();
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown error';
    throw new EnvironmentError(`cannot make a temporary copy of ${printable(basename(path))}: ${code}`, {
      cause,
      next:
        dataFiles.length > 0
          ? 'The weights lie in a file of their own, so the copy has to be beside the model: that folder must be writable, on a file system with hard links.'
          : 'The folder for temporary files (TMPDIR) needs as much room as the model takes.',
    });
  }
}
