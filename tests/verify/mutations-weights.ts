/** Ways to get a BEiT file's weights wrong; what every mistake in a file looks like. */
import type { BeitConfig } from '../../src/beit.js';
import type { OnnxEditor } from '../support/onnx-edit.js';

export type CheckName = 'structure' | 'inventory' | 'provenance' | 'logits';

export interface Mutation {
  readonly what: string;
  readonly cases: readonly string[];
  readonly edit: (file: OnnxEditor, config: BeitConfig) => void;
  /** exactly the checks that fail */
  readonly caughtBy: readonly CheckName[];
  /** part of a finding */
  readonly finding: string;
}

const table = (layer: number): string => `backbone.layers.${layer}.attn.relative_position_bias_table`;
export const weight = (name: string): string => `backbone.layers.1.${name}`;

/** Change an initializer's numbers. */
function floats(name: string, change: (values: Float32Array) => void): (file: OnnxEditor) => void {
  return (file) => {
    const values = file.floats(name);
    change(values);
    file.setFloats(name, values);
  };
}

function swapFloats(one: string, other: string): (file: OnnxEditor) => void {
  return (file) => {
    const [a, b] = [file.floats(one), file.floats(other)];
    file.setFloats(one, b);
    file.setFloats(other, a);
  };
}

function transposed(values: Float32Array, rows: number, columns: number): Float32Array {
  const out = new Float32Array(values.length);
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++) out[c * rows + r] = values[r * columns + c];
  return out;
}

/** The weights are altered: their bytes tell, and so do the logits. */
export const WEIGHTS: readonly Mutation[] = [
  {
    what: 'one position table is zero',
    cases: ['v1_cls', 'v2_cls', 'v1_nonsquare', 'v1_cls_pool', 'v1_abs_and_rel'],
    edit: (file) => floats(table(0), (values) => values.fill(0))(file),
    caughtBy: ['provenance', 'logits'],
    finding: 'layers.0.attn.relative_position_bias_table: all zero in the file',
  },
  {
    what: 'the shared position table is zero',
    cases: ['v1_shared_rel'],
    edit: floats('backbone.rel_pos_bias.relative_position_bias_table', (values) => values.fill(0)),
    caughtBy: ['provenance', 'logits'],
    finding: 'backbone.rel_pos_bias.relative_position_bias_table: all zero in the file',
  },
  {
    what: 'pos_embed is zero',
    cases: ['v1_abs_pos'],
    edit: floats('backbone.pos_embed', (values) => values.fill(0)),
    caughtBy: ['provenance', 'logits'],
    finding: 'backbone.pos_embed: all zero in the file',
  },
  {
    what: 'the position tables of two layers are swapped',
    cases: ['v1_cls', 'v1_stress'],
    edit: swapFloats(table(0), table(1)),
    caughtBy: ['provenance', 'logits'],
    finding: `${table(0)}: holds ${table(1)} in the file`,
  },
  {
    what: 'rows of q and k are swapped',
    cases: ['v1_cls', 'v2_no_qkv_bias'],
    edit: floats(weight('attn.qkv.weight'), (values) => {
      const third = values.length / 3;
      const q = values.slice(0, third);
      values.copyWithin(0, third, 2 * third);
      values.set(q, third);
    }),
    caughtBy: ['provenance', 'logits'],
    finding: 'its rows are k | q | v in the file instead of q | k | v',
  },
  {
    what: 'proj is transposed',
    cases: ['v1_cls', 'v2_cls'],
    edit: (file, { hiddenSize: E }) => {
      const name = weight('attn.proj.weight');
      file.setFloats(name, transposed(file.floats(name), E, E));
    },
    caughtBy: ['provenance', 'logits'],
    finding: 'transposed in the file',
  },
  {
    what: 'gamma_1 and gamma_2 are swapped',
    cases: ['v1_cls', 'v1_abs_pos'],
    edit: swapFloats(weight('gamma_1'), weight('gamma_2')),
    caughtBy: ['provenance', 'logits'],
    finding: 'holds backbone.layers.1.gamma_2 in the file',
  },
  {
    what: 'q_bias and v_bias are swapped',
    cases: ['v1_cls'],
    edit: swapFloats(weight('attn.q_bias'), weight('attn.v_bias')),
    caughtBy: ['provenance', 'logits'],
    finding: 'holds backbone.layers.1.attn.v_bias in the file',
  },
  {
    what: 'one element differs by 1 ulp',
    cases: ['v1_cls'],
    edit: floats(weight('ffn.layers.0.0.weight'), (values) => {
      const bits = new Uint32Array(values.buffer);
      bits[100] += 1;
    }),
    caughtBy: ['provenance'],
    finding: 'backbone.layers.1.ffn.layers.0.0.weight: element [3, 4] is',
  },
];
