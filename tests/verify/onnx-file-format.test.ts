import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ConvertBeitError, FormatError } from '../../src/errors.js';
import { Exports } from './exported.js';
import { encodeModel, withTensor, read, field, varint, nested, bytes, text } from './encode.js';

const exports = new Exports();
let golden: { path: string; bytes: Uint8Array };

beforeAll(async () => {
  const { path } = await exports.export('v1_cls');
  golden = { path, bytes: new Uint8Array(readFileSync(path)) };
});
afterAll(async () => {
  await exports.close();
});

describe('what breaks the format', () => {
  const small = { name: 't', dims: [1], dataType: 1 };
  const raw = Buffer.alloc(4);
  const graph = (...content: (number | number[])[]): Uint8Array => bytes(nested(7, content.flat()));
  it.each<[string, Uint8Array, string]>([
    ['empty', bytes(), 'm.onnx is empty'],
    ['HTML', bytes(text('<!DOCTYPE html>')), 'at byte 0 is wire type 4, which ONNX does not use'],
    ['no graph', encodeModel({ irVersion: 8 }), 'it ends without a graph'],
    ['two graphs', bytes(nested(7, []), nested(7, [])), 'a second graph begins'],
    ['field number 0', bytes(0x02, 0x00), 'at byte 0 is field number 0'],
    ['key beyond 32 bits', bytes(0xff, 0xff, 0xff, 0xff, 0x7f, 0), 'is a field key beyond 32 bits'],
    ['varint of 11 bytes', bytes(0x08, ...Array<number>(10).fill(0xff), 1), 'a number has more than 64 bits'],
    ['varint cut off', bytes(0x08, 0x80), 'at byte 1 a number is cut off'],
    [
      'length beyond the file',
      bytes(0x3a, 0x7f),
      'field 7 is longer than what encloses it (0 bytes are left)',
    ],
    ['length of truth + 2^32', bytes(0x3a, ...varint(2 ** 32)), 'field 7 is longer than what encloses it'],
    [
      'length near 2^64',
      bytes(0x3a, ...Array<number>(9).fill(0xff), 1),
      'field 7 is longer than what encloses it',
    ],
    [
      'node longer than the graph',
      graph(0x0a, 5, 0),
      'field 1 is longer than what encloses it (1 bytes are left)',
    ],
    ['fixed field cut off', graph(0x0d, 0), 'a field of 4 bytes leaves its message'],
    ['group', graph(0x0b), 'is wire type 3, which ONNX does not use'],
    ['graph as a number', bytes(0x38, 1), 'field 7 has wire type 0, not 2'],
    ['IR version as text', bytes(nested(1, [8])), 'field 1 has wire type 2, not 0'],
    ['name not UTF-8', graph(nested(1, nested(3, [0xff]))), 'a text is not UTF-8'],
    [
      'opset twice',
      encodeModel({ opsetImport: [{ version: 1 }, { domain: 'ai.onnx', version: 2 }] }),
      'domain "" is imported twice',
    ],
    [
      'attribute twice',
      encodeModel({ graph: { node: [{ attribute: [{ name: 'a' }, { name: 'a' }] }] } }),
      'a node has two attributes of one name',
    ],
    [
      'initializer twice',
      encodeModel({
        graph: {
          initializer: [
            { ...small, rawData: raw },
            { ...small, rawData: raw },
          ],
        },
      }),
      'a second initializer "t" begins',
    ],
    [
      'raw_data twice',
      graph(nested(5, [...nested(9, [1]), ...nested(9, [1])])),
      'an initializer has raw_data twice',
    ],
    [
      'too few bytes',
      withTensor({ ...small, dims: [2], rawData: raw }),
      'initializer "t" has 4 bytes; f32[2] needs 8',
    ],
    [
      'too many bytes',
      withTensor({ ...small, dims: [], rawData: Buffer.alloc(8) }),
      'initializer "t" has 8 bytes; f32[] needs 4',
    ],
    [
      'raw_data and float_data',
      withTensor({ ...small, rawData: raw, floatData: [1] }),
      'has raw_data and a typed list',
    ],
    [
      'int64 in float_data',
      withTensor({ ...small, dataType: 7, floatData: [1] }),
      'has data type I64 in float_data',
    ],
    ['negative dims', withTensor({ ...small, dims: [-1], rawData: raw }), 'initializer "t" has dims [-1]'],
    [
      'dims beyond 2^53',
      withTensor({ ...small, dims: [2 ** 30, 2 ** 30], rawData: raw }),
      'has dims [1073741824, 1073741824]',
    ],
    [
      '65 dims',
      withTensor({ ...small, dims: Array<number>(65).fill(1), rawData: raw }),
      'more than 64 dimensions',
    ],
    [
      'control characters',
      withTensor({ name: '\u001b[2J', dims: [2], dataType: 1, rawData: raw }),
      'initializer "\\u{1b}[2J" has 4 bytes',
    ],
    [
      '__proto__ twice',
      withTensor({ name: '__proto__', dims: [2], dataType: 1, rawData: raw }),
      'initializer "__proto__" has 4 bytes',
    ],
    [
      'huge node',
      graph(nested(1, Array<number>(1024 * 1024 + 1).fill(0))),
      'field 1 has 1048577 bytes; at most 1048576 are read',
    ],
    [
      'data file without a folder',
      withTensor({ ...small, dataLocation: 1, externalData: [{ key: 'location', value: 'd' }] }),
      'm.onnx has weights in a data file',
    ],
  ])('%s', async (_, content, message) => {
    const error = await read(content).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(FormatError);
    expect((error as Error).message).toContain(message);
  });

  it('bounds what empty names cost', async () => {
    // Two bytes each in the file.
    const inputs = Uint8Array.from({ length: 1_000_000 }, (_, i) => (i % 2 === 0 ? 0x0a : 0));
    const one = [...field(1, 2, ...varint(inputs.length))];
    const body = Buffer.concat([Buffer.from(one), inputs, Buffer.from(one), inputs]);
    const whole = Buffer.concat([Buffer.from(field(7, 2, ...varint(body.length))), body]);
    await expect(read(new Uint8Array(whole))).rejects.toThrow('more than 500,000 nodes and names');
  });

  it('never fails in another way, whatever byte is changed or missing', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(13_000), fc.nat(255), fc.boolean(), async (at, value, cut) => {
        const changed = cut ? golden.bytes.slice(0, at) : golden.bytes.slice();
        if (!cut) changed[at] = value;
        try {
          await read(changed);
        } catch (error) {
          if (!(error instanceof ConvertBeitError)) throw error;
          expect(error).toBeInstanceOf(FormatError);
        }
      }),
      { numRuns: 400 },
    );
  });
});
