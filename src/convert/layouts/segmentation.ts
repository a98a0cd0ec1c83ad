/**
 * The feature pyramid and the two heads of a segmentation model. Canonical names are mmsegmentation's.
 *
 * @see unilm `beit/semantic_segmentation/backbone/beit.py` (fpn1, fpn2); mmsegmentation `decode_heads/uper_head.py`,
 *   `fcn_head.py`; transformers `models/beit/modeling_beit.py` `BeitUperHead`, `BeitFCNHead`
 */
import { weight, type Rule } from '../layout-table.js';
import { affine, batchNorm } from './rows.js';

/** A convolution without bias and its BatchNorm. */
function convModule(name: string): Rule[] {
  return [weight(`${name}.conv.weight`, `${name}.conv.weight`), ...batchNorm(`${name}.bn`, `${name}.bn`)];
}

/**
 * @param names `fpn`: before `fpn1`, `fpn2`; `classifier`: the last convolution of each head
 */
export function segmentationHeads(names: { readonly fpn: string; readonly classifier: string }): Rule[] {
  const { fpn, classifier } = names;
  return [
    ...affine(`${fpn}fpn1.0`, 'backbone.fpn1.0'),
    ...batchNorm(`${fpn}fpn1.1`, 'backbone.fpn1.1'),
    ...affine(`${fpn}fpn1.3`, 'backbone.fpn1.3'),
    ...affine(`${fpn}fpn2.0`, 'backbone.fpn2.0'),
    ...affine(`decode_head.${classifier}`, 'decode_head.conv_seg'),
    ...convModule('decode_head.psp_modules.{layer}.1'),
    ...convModule('decode_head.bottleneck'),
    ...convModule('decode_head.lateral_convs.{layer}'),
    ...convModule('decode_head.fpn_convs.{layer}'),
    ...convModule('decode_head.fpn_bottleneck'),
    ...affine(`auxiliary_head.${classifier}`, 'auxiliary_head.conv_seg'),
    ...convModule('auxiliary_head.convs.{layer}'),
  ];
}
