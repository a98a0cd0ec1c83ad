import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { BeitConfig } from '../../src/beit.js';
import type { BeitModel } from '../../src/model.js';
import { checkInventory } from '../../src/verify/checks/inventory.js';
import { checkStructure } from '../../src/verify/checks/structure.js';
import { openOnnxFile } from '../../src/verify/onnx-file.js';
import { editOnnx, type OnnxEditor } from '../support/onnx-edit.js';
import { Exports } from './exported.js';

const exports = new Exports();
const folder = mkdtempSync(join(tmpdir(), 'convert-beit-checks-'));
let path: string;
let model: BeitModel;
let config: BeitConfig;

beforeAll(async () => {
  ({ path, model } = await exports.export('v1_cls'));
  config = model.config;
});
afterAll(async () => {
  await exports.close();
  rmSync(folder, { recursive: true });
});

let count = 0;
function edited(edit: (file: OnnxEditor) => void): string {
  count += 1;
  const to = join(folder, `${count}.onnx`);
  editOnnx(path, to, edit);
  return to;
}

type PortShape = { dimValue?: number; dimParam?: string }[];
const setShape = (file: OnnxEditor, port: 'input' | 'output', dim: PortShape): void => {
  file.model.graph![port]![0].type!.tensorType!.shape = { dim };
};

describe('structure', () => {
  const rows: [string, (file: OnnxEditor) => void, string, boolean][] = [
    [
      'opset 16',
      (file) => (file.model.opsetImport[0].version = 16),
      'opset 16 has no LayerNormalization; 17 is the first that has',
      true,
    ],
    [
      'old IR',
      (file) => (file.model.irVersion = 7),
      'IR version 7 is older than opset 17, which came with 8',
      true,
    ],
    [
      'IR of opset 21',
      (file) => (file.model.opsetImport[0].version = 21),
      'IR version 8 is older than opset 21, which came with 10',
      true,
    ],
    [
      'no opset',
      (file) => (file.model.opsetImport = []),
      'the file imports no version of the standard operators',
      true,
    ],
    [
      'another domain',
      (file) => file.model.opsetImport.push({ domain: 'com.microsoft', version: 1 }),
      'the file imports operators of com.microsoft; only standard ones are portable',
      true,
    ],
    [
      'a node of another domain',
      (file) => (file.ofType('Gemm')[0].domain = 'com.microsoft'),
      'nodes of other domains: com.microsoft.Gemm; only standard ones are portable',
      true,
    ],
    [
      'dropout',
      (file) => file.append({ opType: 'Dropout', input: ['logits'], output: ['x'] }),
      'operators that a classifier has no use for: Dropout',
      true,
    ],
    [
      'a subgraph',
      (file) =>
        file.append({
          opType: 'Abs',
          name: 'n',
          input: ['logits'],
          output: ['x'],
          attribute: [{ name: 'body', g: {} }],
        }),
      'nodes with subgraphs or other unusual attributes: n',
      true,
    ],
    [
      'sparse initializers',
      (file) => (file.model.graph!.sparseInitializer = [{}]),
      'the file has sparse initializers; a converted model has none',
      true,
    ],
    [
      'input name',
      (file) => {
        file.model.graph!.input![0].name = 'x';
        file.consumers('pixel_values').forEach((node) => file.replaceInput(node, 'pixel_values', 'x'));
      },
      'the graph has the inputs x; needed is one input pixel_values float32 [batch, 3, 32, 32]',
      false,
    ],
    [
      'two outputs',
      (file) => file.model.graph!.output!.push({ name: 'x' }),
      'the graph has the outputs logits, x; needed is one output logits float32 [batch, 10]',
      false,
    ],
    [
      'no input',
      (file) => (file.model.graph!.input = []),
      'the graph has the inputs (none); needed is',
      false,
    ],
    [
      'float16 input',
      (file) => (file.model.graph!.input![0].type!.tensorType!.elemType = 10),
      'input pixel_values has data type 10; needed is',
      false,
    ],
    [
      'fixed batch',
      (file) =>
        setShape(file, 'input', [{ dimValue: 1 }, { dimValue: 3 }, { dimValue: 32 }, { dimValue: 32 }]),
      'the batch is called "1" in the input, "batch" in the output',
      false,
    ],
    [
      'channels last',
      (file) =>
        setShape(file, 'input', [{ dimParam: 'batch' }, { dimValue: 32 }, { dimValue: 32 }, { dimValue: 3 }]),
      'input pixel_values has the shape [batch, 32, 32, 3]; needed is',
      false,
    ],
    [
      'symbolic classes',
      (file) => setShape(file, 'output', [{ dimParam: 'batch' }, { dimParam: 'classes' }]),
      'output logits has the shape [batch, classes]; needed is',
      false,
    ],
    [
      'two names for the batch',
      (file) => setShape(file, 'output', [{ dimParam: 'n' }, { dimValue: 10 }]),
      'the batch is called "batch" in the input, "n" in the output',
      false,
    ],
    [
      'no output shape',
      (file) => (file.model.graph!.output![0].type!.tensorType!.shape = undefined),
      'output logits has no shape; needed is',
      false,
    ],
    ['order', (file) => (file.nodes = [...file.nodes].reverse()), 'which nothing before it makes', true],
    [
      'unknown value',
      (file) => (file.ofType('Softmax')[0].input = ['nowhere']),
      'uses nowhere, which nothing before it makes',
      true,
    ],
    [
      'made twice',
      (file) => file.append({ opType: 'Abs', input: ['logits'], output: ['logits'] }),
      'logits is made twice, again by node logits',
      true,
    ],
    [
      'nobody makes the output',
      (file) => (file.producer('logits').output = ['other']),
      'nothing makes the output logits',
      true,
    ],
    [
      'an input that is an initializer',
      (file) => void file.addFloats('pixel_values', [1], new Float32Array(1)),
      'pixel_values is an input and an initializer',
      true,
    ],
    [
      'no epsilon at all',
      (file) => file.ofType('LayerNormalization').forEach((node) => (node.attribute = [])),
      'LayerNormalization has epsilon 0.00001 instead of 0.000001 in layers.0/ln1, layers.0/ln2, layers.1/ln1 and 4 more',
      true,
    ],
    [
      'one LayerNormalization less',
      (file) =>
        file.bypass(file.ofType('LayerNormalization')[2], file.ofType('LayerNormalization')[2].input![0]),
      '6 LayerNormalization nodes; this config needs 7',
      true,
    ],
    [
      'no GELU in one block',
      (file) => file.bypass(file.ofType('Erf')[0], file.ofType('Erf')[0].input![0]),
      '2 exact GELUs (Erf or Gelu nodes); 3 are needed',
      true,
    ],
    [
      'approximated Gelu',
      (file) => {
        const erf = file.ofType('Erf')[0];
        erf.opType = 'Gelu';
        erf.attribute = [{ name: 'approximate', type: 3, s: Buffer.from('tanh') }];
      },
      "BEiT's is the exact erf form",
      true,
    ],
  ];
  it.each(rows)('%s', async (_, edit, finding, usable) => {
    const file = await openOnnxFile(edited(edit));
    const result = checkStructure(file, config);
    await file.close();
    expect(result.check.passed).toBe(false);
    expect(result.check.findings.join('\n')).toContain(finding);
    expect(result.usable).toBe(usable);
  });

  it('accepts the Gelu operator in its exact form', async () => {
    const file = await openOnnxFile(
      edited((editor) => {
        editor.model.opsetImport[0].version = 20;
        editor.model.irVersion = 9;
        const [plain, said] = editor.ofType('Erf');
        plain.opType = 'Gelu';
        said.opType = 'Gelu';
        said.attribute = [{ name: 'approximate', type: 3, s: Buffer.from('none') }];
      }),
    );
    expect(checkStructure(file, config)).toMatchObject({
      usable: true,
      check: { passed: true, findings: [] },
    });
    await file.close();
  });
});

