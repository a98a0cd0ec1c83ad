import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { memorySource, type ByteSource } from '../../src/bytes.js';
import { readConfigFile } from '../../src/convert/config-file.js';
import { parseJson, type Json } from '../../src/convert/json.js';
import { applyLayout, invertLayout } from '../../src/convert/layout.js';
import { LAYOUTS } from '../../src/convert/layouts/index.js';
import { loadModel } from '../../src/convert/load.js';
import { openSource } from '../../src/convert/open.js';
import { inventory } from '../../src/beit.js';
import { ConvertBeitError, FormatError } from '../../src/errors.js';
import { byteLength, memoryTensor, readBytes } from '../../src/tensor.js';
import { TINY, safetensorsBytes, withLength } from './recipe.js';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const FILE = safetensorsBytes(TINY, { format: 'pt' });
const HEADER_BYTES = Number(FILE.readBigUInt64LE(0));
const HEADER = FILE.toString('latin1', 8, 8 + HEADER_BYTES);
const DATA = FILE.subarray(8 + HEADER_BYTES);

/** Refuses reads outside of the file and counts what is read: a lie may cost no more than the file has. */
function countingSource(bytes: Uint8Array): ByteSource & { readonly bytesRead: () => number } {
  const inner = memorySource('model.safetensors', bytes);
  let total = 0;
  return {
    ...inner,
    bytesRead: () => total,
    async read(start, end) {
      total += end - start;
      return inner.read(start, end);
    },
  };
}

/** Loads, and every tensor lies inside of the file, apart from the others; or one of our own errors. */
async function opensOrRefuses(bytes: Uint8Array): Promise<'opened' | 'refused'> {
  const source = countingSource(bytes);
  try {
    const { tensors } = await openSource(source, () => Promise.reject(new FormatError('no siblings here')));
    const ranges = [...tensors.values()].map((tensor) => {
      const { start, end } = tensor.stored!;
      expect(end - start).toBe(byteLength(tensor));
      return [start, end] as const;
    });
    let at = 8 + Number(Buffer.from(bytes).readBigUInt64LE(0));
    for (const [start, end] of ranges.sort((a, b) => a[0] - b[0] || a[1] - b[1])) {
      expect(start).toBe(at);
      at = end;
    }
    expect(at).toBe(bytes.length);
    return 'opened';
  } catch (error) {
    if (!(error instanceof ConvertBeitError)) throw error;
    expect(error.exitCode).toBe(3);
    expect(error.message.length).toBeLessThan(2000);
    return 'refused';
  } finally {
    expect(source.bytesRead()).toBeLessThanOrEqual(bytes.length + 4096 + 8);
  }
}

const RUNS = { numRuns: 400 };

