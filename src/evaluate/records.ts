/**
 * The results file: JSON Lines, a header first, then one record per picture. A line counts when its newline is there:
 * whatever a killed process left behind it does not.
 */
import { open, type FileHandle } from 'node:fs/promises';
import { basename } from 'node:path';
import { EnvironmentError, InputError, printable } from '../errors.js';
import type { Preprocessing } from '../image.js';
import { fieldsOf } from '../preprocessing-routes.js';

export const FORMAT = 'convert-beit evaluation';
export const FORMAT_VERSION = 1;

export interface ModelRecord {
  /** file name, without where it lies */
  readonly name: string;
  readonly bytes: number;
  /** of the graph file */
  readonly sha256: string;
  /** of the weights beside it */
  readonly dataSha256?: string;
  readonly preprocessing: Preprocessing;
}

/** What a results file is about. Files are merged, or gone on with, only where all but `shard` is the same. */
export interface Header {
  readonly format: typeof FORMAT;
  readonly version: typeof FORMAT_VERSION;
  readonly tool: string;
  /** of onnxruntime-node */
  readonly runtime: string;
  readonly model: ModelRecord;
  readonly against?: ModelRecord;
  readonly dataset: { readonly name: string; readonly images: number; readonly sha256: string };
  readonly classes: {
    /** of the head */
    readonly count: number;
    readonly how: string;
    /** class names of the data set with their numbers */
    readonly names: readonly (readonly [string, number])[];
  };
  /** pictures per run of the model; the last batch is filled up, so that every sum is made in the same way */
  readonly batch: number;
  /** `[1, 1]`: all */
  readonly shard: readonly [index: number, of: number];
}

/** Best classes, best first, and their probabilities to six decimals. Empty: a score was not a finite number. */
export interface TopRecord {
  readonly top: readonly number[];
  readonly p: readonly number[];
}

/** One picture. */
export interface ImageRecord extends Partial<TopRecord> {
  /** place in the data set, from 0 */
  readonly i: number;
  readonly image: string;
  /** class number; absent: unknown */
  readonly class?: number;
  /** why it could not be read */
  readonly error?: string;
  /** the other model's answer */
  readonly other?: TopRecord;
  /** largest difference of a score between the models */
  readonly difference?: number;
}

export interface ResultsFile {
  readonly name: string;
  readonly header: Header;
  /** bytes up to the end of the last complete line */
  readonly bytes: number;
}

const CHUNK_BYTES = 256 * 1024;
/** A header names every class of the data set. */
const MAX_LINE_BYTES = 64 * 1024 * 1024;

export function toLine(record: Header | ImageRecord): string {
  return `${JSON.stringify(record)}\n`;
}

/**
 * Read a results file line by line.
 *
 * @param onHeader called once, before any record; may throw to say that the file is not the one wanted
 * @param onRecord called for every complete record, in the order of the file
 * @returns `undefined` for a file without a complete header (a process that was killed at once)
 * @throws InputError if it is absent or not such a file
 */
export async function readResults(
  path: string,
  onHeader: (header: Header, name: string) => void,
  onRecord: (record: ImageRecord) => void,
): Promise<ResultsFile | undefined> {
  const name = printable(basename(path));
  let header: Header | undefined;
  let number = 0;
  let bytes = 0;
  for await (const { text, end } of lines(path, name)) {
    number += 1;
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (cause) {
      throw new InputError(`${name}, line ${number} is no JSON; the file was damaged or is no results file`, {
        cause,
      });
    }
    if (number === 1) onHeader((header = checkHeader(value, name)), name);
    else onRecord(checkRecord(value, header!, `${name}, line ${number}`));
    bytes = end;
  }
  return header && { name, header, bytes };
}

