/** ONNX files that other tools made, see scripts/crosscheck/foreign-fixtures.py. */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';

export const FOREIGN = [
  { file: 'timm', golden: 'v1_cls', what: 'timm, TorchScript exporter, opset 17' },
  {
    file: 'timm-fused-opset14',
    golden: 'v1_cls_pool',
    what: 'timm, fused attention, opset 14, one image per run',
  },
  { file: 'timm-dynamo', golden: 'v1_abs_pos', what: "timm, torch's new exporter" },
  { file: 'transformers', golden: 'v1_shared_rel', what: 'transformers, TorchScript exporter' },
  { file: 'transformers-dynamo', golden: 'v1_cls', what: "transformers, torch's new exporter" },
] as const;

export function unpackForeign(file: string, to: string): void {
  const packed = fileURLToPath(new URL(`../../fixtures/foreign/${file}.onnx.gz`, import.meta.url));
  writeFileSync(to, gunzipSync(readFileSync(packed)));
}
