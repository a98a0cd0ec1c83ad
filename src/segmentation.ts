/**
 * What a segmentation model has besides the backbone's blocks: a small feature pyramid and mmsegmentation's two heads.
 */
type Put = (name: string, ...shape: number[]) => void;

/** What the heads of a segmentation model (mmsegmentation's UPerHead and FCNHead) have of their own. */
export interface SegmentationHeads {
  /** grid sizes of the pyramid pooling */
  readonly poolScales: readonly number[];
  /** width of the auxiliary head, 0 without one */
  readonly auxiliaryChannels: number;
  /**
   * Which blocks feed the pyramid, as configs say it. The official code takes the tokens *after* block i (from 0),
   * transformers those that *enter* block i - 1; absent where nothing tells and nothing is published for the depth.
   */
  readonly outIndices?: readonly number[];
}

/**
 * Tensors by canonical name, which is mmsegmentation's.
 *
 * @param E width of the backbone and of the decode head
 * @param K classes
 * @see unilm `beit/semantic_segmentation/backbone/beit.py`; mmsegmentation `decode_heads/uper_head.py`, `fcn_head.py`
 */
export function putSegmentation(put: Put, E: number, K: number, heads: SegmentationHeads): void {
  const { poolScales, auxiliaryChannels: A } = heads;
  const affine: Put = (name, ...shape) => {
    put(`${name}.weight`, ...shape);
    put(`${name}.bias`, shape[0]);
  };
  const batchNorm = (name: string, width: number): void => {
    affine(name, width);
    put(`${name}.running_mean`, width);
    put(`${name}.running_var`, width);
    put(`${name}.num_batches_tracked`);
  };
  const conv = (name: string, ...shape: number[]): void => {
    put(`${name}.conv.weight`, ...shape);
    batchNorm(`${name}.bn`, shape[0]);
  };
  affine('backbone.fpn1.0', E, E, 2, 2);
  batchNorm('backbone.fpn1.1', E);
  affine('backbone.fpn1.3', E, E, 2, 2);
  affine('backbone.fpn2.0', E, E, 2, 2);
  affine('decode_head.conv_seg', K, E, 1, 1);
  for (const scale of poolScales.keys()) conv(`decode_head.psp_modules.${scale}.1`, E, E, 1, 1);
  conv('decode_head.bottleneck', E, (poolScales.length + 1) * E, 3, 3);
  for (let level = 0; level < 3; level++) conv(`decode_head.lateral_convs.${level}`, E, E, 1, 1);
  for (let level = 0; level < 3; level++) conv(`decode_head.fpn_convs.${level}`, E, E, 3, 3);
  conv('decode_head.fpn_bottleneck', E, 4 * E, 3, 3);
  if (A === 0) return;
  affine('auxiliary_head.conv_seg', K, A, 1, 1);
  conv('auxiliary_head.convs.0', A, E, 3, 3);
}

/** What a BatchNorm counted while it was trained: part of the file, no parameter. */
export function isStatistic(canonical: string): boolean {
  return /\.(running_mean|running_var|num_batches_tracked)$/.test(canonical);
}