describe('a mutated safetensors file opens correctly or is refused with our own error', () => {
  it('unchanged, it opens', async () => {
    expect(await opensOrRefuses(FILE)).toBe('opened');
  });

  it('bytes overwritten anywhere in length and header', async () => {
    const mutation = fc.tuple(fc.nat(8 + HEADER_BYTES - 1), fc.integer({ min: 0, max: 255 }));
    await fc.assert(
      fc.asyncProperty(fc.array(mutation, { minLength: 1, maxLength: 8 }), async (mutations) => {
        const bytes = Buffer.from(FILE);
        for (const [at, value] of mutations) bytes[at] = value;
        await opensOrRefuses(bytes);
      }),
      RUNS,
    );
  });

  it('any header length', async () => {
    await fc.assert(
      fc.asyncProperty(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), async (length) => {
        fc.pre(length !== BigInt(HEADER_BYTES));
        expect(await opensOrRefuses(withLength(Buffer.from(HEADER), DATA, length))).toBe('refused');
      }),
      RUNS,
    );
  });

  it('cut anywhere, or longer', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(FILE.length - 1), fc.integer({ min: 1, max: 64 }), async (length, more) => {
        expect(await opensOrRefuses(FILE.subarray(0, length))).toBe('refused');
        expect(await opensOrRefuses(Buffer.concat([FILE, Buffer.alloc(more)]))).toBe('refused');
      }),
      RUNS,
    );
  });

  it('numbers of the header replaced', async () => {
    const numbers = [...HEADER.matchAll(/\d+/g)];
    const value = fc.oneof(
      fc.nat(5000).map(String),
      fc.constantFrom(
        '-1',
        '1e3',
        '0.5',
        '01',
        '9007199254740991',
        '9007199254740992',
        '18446744073709551616',
        'null',
      ),
    );
    await fc.assert(
      fc.asyncProperty(fc.nat(numbers.length - 1), value, async (which, text) => {
        const { index, 0: old } = numbers[which];
        const header = HEADER.slice(0, index) + text + HEADER.slice(index + old.length);
        await opensOrRefuses(withLength(Buffer.from(header), DATA));
      }),
      RUNS,
    );
  });

  it('strings of the header replaced by hostile ones', async () => {
    const strings = [...HEADER.matchAll(/"[^"]*"/g)];
    const value = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 40 }),
      fc.constantFrom(
        '__proto__',
        'constructor',
        '__metadata__',
        'toString',
        'F32',
        'I64',
        'dtype',
        'shape',
        '',
      ),
    );
    await fc.assert(
      fc.asyncProperty(fc.nat(strings.length - 1), value, async (which, text) => {
        const { index, 0: old } = strings[which];
        const header = HEADER.slice(0, index) + JSON.stringify(text) + HEADER.slice(index + old.length);
        await opensOrRefuses(withLength(Buffer.from(header), DATA));
      }),
      RUNS,
    );
  });

  it('any JSON as a header', async () => {
    await fc.assert(
      fc.asyncProperty(fc.json({ noUnicodeString: false }), fc.nat(64), async (json, data) => {
        await opensOrRefuses(withLength(Buffer.from(json), Buffer.alloc(data)));
      }),
      RUNS,
    );
  });

  it('any bytes at all', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 600 }), async (bytes) => {
        await opensOrRefuses(bytes);
      }),
      RUNS,
    );
  });
});

describe('whole models', () => {
  let folder: string | undefined;
  const withFile = async (bytes: Uint8Array, work: (path: string) => Promise<void>): Promise<void> => {
    folder ??= mkdtempSync(join(tmpdir(), 'convert-beit-test-'));
    const path = join(folder, 'model.safetensors');
    writeFileSync(path, bytes);
    await work(path);
  };

  it('tensors dropped, renamed or reshaped: a complete model, or our own error', async () => {
    const names = [...TINY.keys()];
    const edit = fc.tuple(
      fc.constantFrom(...names),
      fc.oneof(
        fc.constant({ kind: 'drop' } as const),
        fc
          .constantFrom(...names, '__proto__', 'blocks.00.norm1.bias')
          .map((to) => ({ kind: 'rename', to }) as const),
        fc.array(fc.nat(6), { maxLength: 4 }).map((shape) => ({ kind: 'shape', shape }) as const),
      ),
    );
    try {
      await fc.assert(
        fc.asyncProperty(fc.array(edit, { minLength: 1, maxLength: 4 }), async (edits) => {
          const tensors = new Map(TINY);
          for (const [name, change] of edits) {
            const tensor = tensors.get(name);
            if (!tensor) continue;
            tensors.delete(name);
            if (change.kind === 'rename') tensors.set(change.to, tensor);
            if (change.kind === 'shape') tensors.set(name, { shape: change.shape });
          }
          await withFile(safetensorsBytes(tensors), async (path) => {
            try {
              const model = await loadModel(path);
              const expected = inventory(model.config);
              expect([...model.tensors].map(([key, { shape }]) => [key, shape])).toEqual([...expected]);
              await model.close();
            } catch (error) {
              expect(error).toBeInstanceOf(ConvertBeitError);
            }
          });
        }),
        { numRuns: 250 },
      );
    } finally {
      if (folder) rmSync(folder, { recursive: true });
      folder = undefined;
    }
  });

  it('any JSON as a config: hints, or our own error', async () => {
    const known = [
      'image_size',
      'num_labels',
      'id2label',
      'layer_norm_eps',
      'architecture',
      'pretrained_cfg',
      '__proto__',
    ];
    const config = fc.dictionary(fc.constantFrom(...known, 'model_type', 'x'), fc.jsonValue());
    try {
      await fc.assert(
        fc.asyncProperty(
          fc.oneof(
            config.map((value) => JSON.stringify(value)),
            fc.json(),
            fc.string(),
          ),
          async (text) => {
            await withFile(Buffer.from(text), async (path) => {
              const result: unknown = await readConfigFile(path).catch((error: unknown) => error);
              if (result instanceof Error) expect(result).toBeInstanceOf(ConvertBeitError);
            });
          },
        ),
        { numRuns: 250 },
      );
    } finally {
      if (folder) rmSync(folder, { recursive: true });
      folder = undefined;
    }
  });
});

