import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { BeitModel } from '../../src/model.js';
import type { ProgressEvent } from '../../src/progress.js';
import { bytesOf, memoryTensor, toFloat32, type StateDict, type Tensor } from '../../src/tensor.js';
import { checkProvenance } from '../../src/verify/checks/provenance.js';
import { openOnnxFile } from '../../src/verify/onnx-file.js';
import { editOnnx, only, type OnnxEditor } from '../support/onnx-edit.js';
import { Exports } from './exported.js';

const exports = new Exports();
const folder = mkdtempSync(join(tmpdir(), 'convert-beit-checks-'));
let path: string;
let model: BeitModel;

beforeAll(async () => {
  ({ path, model } = await exports.export('v1_cls'));
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

describe('provenance', () => {
  const NAME = 'backbone.layers.1.ffn.layers.0.0.weight';
  const compare = async (of: BeitModel, edit: (file: OnnxEditor) => void = () => undefined) => {
    const file = await openOnnxFile(edited(edit));
    try {
      return await checkProvenance(file, of, { label: 'x' });
    } finally {
      await file.close();
    }
  };
  const withTensor = (name: string, tensor: Tensor): BeitModel => {
    const tensors: StateDict = new Map([...model.tensors, [name, tensor]]);
    return { ...model, tensors };
  };

  it.each<[string, (values: Float32Array) => void, string]>([
    [
      'the sign of a zero',
      (values) => {
        values.fill(0);
        values[0] = -0;
      },
      'all zero in the file',
    ],
    ['NaN', (values) => (values[5] = Number.NaN), 'element [0, 5] is NaN, '],
    ['the last element', (values) => (values[values.length - 1] = 7), 'element [127, 31] is 7, '],
    [
      'two elements',
      (values) => {
        values[1] = 9;
        values[40] = 9;
      },
      'element [0, 1] is 9, ',
    ],
  ])('%s', async (_, change, finding) => {
    const check = await compare(model, (file) => {
      const values = file.floats(NAME);
      change(values);
      file.setFloats(NAME, values);
    });
    expect(check.passed).toBe(false);
    expect(check.detail).toBe(`1 of 55 tensors differ from the source: ${NAME}`);
    expect(only(check.findings, 'finding')).toContain(finding);
  });

  it('says what the tensor is when it is no float32', async () => {
    const check = await compare(model, (file) => (file.initializer(NAME).dataType = 6));
    expect(check.findings).toEqual([`${NAME} is i32[128, 32] in the file; the source gives f32[128, 32]`]);
  });

  it('tells 0 from -0', async () => {
    const zeros = new Float32Array(32);
    const source = withTensor('backbone.ln2.bias', memoryTensor('F32', [32], bytesOf(zeros)));
    const check = await compare(source, (file) =>
      file.setFloats(
        'backbone.ln2.bias',
        zeros.map((_, i) => (i === 3 ? -0 : 0)),
      ),
    );
    expect(check.findings.join()).toContain('element [3] is -0, 0 in the source');
  });

  it.each(['F16', 'BF16', 'F64'] as const)('compares with what %s widens to', async (dtype) => {
    const width = { F16: 2, BF16: 2, F64: 8 }[dtype];
    const bytes =
      dtype === 'F64'
        ? bytesOf(Float64Array.from({ length: 32 }, (_, i) => i / 7))
        : Uint8Array.from({ length: 32 * width }, (_, i) => (i % 2 === 0 ? 37 * i : 0x3c));
    const source = withTensor('backbone.ln2.bias', memoryTensor(dtype, [32], bytes));
    const widened = toFloat32(dtype, bytes);
    const same = await compare(source, (file) => file.setFloats('backbone.ln2.bias', widened));
    expect(same).toMatchObject({ passed: true, findings: [] });
    expect(same.detail).toContain('(1 widened to float32)');
    const other = widened.slice();
    new Uint32Array(other.buffer)[9] ^= 1;
    const differs = await compare(source, (file) => file.setFloats('backbone.ln2.bias', other));
    expect(differs.findings.join()).toContain('backbone.ln2.bias: element [9] is');
  });

  it('is happy with the written file, and says how far it is', async () => {
    const file = await openOnnxFile(path);
    const events: ProgressEvent[] = [];
    const check = await checkProvenance(file, model, {
      label: 'm.onnx',
      onProgress: (event) => events.push(event),
    });
    await file.close();
    expect(check).toMatchObject({ passed: true, detail: "55 tensors, 171.8 kB: the source's own bytes" });
    expect(events[0]).toMatchObject({ phase: 'compare', done: 0, unit: 'bytes' });
    expect(events.at(-1)!.done).toBe(events[0].total);
  });
});
