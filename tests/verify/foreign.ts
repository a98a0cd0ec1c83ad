/** ONNX files that other tools made, see scripts/crosscheck/foreign-fixtures.py. */
import { readFileSync, writeFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { readPack } from '../support/pack.js';

export interface Foreign {
  readonly file: string;
  readonly golden: string;
  readonly what: string;
  /** as the file states it */
  readonly by?: string;
  /** attention is one node */
  readonly closed?: true;
}

const OPTIMISER = 'onnxruntime.transformers 1.30.0';

/** Classifiers. */
export const FOREIGN = [
  { file: 'timm', golden: 'v1_cls', what: 'timm, TorchScript exporter, opset 17' },
  {
    file: 'timm-fused-opset14',
    golden: 'v1_cls_pool',
    what: 'timm, fused attention, opset 14, one image per run',
  },
  { file: 'timm-dynamo', golden: 'v1_abs_pos', what: "timm, torch's new exporter" },
  { file: 'timm-dynamo-opset20', golden: 'v1_cls_pool', what: "timm, torch's new exporter, opset 20" },
  {
    file: 'timm-dynamo-opset23',
    golden: 'v1_cls_pool',
    what: "timm, torch's new exporter, opset 23: Attention as an operator",
    closed: true,
  },
  { file: 'transformers', golden: 'v1_shared_rel', what: 'transformers, TorchScript exporter' },
  { file: 'transformers-dynamo', golden: 'v1_cls', what: "transformers, torch's new exporter" },
  {
    file: 'transformers-dynamo-opset20',
    golden: 'v1_cls_pool',
    what: "transformers, torch's new exporter, opset 20",
  },
  {
    file: 'transformers-dynamo-opset23',
    golden: 'v1_cls_pool',
    what: "transformers, torch's new exporter, opset 23: Attention as an operator",
    closed: true,
  },
  {
    file: 'ort-timm',
    golden: 'v1_cls_pool',
    what: "timm through onnxruntime's optimiser: SkipLayerNormalization, BiasGelu",
    by: OPTIMISER,
  },
  {
    file: 'ort-transformers-dynamo',
    golden: 'v1_cls_pool',
    what: "transformers through onnxruntime's optimiser: BiasGelu",
    by: OPTIMISER,
  },
  {
    file: 'ort-attention',
    golden: 'v1_cls_pool',
    what: 'the same with com.microsoft.Attention and MultiHeadAttention',
    by: OPTIMISER,
    closed: true,
  },
  {
    file: 'ort-session',
    golden: 'v1_cls_pool',
    what: 'as a session of onnxruntime saves it: FusedMatMul, com.microsoft.Gelu, Gemm',
  },
] as const satisfies readonly Foreign[];

let exports: ReadonlyMap<string, Buffer> | undefined;

export function unpackForeign(file: string, to: string): void {
  const folder = new URL('../../fixtures/foreign/', import.meta.url);
  exports ??= readPack(new URL('exports.br', folder));
  const name = `${file}.onnx`;
  writeFileSync(to, exports.get(name) ?? gunzipSync(readFileSync(new URL(`${name}.gz`, folder))));
}