describe('the JSON reader', () => {
  const plain = (value: Json): unknown =>
    value instanceof Map
      ? Object.fromEntries([...value].map(([key, item]) => [key, plain(item)]))
      : Array.isArray(value)
        ? value.map(plain)
        : value;

  it('agrees with JSON.parse on every document', () => {
    fc.assert(
      fc.property(fc.json({ noUnicodeString: false }), fc.constantFrom('', ' ', '\n\t'), (text, space) => {
        const expected: unknown = JSON.parse(text);
        let ours: unknown;
        try {
          ours = plain(parseJson(space + text + space, { subject: 'x' }));
        } catch (error) {
          // stricter on purpose: no half surrogate pairs
          expect(error).toBeInstanceOf(FormatError);
          expect(text).toMatch(/\\ud[89a-f]/i);
          return;
        }
        expect(JSON.stringify(ours)).toBe(JSON.stringify(expected));
      }),
      { numRuns: 500 },
    );
  });

  it('refuses whatever JSON.parse refuses', () => {
    fc.assert(
      fc.property(
        fc.json(),
        fc.nat(),
        fc.constantFrom('', ',', '"', '{', ']', '\\', '0', 'e', '\u0000'),
        (text, at, insert) => {
          const cut = at % (text.length + 1);
          const mutated = text.slice(0, cut) + insert + text.slice(cut + 1);
          let valid = true;
          try {
            JSON.parse(mutated);
          } catch {
            valid = false;
          }
          if (!valid) expect(() => parseJson(mutated, { subject: 'x' })).toThrow(FormatError);
        },
      ),
      { numRuns: 1000 },
    );
  });
});

const TABLES = LAYOUTS.flatMap((layout) =>
  layout.tables.map((table, i) => [`${layout.name} ${i + 1}`, layout, table] as const),
);

describe.each(TABLES)('table %s', (_, layout, table) => {
  const tensor = memoryTensor('U8', [1], Uint8Array.of(1));

  it('no two rules share a name, on either side', () => {
    for (const side of ['source', 'canonical'] as const) {
      const names = table.rules.flatMap((rule) => rule[side]);
      expect(new Set(names).size).toBe(names.length);
    }
  });

  it('what is read forward is written back, for any layer number', () => {
    fc.assert(
      fc.property(fc.nat(999_999), (layer) => {
        const source = new Map(
          table.rules.flatMap((rule) =>
            rule.source.map((name) => [name.replace('{layer}', String(layer)), tensor]),
          ),
        );
        const applied = applyLayout(layout, source);
        expect(applied.table).toBe(table);
        const canonical = new Map(applied.tensors);
        for (const [name, from] of applied.bufferNames) canonical.set(name, applied.buffers.get(from)!);
        expect([...invertLayout(layout, canonical, table).keys()].sort()).toEqual([...source.keys()].sort());
      }),
      { numRuns: 50 },
    );
  });

  it('tensors keep their bytes', async () => {
    const name = table.rules[0].source[0];
    const applied = applyLayout(layout, new Map([[`module.${name}`, tensor]]));
    expect(applied.prefix).toBe('module.');
    expect(await readBytes(applied.tensors.get('backbone.cls_token')!)).toEqual(Uint8Array.of(1));
  });
});