async function* lines(path: string, name: string): AsyncGenerator<{ text: string; end: number }> {
  let file: FileHandle;
  try {
    file = await open(path, 'r');
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? String(cause);
    if (code === 'ENOENT')
      throw new InputError(`there is no results file ${printable(path, 300)}`, { cause });
    throw new EnvironmentError(`cannot read ${name}: ${code}`, { cause });
  }
  try {
    if (!(await file.stat()).isFile())
      throw new InputError(`${name} is not a file; a results file is needed`);
    const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
    let rest: Buffer[] = [];
    let held = 0;
    let end = 0;
    for (;;) {
      const { bytesRead } = await file.read(chunk, 0, CHUNK_BYTES, end + held);
      if (bytesRead === 0) return;
      let from = 0;
      for (let at = chunk.indexOf(10); at >= 0 && at < bytesRead; at = chunk.indexOf(10, from)) {
        const text = Buffer.concat([...rest, chunk.subarray(from, at)]).toString('utf8');
        end += held + at + 1 - from;
        rest = [];
        held = 0;
        from = at + 1;
        yield { text, end };
      }
      rest.push(Buffer.from(chunk.subarray(from, bytesRead)));
      held += bytesRead - from;
      if (held > MAX_LINE_BYTES) throw new InputError(`${name} is no results file: a line of it has no end`);
    }
  } finally {
    await file.close();
  }
}

function checkHeader(value: unknown, name: string): Header {
  const fields = fieldsOf(value);
  if (fields?.get('format') !== FORMAT) {
    throw new InputError(`${name} is no results file: its first line is no header of convert-beit evaluate`);
  }
  if (fields.get('version') !== FORMAT_VERSION) {
    throw new InputError(
      `${name} has version ${printable(String(fields.get('version')), 20)} of the results format; ${FORMAT_VERSION} is read`,
    );
  }
  const header = value as Header;
  const [index, of] = Array.isArray(header.shard) ? header.shard : [0, 0];
  const whole = [
    index,
    of,
    header.batch,
    fieldsOf(header.dataset)?.get('images'),
    fieldsOf(header.classes)?.get('count'),
  ];
  if (
    !whole.every((n) => Number.isSafeInteger(n) && (n as number) > 0) ||
    !fieldsOf(header.model) ||
    index > of ||
    !Array.isArray(header.classes.names)
  ) {
    throw new InputError(`${name}: the header is incomplete; it was not written by convert-beit evaluate`);
  }
  return header;
}

function isTop(value: unknown, classes: number): boolean {
  const fields = fieldsOf(value);
  const [top, p] = [fields?.get('top'), fields?.get('p')];
  return (
    Array.isArray(top) &&
    Array.isArray(p) &&
    top.length === p.length &&
    top.every((n) => Number.isSafeInteger(n) && n >= 0 && n < classes) &&
    p.every((n) => typeof n === 'number')
  );
}

function checkRecord(value: unknown, header: Header, where: string): ImageRecord {
  const fields = fieldsOf(value);
  const i = fields?.get('i');
  const known = fields?.get('class');
  const error = fields?.get('error');
  const [index, of] = header.shard;
  const right =
    fields !== undefined &&
    typeof i === 'number' &&
    Number.isSafeInteger(i) &&
    i >= 0 &&
    i < header.dataset.images &&
    i % of === index - 1 &&
    typeof fields.get('image') === 'string' &&
    (known === undefined || (Number.isSafeInteger(known) && (known as number) < header.classes.count)) &&
    (error === undefined
      ? isTop(value, header.classes.count) &&
        (header.against ? isTop(fields.get('other'), header.classes.count) : true)
      : typeof error === 'string');
  if (!right) throw new InputError(`${where} is no record of a picture of this evaluation`);
  return value as ImageRecord;
}

/** The first field in which two headers differ, `shard` and the data set's name aside; `undefined`: none. */
export function differingField(a: Header, b: Header): string | undefined {
  const parts = (header: Header): Map<string, unknown> => {
    const { model, against, dataset, classes, ...rest } = header;
    return new Map<string, unknown>([
      ['model', [model.sha256, model.dataSha256]],
      ['preprocessing', model.preprocessing],
      ['--against model', [against?.sha256, against?.dataSha256]],
      ["--against model's preprocessing", against?.preprocessing],
      ['data set', [dataset.images, dataset.sha256]],
      ['class numbers', [classes.count, classes.names]],
      ['--batch', rest.batch],
      ['version of convert-beit', rest.tool],
      ['version of ONNX Runtime', rest.runtime],
    ]);
  };
  const other = parts(b);
  return [...parts(a)].find(
    ([field, value]) => JSON.stringify(value ?? null) !== JSON.stringify(other.get(field) ?? null),
  )?.[0];
}