describe('inventory', () => {
  const INDEX = 'relative_position_index';
  const rows: [string, (file: OnnxEditor) => void, string][] = [
    [
      'shape',
      (file) => (file.initializer('head.fc.weight').dims = [32, 10]),
      'head.fc.weight has the shape [32, 10]; this config needs [10, 32]',
    ],
    [
      'another name',
      (file) => (file.initializer('backbone.cls_token').name = 'cls'),
      'backbone.cls_token is missing',
    ],
    [
      '65 elements',
      (file) => void file.addFloats('bias', [65], new Float32Array(65)),
      'bias f32[65] is no tensor of the source',
    ],
    [
      'a constant in a node',
      (file) =>
        file.append({
          opType: 'Constant',
          name: 'c',
          output: ['c'],
          attribute: [
            { name: 'value', type: 4, t: { dims: [300], dataType: 1, rawData: Buffer.alloc(1200) } },
          ],
        }),
      'nodes hold tensors of their own: c',
    ],
    [
      'no index',
      (file) => file.removeInitializer(INDEX),
      'relative_position_index is missing; the position tables are looked up with it',
    ],
    [
      'index of another size',
      (file) => {
        const index = file.initializer(INDEX);
        index.dims = [10, 10];
        index.rawData = new Uint8Array(400);
      },
      'relative_position_index is i32[10, 10]; this config needs i32 or i64 [65, 65]',
    ],
    [
      'float index',
      (file) => (file.initializer(INDEX).dataType = 1),
      'relative_position_index is f32[65, 65]; this config needs i32 or i64 [65, 65]',
    ],
    [
      'one entry',
      (file) => {
        const index = file.initializer(INDEX);
        index.rawData = index.rawData!.slice();
        new DataView(index.rawData.buffer).setInt32(4 * (65 + 2), 5, true);
      },
      'relative_position_index is not that of a window of 8×8 patches: [1, 2] is 5, not 111; 1 of 4225 entries differ',
    ],
  ];
  it.each(rows)('%s', async (_, edit, finding) => {
    const file = await openOnnxFile(edited(edit));
    const check = await checkInventory(file, config);
    await file.close();
    expect(check.passed).toBe(false);
    expect(check.findings.join('\n')).toContain(finding);
  });

  it.each<[string, (file: OnnxEditor) => void]>([
    ['64 elements more', (file) => void file.addFloats('constant', [64], new Float32Array(64))],
    [
      'a flat int64 index',
      (file) => {
        const index = file.initializer(INDEX);
        const wide = BigInt64Array.from(new Int32Array(index.rawData!.slice().buffer), BigInt);
        Object.assign(index, { dims: [65 * 65], dataType: 7, rawData: new Uint8Array(wide.buffer) });
      },
    ],
  ])('accepts %s', async (_, edit) => {
    const file = await openOnnxFile(edited(edit));
    expect(await checkInventory(file, config)).toMatchObject({ passed: true, findings: [] });
    await file.close();
  });
});
