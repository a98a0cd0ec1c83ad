/**
 * An ONNX file as the checks see it: every small message decoded, every tensor a range of bytes that nobody has read.
 */
import { basename, dirname, join } from 'node:path';
import type { ByteSource } from '../bytes.js';
import { FormatError, InputError, printable } from '../errors.js';
import { openFile } from '../file-source.js';
import {
  Budget,
  expectWire,
  integerOf,
  readEntry,
  readNode,
  readOpset,
  readPort,
  textOf,
  type OnnxNode,
  type OnnxPort,
} from './onnx-messages.js';
import { readInitializer, type OnnxInitializer, type OpenDataFile } from './onnx-tensor.js';
import { WireReader, wireError, type Field, type Message } from './protobuf.js';

export type { OnnxAttribute, OnnxNode, OnnxPort } from './onnx-messages.js';
export type { OnnxInitializer } from './onnx-tensor.js';

export interface OnnxFile {
  readonly irVersion: number;
  readonly producer: { readonly name: string; readonly version: string };
  /** version by domain; '' is the standard domain */
  readonly opsets: ReadonlyMap<string, number>;
  readonly metadata: ReadonlyMap<string, string>;
  readonly nodes: readonly OnnxNode[];
  readonly inputs: readonly OnnxPort[];
  readonly outputs: readonly OnnxPort[];
  readonly initializers: ReadonlyMap<string, OnnxInitializer>;
  /** parts of ONNX that a classifier does not need and that could change what it computes, e.g. `local functions` */
  readonly foreign: readonly string[];
  /** data files that were opened */
  readonly dataFiles: readonly ByteSource[];
  close(): Promise<void>;
}

const MAX_NODE_BYTES = 1024 * 1024;
const MAX_METADATA_BYTES = 8 * 1024 * 1024;
const MAX_DATA_FILES = 64;

const FOREIGN_MODEL_FIELDS: ReadonlyMap<number, string> = new Map([
  [20, 'training information'],
  [25, 'local functions'],
]);
const FOREIGN_GRAPH_FIELDS: ReadonlyMap<number, string> = new Map([
  [14, 'quantization annotations'],
  [15, 'sparse initializers'],
]);

/**
 * Open the file at `path` and the data files beside it.
 *
 * @throws InputError if there is no such file; FormatError if it breaks a rule; EnvironmentError if it can't be read
 */
export async function openOnnxFile(path: string): Promise<OnnxFile> {
  const source = await openFile(path);
  try {
    return await readOnnxFile(source, (name) =>
      openFile(join(dirname(path), name), { links: 'refuse', label: name }),
    );
  } catch (error) {
    await source.close();
    throw error;
  }
}

/**
 * Read everything but the tensors' bytes.
 *
 * @param openData opens a data file by its (checked, plain) name; default: the model may have none
 * @returns        closing it closes `source` and the data files
 */
export async function readOnnxFile(source: ByteSource, openData?: OpenDataFile): Promise<OnnxFile> {
  const file = printable(basename(source.name));
  const opened = new Map<string, ByteSource>();
  const open: OpenDataFile = async (name) => {
    const before = opened.get(name);
    if (before) return before;
    if (!openData || opened.size >= MAX_DATA_FILES) {
      throw new FormatError(
        `${file} has weights in ${openData ? `more than ${MAX_DATA_FILES} data files` : 'a data file'}`,
      );
    }
    try {
      const data = await openData(name);
      opened.set(name, data);
      return data;
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      throw new FormatError(`${file} has weights in ${printable(name)} beside it: ${error.message}`, {
        cause: error,
      });
    }
  };
  try {
    const content = await readModel(source, file, open);
    return {
      ...content,
      dataFiles: [...opened.values()],
      close: async () => {
        await Promise.all([source, ...opened.values()].map((each) => each.close()));
      },
    };
  } catch (error) {
    await Promise.all([...opened.values()].map((data) => data.close()));
    throw error;
  }
}

async function readModel(
  source: ByteSource,
  file: string,
  openData: OpenDataFile,
): Promise<Omit<OnnxFile, 'close' | 'dataFiles'>> {
  if (source.size === 0) throw new FormatError(`${file} is empty`);
  const reader = new WireReader(source, file);
  const budget = new Budget();
  const small = smallMessages(reader, budget);
  let irVersion = 0;
  const producer = { name: '', version: '' };
  const opsets = new Map<string, number>();
  const metadata = new Map<string, string>();
  const foreign = new Set<string>();
  let graph: Field | undefined;
  for await (const field of reader.fields(0, source.size)) {
    switch (field.number) {
      case 1:
        irVersion = integerOf(reader, field);
        break;
      case 2:
      case 3: {
        const text = textOf(await small(field, MAX_NODE_BYTES), field);
        producer[field.number === 2 ? 'name' : 'version'] = text;
        break;
      }
      case 7:
        expectWire(file, field, 2);
        // Protobuf would merge them; no ONNX writer makes two.
        if (graph) throw wireError(file, field.start, 'a second graph begins');
        graph = field;
        break;
      case 8: {
        const { domain, version } = readOpset(await small(field, MAX_NODE_BYTES));
        const key = domain === 'ai.onnx' ? '' : domain;
        if (opsets.has(key))
          throw wireError(file, field.start, `domain "${printable(key)}" is imported twice`);
        opsets.set(key, version);
        break;
      }
      case 14: {
        const { key, value } = readEntry(await small(field, MAX_METADATA_BYTES));
        metadata.set(key, value);
        break;
      }
      default:
        if (FOREIGN_MODEL_FIELDS.has(field.number)) foreign.add(FOREIGN_MODEL_FIELDS.get(field.number)!);
    }
  }
  if (!graph) throw wireError(file, source.size, 'it ends without a graph');

  const nodes: OnnxNode[] = [];
  const inputs: OnnxPort[] = [];
  const outputs: OnnxPort[] = [];
  const initializers = new Map<string, OnnxInitializer>();
  for await (const field of reader.fields(graph.start, graph.end)) {
    switch (field.number) {
      case 1:
        nodes.push(readNode(await small(field, MAX_NODE_BYTES), budget));
        break;
      case 5: {
        expectWire(file, field, 2);
        const initializer = await readInitializer(reader, field, source, budget, openData);
        if (initializers.has(initializer.name)) {
          throw wireError(file, field.start, `a second initializer "${printable(initializer.name)}" begins`);
        }
        initializers.set(initializer.name, initializer);
        break;
      }
      case 11:
        inputs.push(readPort(await small(field, MAX_NODE_BYTES), budget));
        break;
      case 12:
        outputs.push(readPort(await small(field, MAX_NODE_BYTES), budget));
        break;
      default:
        if (FOREIGN_GRAPH_FIELDS.has(field.number)) foreign.add(FOREIGN_GRAPH_FIELDS.get(field.number)!);
    }
  }
  return {
    irVersion,
    producer,
    opsets,
    metadata,
    nodes,
    inputs,
    outputs,
    initializers,
    foreign: [...foreign],
  };
}

function smallMessages(
  reader: WireReader,
  budget: Budget,
): (field: Field, limit: number) => Promise<Message> {
  return async (field, limit) => {
    expectWire(reader.file, field, 2);
    if (field.end - field.start > limit) {
      throw wireError(
        reader.file,
        field.start,
        `field ${field.number} has ${field.end - field.start} bytes; at most ${limit} are read`,
      );
    }
    budget.bytes(reader.file, field);
    const message = await reader.message(field);
    budget.item(message);
    return message;
  };
}
