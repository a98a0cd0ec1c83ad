/** Golden cases for every task besides classification: which file, which options, which of upstream's outputs. */
import type { ConfigHints } from '../../src/infer-config.js';
import type { OutType, TaskOptions } from '../../src/task.js';

export interface TaskCase {
  readonly name: string;
  readonly folder: string;
  readonly file: string;
  readonly hints?: ConfigHints;
  readonly task: TaskOptions;
  /** tensors of `io.safetensors`, in the order of the graph's outputs */
  readonly expected: readonly string[];
  readonly names: readonly string[];
}

const SMALL = { heads: 4, imageSize: [32, 32] } as const;

const OUT_TYPE_CASES = (['raw', 'cls_token', 'featmap', 'avg_featmap'] as const).flatMap(
  (type: OutType): TaskCase[] => [
    {
      name: `mmpretrain ${type}, two blocks, final norm`,
      folder: 'mm_out_types',
      file: 'mmpretrain',
      task: { outTypes: [type], outIndices: [0, -1], finalNorm: true },
      expected: [`${type}.final_norm.0`, `${type}.final_norm.1`],
      names: {
        raw: ['hidden_state_0', 'last_hidden_state'],
        cls_token: ['cls_token_0', 'pooler_output'],
        featmap: ['featmap_0', 'featmap'],
        avg_featmap: ['avg_featmap_0', 'pooler_output'],
      }[type],
    },
    {
      name: `mmpretrain ${type}, no final norm`,
      folder: 'mm_out_types',
      file: 'mmpretrain',
      task: { outTypes: [type], finalNorm: false },
      expected: [`${type}.0`],
      names: [
        {
          raw: 'last_hidden_state',
          cls_token: 'pooler_output',
          featmap: 'featmap',
          avg_featmap: 'pooler_output',
        }[type],
      ],
    },
  ],
);

export const TASK_CASES: readonly TaskCase[] = [
  ...['mim_v1', 'mim_v1_abs'].map((folder) => ({
    name: folder,
    folder,
    file: 'official',
    hints: folder === 'mim_v1_abs' ? SMALL : undefined,
    task: {},
    expected: ['logits_all_f64'],
    names: ['logits'],
  })),
  ...[
    ['mim_v2_cls_pt', 2],
    ['mim_v2_cls_pt_sep', 1],
  ].map(([folder, earlyLayer]) => ({
    name: String(folder),
    folder: String(folder),
    file: 'official',
    hints: { earlyLayer: Number(earlyLayer) },
    task: {},
    expected: ['logits_all_f64', 'logits_all_cls_pt_f64'],
    names: ['logits', 'logits_cls_pt'],
  })),
  {
    name: 'all hidden states of a classifier',
    folder: 'v1_cls',
    file: 'official',
    task: { task: 'features', outTypes: ['raw'], outIndices: [0, 1, 2] },
    expected: ['hidden.1', 'hidden.2', 'hidden.3'],
    names: ['hidden_state_0', 'hidden_state_1', 'last_hidden_state'],
  },
  {
    name: 'features of a classifier as clients look for them',
    folder: 'v1_cls',
    file: 'official',
    task: { task: 'features' },
    expected: ['hidden.3', 'features'],
    names: ['last_hidden_state', 'pooler_output'],
  },
  {
    name: 'the class token that a classifier looks at',
    folder: 'v1_cls_pool',
    file: 'official',
    task: { task: 'features', outTypes: ['cls_token'] },
    expected: ['features'],
    names: ['pooler_output'],
  },
  ...['v1_cls', 'v1_cls_pool', 'v1_shared_rel'].map((folder) => ({
    name: `${folder} without its head`,
    folder,
    file: 'official',
    task: { dropHead: true },
    expected: ['features'],
    names: ['pooler_output'],
  })),
  ...OUT_TYPE_CASES,
  ...(['raw', 'avg_featmap'] as const).map((type) => ({
    name: `no class token, ${type}`,
    folder: 'mm_no_cls_token',
    file: 'mmpretrain',
    hints: SMALL,
    task: { outTypes: [type] },
    expected: [`${type}.0`],
    names: [type === 'raw' ? 'last_hidden_state' : 'pooler_output'],
  })),
  {
    name: 'a bias of q, k and v',
    folder: 'mm_bias_true',
    file: 'mmpretrain',
    task: { outTypes: ['avg_featmap'] },
    expected: ['avg_featmap.0'],
    names: ['pooler_output'],
  },
  {
    name: 'a class token that is left out',
    folder: 'mm_drop_cls_token',
    file: 'mmpretrain',
    hints: { ...SMALL, classToken: false },
    task: { outTypes: ['avg_featmap'] },
    expected: ['without_cls'],
    names: ['pooler_output'],
  },
  {
    name: 'the same class token kept',
    folder: 'mm_drop_cls_token',
    file: 'mmpretrain',
    hints: SMALL,
    task: { outTypes: ['avg_featmap'] },
    expected: ['with_cls'],
    names: ['pooler_output'],
  },
  {
    name: 'an image that is padded to whole patches',
    folder: 'mm_corner_pad',
    file: 'mmpretrain',
    hints: { imageSize: [30, 31] },
    task: { outTypes: ['avg_featmap', 'featmap'] },
    expected: ['avg_featmap.0', 'featmap.0'],
    names: ['pooler_output', 'featmap'],
  },
  {
    name: 'segmentation, features as unilm takes them',
    folder: 'segmentation',
    file: 'hf',
    hints: { layerNormEps: 1e-6 },
    task: { outIndices: [2, 3, 4, 5] },
    expected: ['unilm.logits_f64'],
    names: ['logits'],
  },
  {
    name: 'segmentation, features as transformers takes them',
    folder: 'segmentation',
    file: 'hf',
    task: { outIndices: [2, 3, 4, 5], featureTaps: 'transformers' },
    expected: ['transformers.logits_f64'],
    names: ['logits'],
  },
];
